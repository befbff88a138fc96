"""What converts an operator of Fluid: the registry, and the operator as a handler sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.convert.handlers import Handlers, NeedsConstant
from noria.convert.known import Known
from noria.core.dims import Size
from noria.core.errors import DTypeError, MissingError, ProgramError, nearest
from noria.ir.program import Value

fluid_op = Handlers("Fluid")

# the element types of Fluid's files
DTYPES = {
    0: "bool", 1: "int16", 2: "int32", 3: "int64", 4: "float16", 5: "float32", 6: "float64",
    19: "uint64", 20: "uint8", 21: "int8", 22: "bfloat16",
}  # fmt: skip
CODES = {name: code for code, name in DTYPES.items()}


def dtype_of(code: Any) -> str:
    """The dtype of a code in a file. Raises DTypeError for one that has no meaning here."""
    if code not in DTYPES:
        raise DTypeError(
            f"unknown element type {code!r}",
            expected=", ".join(f"{k} {v}" for k, v in DTYPES.items()),
        )
    return DTYPES[code]


@dataclass(frozen=True, eq=False)
class Lod:
    """A ragged value of Fluid: packed rows and the splits of each level, outermost first.

    values: [T, ...]; splits: int64 vectors; those of the last level cut `values`, those of a level
    before it cut the rows of the next one. Without splits it is an ordinary value.
    """

    values: Any
    splits: tuple[Any, ...] = ()


@dataclass
class Frame:
    """What an operator needs of the conversion around it.

    symbol: a fresh name for a size; run_block: converts a block, given its index and a scope;
    scope: of the block the operator is in; reader: the conversion (for operators with blocks)
    """

    known: Known
    symbol: Callable[[str], str]
    run_block: Callable[[int, Any], Any]
    scope: Any
    reader: Any


class Op:
    """An operator of a model, its inputs bound.

    type, attrs: as the file has them; where: for messages
    inputs:  slot -> [(variable, what it holds)]; outputs: slot -> variables asked for
    """

    def __init__(
        self,
        type: str,
        inputs: Mapping[str, Sequence[tuple[str, Any]]],
        outputs: Mapping[str, Sequence[str]],
        attrs: Mapping[str, Any],
        frame: Frame,
        where: str = "",
    ) -> None:
        self.type, self.attrs, self.frame, self.where = type, attrs, frame, where
        self.bound = {slot: list(pairs) for slot, pairs in inputs.items()}
        self.outputs = {slot: list(names) for slot, names in outputs.items() if names}

    # ---- inputs --------------------------------------------------------------------------------

    def held(self, slot: str) -> list[Any]:
        """What the variables of a slot hold: Lods, tensor arrays, tables."""
        return [value for _, value in self.bound.get(slot, ())]

    def inputs(self, slot: str) -> list[Any]:
        """The values of a slot, without their splits."""
        return [v.values if isinstance(v, Lod) else v for v in self.held(slot)]

    def get(self, slot: str) -> Any:
        """The value of a slot, None where the model gives none."""
        values = self.inputs(slot)
        return values[0] if values else None

    def input(self, slot: str) -> Any:
        """The value of a slot. Raises MissingError where the model gives none."""
        values = self.inputs(slot)
        if not values:
            raise MissingError(f"{self.type} needs the input '{slot}'", where=self.where)
        return values[0]

    def lod(self, slot: str, index: int = 0) -> tuple[Any, ...]:
        """The splits of a value, outermost level first; () if it is not ragged."""
        held = self.held(slot)
        return held[index].splits if len(held) > index and isinstance(held[index], Lod) else ()

    def need_lod(self, slot: str, levels: int = 1) -> tuple[Any, ...]:
        """The splits of a value. Raises ProgramError if it has fewer levels."""
        splits = self.lod(slot)
        if len(splits) < levels:
            raise ProgramError(
                f"{self.type} needs a ragged '{slot}'",
                where=self.where,
                expected=f"{levels} level(s) of rows",
                got=f"{len(splits)}",
            )
        return splits

    # ---- attributes ----------------------------------------------------------------------------

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute; lists are tuples. The default stands for one that the model leaves out."""
        return self.attrs.get(name, default)

    def need_attr(self, name: str) -> Any:
        """An attribute. Raises MissingError where the model has none."""
        if name not in self.attrs:
            hint = nearest(name, self.attrs)
            raise MissingError(f"{self.type} needs the attribute '{name}'", hint=hint)
        return self.attrs[name]

    def dtype(self, name: str, default: int = 5) -> str:
        """The dtype an attribute names."""
        return dtype_of(self.attrs.get(name, default))

    # ---- what must be known now ----------------------------------------------------------------

    def const(self, value: Any, what: str) -> np.ndarray:
        """The numbers of a value. Raises NeedsConstant where only a run tells them."""
        found = self.frame.known.array(value)
        if found is None:
            self._needs(value, what)
        return np.asarray(found)

    def sizes(self, value: Any, what: str) -> tuple[Size, ...]:
        """The elements of an integer vector as sizes, which may be symbolic.

        Raises NeedsConstant where only a run tells them.
        """
        found = self.frame.known.sizes(value)
        if found is None:
            self._needs(value, what)
            raise AssertionError
        return found

    def _needs(self, value: Value, what: str) -> None:
        names = [n for pairs in self.bound.values() for n, v in pairs if _holds(v, value)]
        feeds = self.frame.known.inputs(value)
        raise NeedsConstant(names[0] if names else value.name, what, feeds)

    def symbol(self, base: str) -> str:
        """A name no size of this Program has yet."""
        return self.frame.symbol(base)


def _holds(held: Any, value: Any) -> bool:
    return held is value or (isinstance(held, Lod) and held.values is value)
