"""What is known of values while a model is converted, and what is asked for where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noria.convert.handlers import NeedsConstant
from noria.convert.onnx.measured import measured
from noria.convert.onnx.origins import Origins
from noria.convert.onnx.sizes import Sizes
from noria.core.dims import Dim, Size, symbol, symbols_of
from noria.core.errors import ArgumentError, FormatError
from noria.ir.emit import Builder, building
from noria.ir.program import Value


class Knowledge:
    """Numbers and sizes behind the Values of one Program being built.

    symbols: what the model calls a size -> the size, which may be fixed
    told:    values that hold sizes
    measure: whether data may tell a size
    """

    def __init__(self, builder: Builder, sizes: Mapping[str, Size], measure: bool) -> None:
        self.origins = Origins(builder)
        self.symbols: dict[str, Size] = dict(sizes)
        self.told: dict[Value, Sizes] = {}
        self.measure = measure

    def const(self, value: Any, what: str) -> np.ndarray:
        """The numbers of a value. Raises NeedsConstant if only a run tells them."""
        if isinstance(value, np.ndarray):
            return value
        if not isinstance(value, (Value, Sizes)):
            raise FormatError(f"{what} is missing", got=type(value).__name__)
        if isinstance(value, Sizes):
            dims = [d for d in value.array.flat if isinstance(d, Dim)]
            raise _needs_sizes(", ".join(map(str, dims)), what, sorted(symbols_of(dims)))
        found = self.origins.known(value)
        if found is not None:
            return found
        inputs = self.origins.inputs(value)
        if not inputs:
            raise _needs_sizes(value.name, what, self.origins.symbols(value))
        raise NeedsConstant(value.name, what, inputs)

    def sizes(self, value: Any, what: str) -> tuple[Size, ...]:
        """The numbers of a tensor of sizes, which may be symbolic. Raises NeedsConstant."""
        if isinstance(value, Value) and value in self.told:
            value = self.told[value]
        if isinstance(value, Sizes):
            return tuple(value.array.reshape(-1).tolist())
        try:
            return tuple(int(v) for v in np.ravel(self.const(value, what)))
        except NeedsConstant:
            found = self._measured(value) if self.measure else None
            if found is None:
                raise
        return tuple(found.reshape(-1).tolist())

    def _measured(self, value: Value) -> np.ndarray | None:
        """Sizes that the data of a run tell, once for each value."""
        found = measured(value, self._known, self.symbol)
        if found is not None:
            self.told[value] = Sizes(found)
        return found

    def _known(self, value: Value) -> Any:
        return self.told.get(value) or self.origins.known(value)

    def symbol(self, base: str) -> str:
        """A name that no size of the model has."""
        taken = {str(s) for s in self.symbols.values()}
        name, n = base, 1
        while name in taken:
            name, n = f"{base}_{n}", n + 1
        self.symbols[f"/{name}"] = symbol(name)
        return name

    def value(self, value: Any) -> Value:
        """A Value: a constant or sizes where it is none. Raises ArgumentError for no tensor."""
        if isinstance(value, Value):
            return value
        if isinstance(value, Sizes):
            made = value.value()
            self.told[made] = value
            return made
        if value is None or isinstance(value, list):
            raise ArgumentError("a tensor is needed here", got=type(value).__name__)
        return building().constant(value)


def _needs_sizes(name: str, what: str, symbols: Sequence[str]) -> NeedsConstant:
    """A shape decides what only numbers can."""
    error = NeedsConstant(name, what)
    if symbols:
        fixed = ", ".join(f"'{s}': ..." for s in symbols)
        error.hint = f"convert with sizes={{{fixed}}}"
    return error
