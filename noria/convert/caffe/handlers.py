"""Layers of Caffe: who converts which, and what a converter is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.convert.handlers import Handlers
from noria.core.errors import FormatError, NoriaError
from noria.ir.emit import building
from noria.ir.program import Value

caffe_layer = Handlers("Caffe")
"""`@caffe_layer("ReLU") def relu(layer, x)` takes the bottoms and gives the top, or a tuple."""


class Layer:
    """One layer of a network.

    message: its LayerParameter; blobs: its arrays, as the weights file has them; arrays: the state
    that the converted layers have so far, by name
    """

    def __init__(
        self, message: Any, blobs: Sequence[np.ndarray], arrays: dict[str, np.ndarray]
    ) -> None:
        self.message, self.blobs, self.arrays = message, blobs, arrays
        self.name: str = message.name
        self.type: str = message.type
        self.tops: list[str] = list(message.top)

    def where(self) -> str:
        """For error messages."""
        return f"layer '{self.name}' ({self.type})"

    def param(self, name: str) -> Any:
        """Its parameters of a kind, with the format's defaults: `layer.param("pooling")`."""
        return getattr(self.message, f"{name}_param")

    def blob(self, index: int, what: str, shape: Sequence[int] | None = None) -> np.ndarray:
        """An array of the layer, in this shape. Raises FormatError where it is not there or has
        another number of elements: old files have shapes of four axes."""
        if index >= len(self.blobs):
            raise FormatError(
                f"the weights file has no {what} for this layer",
                where=self.where(),
                expected=f"{index + 1} arrays",
                got=str(len(self.blobs)),
            )
        array = self.blobs[index]
        if shape is None:
            return array
        if array.size != int(np.prod(shape, dtype=object)):
            raise FormatError(
                f"the {what} has another size than the layer",
                where=self.where(),
                expected=str(list(shape)),
                got=str(list(array.shape)),
            )
        return array.reshape(shape)

    def state(self, array: np.ndarray, name: str, *, trainable: bool = True) -> Value:
        """An array as state of the Program, `LAYER.NAME`."""
        full = f"{self.name}.{name}"
        array = np.ascontiguousarray(array, np.float32)
        value = building().state(full, array.shape, "float32", trainable=trainable)
        self.arrays[full] = array
        return value

    def weight(self, shape: Sequence[int]) -> Value:
        """Its first array, as state."""
        return self.state(self.blob(0, "weight", shape), "weight")

    def bias(self, count: int, wanted: bool, index: int = 1) -> Value | None:
        """Its second array, as state."""
        return self.state(self.blob(index, "bias", (count,)), "bias") if wanted else None

    def error(self, what: str, **parts: str) -> NoriaError:
        """Something that this layer has and noria cannot convert."""
        return FormatError(what, where=self.where(), **parts)


def known(size: Any, layer: Layer, what: str) -> int:
    """A size that must be a number."""
    if not isinstance(size, int):
        raise layer.error(f"the size of {what} must be known", got=str(size))
    return size


def axis_of(layer: Layer, axis: int, x: Value) -> int:
    """A non-negative axis of x. Raises FormatError."""
    if not -x.ndim <= axis < x.ndim:
        raise layer.error("an axis is out of range", got=f"axis {axis} of {list(x.shape)}")
    return axis % x.ndim
