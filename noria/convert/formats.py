"""The formats of models, told from their files: one table, for `noria convert` and for programs.

A format's code is imported when a model of it is read.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from noria.core.dims import Size, as_size, parse_dim, symbols_of
from noria.core.errors import ArgumentError, MissingError, ShapeError, nearest
from noria.ir.program import Program
from noria.ir.save import PROGRAM, ZIPPED
from noria.ir.save import load as load_saved

Loaded = tuple[Program, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Wishes:
    """What a user says about the model to be read.

    constants: inputs that are fixed, by name; shapes: of inputs, sizes may be names
    """

    constants: Mapping[str, np.ndarray] = field(default_factory=dict)
    shapes: Mapping[str, Sequence[Size | str]] = field(default_factory=dict)

    def sizes(self) -> dict[str, list[Any]]:
        """The shapes, names as symbolic sizes."""
        return {
            name: [parse_dim(n) if isinstance(n, str) else as_size(n) for n in shape]
            for name, shape in self.shapes.items()
        }


@dataclass(frozen=True)
class Format:
    """How models of a framework are recognised and read.

    files:  what it consists of, for help texts
    suits:  whether these files, given together, are such a model
    """

    about: str
    files: str
    suits: Callable[[Sequence[Path]], bool]
    load: Callable[[Sequence[Path], Wishes], Loaded]


def _module(name: str) -> Any:
    return importlib.import_module(f"noria.convert.{name}")


# ---- each framework ------------------------------------------------------------------------------


def _saved(paths: Sequence[Path], wishes: Wishes) -> Loaded:
    _need_nothing(wishes, "a saved Program", constants=True, shapes=True)
    return load_saved(paths[0])


def _onnx(paths: Sequence[Path], wishes: Wishes) -> Loaded:
    """Shapes fix the symbols that the model has for them."""
    load = _module("onnx").load
    constants = dict(wishes.constants)
    if not wishes.shapes:
        return load(paths[0], constants)
    program, _ = load(paths[0], constants)
    sizes: dict[str, int] = {}
    for name, shape in wishes.shapes.items():
        sizes |= _bound(program, name, shape)
    return load(paths[0], constants, sizes)


def _bound(program: Program, name: str, shape: Sequence[Size | str]) -> dict[str, int]:
    """The symbols of an input's shape that get numbers."""
    if name not in program.inputs:
        hint = nearest(name, program.inputs)
        raise MissingError(f"the model has no input '{name}'", hint=hint)
    value, found = program.inputs[name], {}
    if len(shape) != value.ndim:
        raise ShapeError(f"'{name}' has {value.ndim} axes", expected=str(value), got=str(shape))
    for size, wanted in zip(value.shape, shape, strict=True):
        names = symbols_of((size,))
        if isinstance(wanted, int) and len(names) == 1 and str(size) in names:
            found[str(size)] = wanted
        elif str(wanted) != str(size):
            raise ShapeError(
                f"an axis of '{name}' has its size", expected=str(value), got=str(wanted)
            )
    return found


def _fluid(paths: Sequence[Path], wishes: Wishes) -> Loaded:
    how = {"constants": dict(wishes.constants) or None, "shapes": wishes.sizes() or None}
    return _module("fluid").load(paths[0], **how)


def _caffe(paths: Sequence[Path], wishes: Wishes) -> Loaded:
    _need_nothing(wishes, "a Caffe network", constants=True)
    text = next(p for p in paths if p.suffix == ".prototxt")
    weights = next((p for p in paths if p.suffix == ".caffemodel"), None)
    return _module("caffe").load(text, weights, inputs=wishes.shapes)


def _caffe2(paths: Sequence[Path], wishes: Wishes) -> Loaded:
    init, predict = _nets(paths)
    shapes, constants = wishes.sizes() or None, dict(wishes.constants) or None
    return _module("caffe2.reader").load(init, predict, shapes, constants)


def _nets(paths: Sequence[Path]) -> tuple[Path, Path]:
    """(init net, predict net), from a folder or two files in any order."""
    files = sorted(paths[0].glob("*.pb*")) if paths[0].is_dir() else list(paths)
    init = [p for p in files if "init" in p.name]
    predict = [p for p in files if "init" not in p.name]
    if len(init) != 1 or len(predict) != 1:
        raise MissingError(
            "a Caffe2 model is two nets",
            where=str(paths[0]),
            expected="init_net.pb and predict_net.pb",
            got=", ".join(p.name for p in files),
        )
    return init[0], predict[0]


def _need_nothing(
    wishes: Wishes, what: str, *, constants: bool = False, shapes: bool = False
) -> None:
    for wanted, given, option in (
        (constants, wishes.constants, "constants"),
        (shapes, wishes.shapes, "shapes of inputs"),
    ):
        if wanted and given:
            raise ArgumentError(f"{what} takes no {option}", got=", ".join(given))


def _ends(*suffixes: str) -> Callable[[Sequence[Path]], bool]:
    return lambda paths: len(paths) == 1 and paths[0].suffix in suffixes


def _is_saved(paths: Sequence[Path]) -> bool:
    return len(paths) == 1 and (paths[0].suffix in ZIPPED or (paths[0] / PROGRAM).is_file())


def _is_fluid(paths: Sequence[Path]) -> bool:
    if len(paths) != 1:
        return False
    path = paths[0]
    folder = path.is_dir() and ((path / "__model__").is_file() or any(path.glob("*.pdmodel")))
    return folder or path.suffix == ".pdmodel" or path.name == "__model__"


def _is_caffe(paths: Sequence[Path]) -> bool:
    ends = sorted(p.suffix for p in paths)
    return ends in ([".prototxt"], [".caffemodel", ".prototxt"])


def _is_caffe2(paths: Sequence[Path]) -> bool:
    if len(paths) == 1 and paths[0].is_dir():
        return any(paths[0].glob("*init*.pb*"))
    return len(paths) == 2 and all(p.suffix in (".pb", ".pbtxt") for p in paths)


FORMATS: Mapping[str, Format] = {
    "noria": Format("a Program that noria saved", "MODEL.noria", _is_saved, _saved),
    "onnx": Format("ONNX", "MODEL.onnx", _ends(".onnx"), _onnx),
    "fluid": Format("Paddle and Fluid", "FOLDER, or MODEL.pdmodel", _is_fluid, _fluid),
    "caffe": Format("Caffe", "NET.prototxt NET.caffemodel", _is_caffe, _caffe),
    "caffe2": Format("Caffe2", "init_net.pb predict_net.pb", _is_caffe2, _caffe2),
}


def format_of(paths: Sequence[Path]) -> str:
    """The name of the format these files are of. Raises MissingError, ArgumentError."""
    for path in paths:
        if not path.exists():
            raise MissingError("no such file", where=str(path))
    for name, entry in FORMATS.items():
        if entry.suits(paths):
            return name
    raise ArgumentError(
        "of no known format",
        expected="; ".join(f.files for f in FORMATS.values()),
        got=" ".join(map(str, paths)),
    )


def read_model(
    paths: Sequence[Path], wishes: Wishes | None = None, *, kind: str | None = None
) -> Loaded:
    """(Program, state) of a model of any format; kind: its name, where files do not tell it.

    Raises what the format's own `load` does.
    """
    name = kind or format_of(paths)
    if name not in FORMATS:
        raise MissingError(f"no format is called '{name}'", hint=nearest(name, FORMATS))
    return FORMATS[name].load(paths, wishes or Wishes())
