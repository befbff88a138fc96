"""What a caller feeds: checked against the inputs of the Program, at every call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.dims import symbol, symbols_of
from noria.core.errors import ArgumentError, DTypeError, MissingError, NoriaError, nearest
from noria.core.shapes import solve_all
from noria.ir.program import Program, Value


class Feeds:
    """The inputs of one Program."""

    def __init__(self, program: Program) -> None:
        self.program = program.name
        self.inputs = list(program.block.inputs)
        self._wanted = [(v.name, dtypes.to_numpy(v.dtype)) for v in self.inputs]
        self._axes = [_axes(v) for v in self.inputs]

    def arrays(self, feeds: Mapping[str, Any]) -> list[np.ndarray]:
        """The feeds as arrays in the order of the inputs.

        Raises MissingError for a missing or unknown name, DTypeError for another dtype,
        ArgumentError for what is no mapping. Shapes are looked at when they are new, by `sizes`.
        """
        if type(feeds) is not dict and not isinstance(feeds, Mapping):
            raise self._no_mapping(feeds)
        out = []
        for name, dtype in self._wanted:
            a = feeds.get(name)
            if type(a) is not np.ndarray:
                a = self._array(name, a, feeds)
            if a.dtype is not dtype and a.dtype != dtype:
                raise self._wrong_dtype(name, a)
            out.append(a)
        if len(feeds) != len(out):
            raise self._unknown(feeds)
        return out

    def sizes(self, arrays: Sequence[np.ndarray]) -> dict[str, int]:
        """Symbol -> number. Raises ShapeError if an array does not have the declared shape."""
        return self._plain_sizes(arrays) or self._solved(arrays)

    def _plain_sizes(self, arrays: Sequence[np.ndarray]) -> dict[str, int]:
        """The same where every axis is a number, or a symbol plus a number; nothing else, nor
        where something is wrong."""
        found: dict[str, int] = {}
        for axes, array in zip(self._axes, arrays, strict=True):
            shape = array.shape
            if axes is None or len(axes) != len(shape):
                return {}
            for (name, constant), real in zip(axes, shape, strict=True):
                n = real - constant
                if n != (found.setdefault(name, n) if name else 0) or n < 0:
                    return {}
        return found

    def _solved(self, arrays: Sequence[np.ndarray]) -> dict[str, int]:
        pairs = {v.name: (v.shape, a.shape) for v, a in zip(self.inputs, arrays, strict=True)}
        try:
            return solve_all(pairs)
        except NoriaError as error:
            error.where = f"feed '{error.where}' of Program '{self.program}'"
            error.hint = error.hint or f"the inputs are {self._told()}"
            raise

    # ---- what is wrong -------------------------------------------------------------------------

    def _no_mapping(self, given: Any) -> NoriaError:
        name = self.inputs[0].name if self.inputs else "name"
        return ArgumentError(
            "feeds are given by name",
            where=self._where(),
            expected=self._told(),
            got=type(given).__name__,
            hint=f"{{'{name}': array}}",
        )

    def _array(self, name: str, given: Any, feeds: Mapping[str, Any]) -> np.ndarray:
        if given is None:
            raise MissingError(
                f"the feed '{name}' is missing",
                where=self._where(),
                expected=self._told(),
                got=", ".join(map(str, feeds)) or "no feeds",
                hint=f"run({{'{name}': array, ...}})",
            )
        try:
            return np.asarray(given)
        except (ValueError, TypeError) as error:
            raise DTypeError(
                f"the feed '{name}' is not an array",
                where=self._where(),
                expected=str(self._input(name)),
                got=f"{type(given).__name__}: {error}",
            ) from None

    def _wrong_dtype(self, name: str, array: np.ndarray) -> NoriaError:
        want = self._input(name)
        return DTypeError(
            f"the feed '{name}' has another dtype",
            where=self._where(),
            expected=str(want),
            got=f"{array.dtype}{list(array.shape)}",
            hint=f"feed {name}.astype('{want.dtype}')",
        )

    def _unknown(self, feeds: Mapping[str, Any]) -> NoriaError:
        names = [v.name for v in self.inputs]
        extra = sorted(str(n) for n in feeds if n not in names)[0]
        return MissingError(
            f"the Program has no input '{extra}'",
            where=self._where(),
            expected=self._told(),
            got=", ".join(map(str, feeds)),
            hint=nearest(extra, names),
        )

    def _input(self, name: str) -> Value:
        return next(v for v in self.inputs if v.name == name)

    def _where(self) -> str:
        return f"run of Program '{self.program}'"

    def _told(self) -> str:
        return ", ".join(f"{v.name}: {v}" for v in self.inputs) or "no feeds"


def _axes(value: Value) -> list[tuple[str, int]] | None:
    """(symbol, constant) of each axis that is their sum, with symbol '' for a number; None where an
    axis is something else."""
    found = []
    for size in value.shape:
        names = [*symbols_of(size), ""][:2]
        constant = size - symbol(names[0]) if names[0] else size
        if not isinstance(constant, int):
            return None
        found.append((names[0], constant))
    return found
