"""From a Caffe network to a Program that does what the network does at test time."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from noria.convert.caffe import library
from noria.convert.caffe.handlers import Layer, caffe_layer
from noria.convert.caffe.network import layers_of, read_network, read_weights
from noria.core.dims import symbol
from noria.core.errors import FormatError, MissingError, NoriaError, nearest
from noria.core.trace import Source
from noria.ir.emit import Builder
from noria.ir.program import Program, Value, needed

_library = library  # importing it registers the layers

Path_ = str | os.PathLike[str]
SOURCES = {
    "Input", "Data", "MemoryData", "ImageData", "HDF5Data", "WindowData", "DummyData",
    "AnnotatedData", "Python",
}  # fmt: skip
"""Layers whose tops are what a user feeds."""
FOR_TRAINING = {"Accuracy", "Silence", "DetectionEvaluate", "HDF5Output"}


def load(
    prototxt: Path_,
    caffemodel: Path_ | None = None,
    *,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    batch: str | int | None = "N",
    stages: Collection[str] = (),
) -> tuple[Program, dict[str, np.ndarray]]:
    """(Program, its state) of a network and its weights.

    prototxt:   the network, best the one for deployment; caffemodel: its weights, None for a
                network that has none
    inputs:     shapes of inputs, where the network does not tell them (it reads a data base) or
                others are wanted; sizes may be names
    batch:      size of the first axis of all other inputs, a name or a number; None: as the
                network has it
    stages:     for layers that are there in some stages only
    Feeds are called as the network's inputs, outputs as the blobs that no layer takes. Losses and
    accuracies are left out. What data layers do to images (mean, scale) is not part of a network:
    do it to what is fed.

    Raises UnsupportedOperators, which tells all layers that are missing, FormatError for what is no
    such network or weights that do not fit it, MissingError for an input of unknown shape, OSError.
    """
    network = read_network(prototxt)
    layers = [m for m in layers_of(network, stages) if not _for_training(m)]
    caffe_layer.require(("", m.type, 1, m.name) for m in layers if m.type not in SOURCES)
    weights = {} if caffemodel is None else read_weights(caffemodel)
    return _Network(network, layers, weights, dict(inputs or {}), batch).program(str(prototxt))


def _for_training(layer: Any) -> bool:
    return layer.type in FOR_TRAINING or layer.type.endswith("Loss")


class _Network:
    """blobs: name -> Value, as layer after layer makes them; a layer may overwrite its bottom."""

    def __init__(
        self,
        network: Any,
        layers: list[Any],
        weights: dict[str, list[np.ndarray]],
        shapes: dict[str, Sequence[int | str]],
        batch: str | int | None,
    ) -> None:
        self.network, self.layers, self.weights = network, layers, weights
        self.shapes, self.batch = shapes, batch
        self.result = Program(name=network.name or "network")
        self.builder = Builder(self.result)
        self.blobs: dict[str, Value] = {}
        self.unused: dict[str, None] = {}  # blobs that no layer took, in order
        self.arrays: dict[str, np.ndarray] = {}

    def program(self, where: str) -> tuple[Program, dict[str, np.ndarray]]:
        try:
            with self.builder:
                self._old_inputs()
                for number, message in enumerate(self.layers):
                    place = f"{os.path.basename(where)}:{message.name or message.type}"
                    self.builder.source = Source(place, number, "")
                    self._layer(message)
                self.builder.source = None
        except NoriaError as error:
            raise error.at(where) from None
        if not self.unused:
            raise FormatError("the network computes nothing", where=where)
        if wrong := sorted(self.shapes.keys() - self.result.inputs.keys()):
            hint = nearest(wrong[0], self.result.inputs)
            raise MissingError(f"the network has no input '{wrong[0]}'", where=where, hint=hint)
        return self._finished(), self.arrays

    def _finished(self) -> Program:
        out = self.result
        out.outputs = {name: self.blobs[name] for name in self.unused}
        out.block.outputs = list(out.outputs.values())
        out.block.operators = needed(out.block, out.roots())
        used = {v for o in out.operators for v in o.operands} | set(out.outputs.values())
        out.state = {n: s for n, s in out.state.items() if s.value in used}
        self.arrays = {n: self.arrays[n] for n in out.state}
        return out

    # ---- inputs --------------------------------------------------------------------------------

    def _old_inputs(self) -> None:
        """`input: "data" input_dim: 1 ...`, or input_shape, in front of the layers."""
        names, dims = list(self.network.input), list(self.network.input_dim)
        shapes: list[Sequence[int]] = [tuple(s.dim) for s in self.network.input_shape]
        shapes = shapes or [dims[i : i + 4] for i in range(0, len(dims), 4)]
        for i, name in enumerate(names):
            self._input(name, shapes[i] if i < len(shapes) else None)

    def _source(self, message: Any) -> None:
        shapes: list[Sequence[int]] = [tuple(s.dim) for s in message.input_param.shape]
        if message.type == "MemoryData":
            p = message.memory_data_param
            shapes = [(p.batch_size, p.channels, p.height, p.width), (p.batch_size,)]
        for i, name in enumerate(message.top):
            one = len(shapes) == 1 and message.type == "Input"
            self._input(name, shapes[0 if one else i] if i < len(shapes) or one else None)

    def _input(self, name: str, shape: Sequence[int] | None) -> None:
        """An input; one of unknown shape is made when a layer takes it."""
        given = self.shapes.get(name)
        if given is None and shape is None:
            return
        sizes: list[Any] = list(given if given is not None else shape or ())
        if given is None and self.batch is not None and len(sizes) > 1:
            sizes[0] = self.batch
        if any(isinstance(n, int) and n < 0 for n in sizes):
            raise FormatError("a size is negative", where=f"input '{name}'", got=str(sizes))
        full = [symbol(n) if isinstance(n, str) else n for n in sizes]
        self.blobs[name] = self.builder.input(name, full)
        self.unused[name] = None

    # ---- layers --------------------------------------------------------------------------------

    def _layer(self, message: Any) -> None:
        if message.type in SOURCES:
            self._source(message)
            return
        layer = Layer(message, self.weights.get(message.name, ()), self.arrays)
        bottoms = [self._bottom(name, layer) for name in message.bottom]
        handler = caffe_layer.find(message.type)
        assert handler is not None, "required before"
        try:
            made = handler(layer, *bottoms)
        except NoriaError as error:
            raise error.at(layer.where()) from None
        except TypeError as error:
            if "positional argument" not in str(error):
                raise
            raise layer.error("another number of bottoms", got=str(len(bottoms))) from None
        tops = made if isinstance(made, tuple) else (made,) * len(message.top)
        if len(tops) != len(message.top):
            raise layer.error("another number of tops", expected=str(len(tops)))
        for name in message.bottom:
            self.unused.pop(name, None)
        for name, value in zip(message.top, tops, strict=True):
            self.blobs[name] = value
            self.unused[name] = None

    def _bottom(self, name: str, layer: Layer) -> Value:
        if name not in self.blobs:
            if any(m.type in SOURCES and name in m.top for m in self.layers):
                raise MissingError(
                    f"the network does not tell the shape of '{name}'",
                    where=layer.where(),
                    hint=f'inputs={{"{name}": ("N", 3, 224, 224)}}, or the network for deployment',
                )
            raise FormatError(
                f"no layer in front gives '{name}'",
                where=layer.where(),
                hint=nearest(name, self.blobs),
            )
        return self.blobs[name]
