"""What is known while a model is converted: numbers that no feed decides, sizes as vectors.

Other frameworks keep in tensors what noria keeps in attributes: the target of a reshape, the axes
of a sum. Mostly these tensors are constants in disguise, or shapes taken apart and put together
again; both are found here by looking back along the operators emitted so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from noria.core.dims import Size, dim_max, dim_min, symbols_of
from noria.core.dtypes import is_integer, to_numpy
from noria.core.errors import NoriaError
from noria.ir.emit import Builder, current
from noria.ir.opdef import lookup
from noria.ir.program import Operator, Value, symbols_used

MAX_ELEMENTS = 1 << 20  # of a value that is worked out here
MAX_DEPTH = 200  # operators between a value and the constants it comes from

# what moves sizes about, and computes as well with Dims in arrays of objects
_MOVES = {
    "add", "broadcast_to", "concat", "flatten", "gather", "identity", "later", "mul", "reshape",
    "slice", "split", "squeeze", "stop_gradient", "sub", "tile", "transpose", "unsqueeze",
}  # fmt: skip
_SIZES = {
    "cast": lambda x: x,
    "floor_divide": np.frompyfunc(lambda a, b: a // b, 2, 1),
    "div": np.frompyfunc(lambda a, b: a // b, 2, 1),
    "remainder": np.frompyfunc(lambda a, b: a % b, 2, 1),
    "maximum": np.frompyfunc(dim_max, 2, 1),
    "minimum": np.frompyfunc(dim_min, 2, 1),
}


class Known:
    """Looks back from values of the Program being built.

    state: numbers of state that no step changes, by name
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.state = dict(state or {})
        self._producers: dict[Value, Operator] = {}
        self._outer: dict[Value, Value] = {}  # inside a nested block -> around it
        self._seen: dict[int, tuple[Any, int]] = {}  # a block -> how far it was looked at
        self._arrays: dict[Value, np.ndarray | None] = {}

    def array(self, value: Any) -> np.ndarray | None:
        """The numbers of a value, None if feeds or state that changes decide them."""
        if not isinstance(value, Value):
            return np.asarray(value)
        self._look()
        return self._array(value, 0)

    def sizes(self, value: Any) -> tuple[Size, ...] | None:
        """The elements of an integer vector (or scalar) as sizes, symbolic where need be."""
        if not isinstance(value, Value):
            array = np.asarray(value)
            return tuple(int(v) for v in array.ravel()) if array.dtype.kind in "iu" else None
        self._look()
        found = self._sizes(value, 0)
        if found is None or not is_integer(value.dtype):
            return None
        return tuple(found.ravel().tolist())

    def producer(self, value: Value) -> Operator | None:
        """The operator that gives a value, None for feeds and state."""
        self._look()
        return self._producers.get(self._outer.get(value, value))

    def inputs(self, value: Value) -> tuple[str, ...]:
        """Names of the feeds a value depends on."""
        self._look()
        found: dict[str, None] = {}
        todo, seen = [value], {value}
        while todo:
            v = todo.pop()
            v = self._outer.get(v, v)
            producer = self._producers.get(v)
            if producer is None:
                if v.name not in self.state:
                    found[v.name] = None
                continue
            new = [w for w in producer.operands if w not in seen]
            seen.update(new)
            todo.extend(new)
        return tuple(sorted(found))

    # ---- looking back --------------------------------------------------------------------------

    def _look(self) -> None:
        """Takes notice of the operators emitted since the last time."""
        builder: Builder | None = current()
        while builder is not None:
            operators = builder.block.operators
            start = self._seen.get(id(builder.block), (None, 0))[1]
            for operator in operators[start:]:
                self._producers.update((v, operator) for v in operator.outputs)
            self._seen[id(builder.block)] = (builder.block, len(operators))
            self._outer.update((inner, outer) for outer, inner in builder.captures.items())
            builder = builder.parent

    def _array(self, value: Value, depth: int) -> np.ndarray | None:
        value = self._outer.get(value, value)
        if value not in self._arrays:
            self._arrays[value] = self._computed(value, depth)
        return self._arrays[value]

    def _computed(self, value: Value, depth: int) -> np.ndarray | None:
        producer = self._producers.get(value)
        if producer is None:
            known = self.state.get(value.name)
            return None if known is None else np.asarray(known)
        if depth > MAX_DEPTH or not _is_small(producer) or symbols_used(producer):
            return None
        inputs = [None if v is None else self._array(v, depth + 1) for v in producer.inputs]
        if any(a is None and v is not None for a, v in zip(inputs, producer.inputs, strict=True)):
            return None
        outs = _run(producer, inputs)
        return None if outs is None else outs[producer.outputs.index(value)]

    def _sizes(self, value: Value, depth: int) -> np.ndarray | None:
        value = self._outer.get(value, value)
        numbers = self._array(value, depth)
        if numbers is not None:
            return numbers.astype(object) if numbers.dtype.kind in "iub" else None
        producer = self._producers.get(value)
        if producer is None or depth > MAX_DEPTH or value.ndim > 2:
            return None
        if producer.type == "dim_value":
            out = np.empty((), object)
            out[()] = producer.attrs["dim"]
            return out
        if producer.type not in _MOVES and producer.type not in _SIZES:
            return None
        inputs = [None if v is None else self._sizes(v, depth + 1) for v in producer.inputs]
        if any(a is None for a in inputs):
            return None
        if producer.type in _SIZES:
            return np.asarray(_SIZES[producer.type](*inputs), object)
        if producer.type == "gather":
            inputs[1] = np.asarray(inputs[1], np.int64)
        outs = _run(producer, inputs)
        if outs is None:
            return None
        return np.asarray(outs[producer.outputs.index(value)], object)


def _is_small(operator: Operator) -> bool:
    if lookup(operator.type).effect != "pure" or operator.blocks:
        return False
    sizes = [v.shape for v in (*operator.operands, *operator.outputs)]
    if any(symbols_of(shape) for shape in sizes):
        return False
    return all(np.prod([int(d) for d in s], dtype=float) <= MAX_ELEMENTS for s in sizes)


def _run(operator: Operator, inputs: list[Any]) -> list[np.ndarray] | None:
    try:
        with np.errstate(all="ignore"):
            outs = lookup(operator.type).run(np, inputs, operator.attrs)
    except (NoriaError, ValueError, TypeError, IndexError, ArithmeticError):
        return None  # the run will tell what is wrong with it
    if any(getattr(a, "dtype", None) == np.dtype(object) for a in inputs):
        return list(outs)
    return [np.asarray(a, to_numpy(v.dtype)) for a, v in zip(outs, operator.outputs, strict=True)]
