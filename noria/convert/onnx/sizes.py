"""Arithmetic on shapes while a model is converted: `Reshape(x, Concat(Shape(x)[0], -1))`.

Exported models work out shapes with tensors. As long as these hold sizes, known or symbolic, they
stay a `Sizes` and emit nothing; where something else is done with them they become a Value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node
from noria.core.dims import Dim, Size, dim_max, dim_min, known_ge, product, prove_equal
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value

INT32, INT64 = 6, 7


class Sizes:
    """An integer tensor of sizes, at least one of them symbolic.

    array: of Python ints and Dims; dtype: "int64" or "int32"
    """

    __slots__ = ("array", "dtype")

    def __init__(self, array: np.ndarray, dtype: str = "int64") -> None:
        self.array, self.dtype = array, dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    def value(self) -> Value:
        """The same numbers as a Value, which the sizes of a run give."""
        parts = [o.dim_value(dim=d) for d in self.array.flat]
        joined = o.concat(*(o.reshape(p, shape=(1,)) for p in parts), axis=0)
        return o.cast(o.reshape(joined, shape=self.array.shape), dtype=self.dtype)


def tensor(sizes: Iterable[Size] | Size, dtype: str = "int64") -> Any:
    """Sizes as an array if all are known, else as a `Sizes`."""
    return _settled(_objects(sizes), dtype)


def _objects(items: Any) -> np.ndarray:
    shape = () if isinstance(items, (int, Dim)) else (len(items := list(items)),)
    out: np.ndarray = np.empty(shape, object)
    out[...] = items
    return out


def _settled(array: Any, dtype: str) -> Any:
    array = np.asarray(array, dtype=object)
    if any(isinstance(v, Dim) for v in array.flat):
        return Sizes(array, dtype)
    return array.astype(dtype)


def fold(node: Node, args: Sequence[Any]) -> Any:
    """What an operator gives on sizes; NotImplemented if that is not a matter of sizes."""
    rule = _RULES.get(node.op_type) if not node.domain else None
    if rule is None or any(isinstance(a, Value) for a in args):
        return NotImplemented
    dtype = next(a.dtype for a in args if isinstance(a, Sizes))
    arrays = [a.array if isinstance(a, Sizes) else a for a in args]
    if not all(a is None or _whole(a) for a in arrays):
        return NotImplemented
    try:
        got = rule(node, *arrays)
    except (TypeError, ValueError, IndexError):  # another form than sizes come in
        return NotImplemented
    if isinstance(got, tuple):
        return tuple(_settled(g, dtype) for g in got)
    if got is NotImplemented or (isinstance(got, np.ndarray) and got.dtype == np.bool_):
        return got
    return _settled(got, _CAST[node.attr("to")] if node.op_type == "Cast" else dtype)


def _whole(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "iuOb"


_CAST = {INT32: "int32", INT64: "int64"}
_RULES: dict[str, Callable[..., Any]] = {}


def _rule(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        _RULES.update(dict.fromkeys(names, fn))
        return fn

    return register


def _each(fn: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """fn of Python numbers and Dims, element by element with broadcasting."""

    def call(*arrays: np.ndarray) -> np.ndarray:
        wide = np.broadcast_arrays(*(np.asarray(a, object) for a in arrays))
        out = np.empty(wide[0].shape, object)
        for at in np.ndindex(out.shape):
            out[at] = fn(*(w[at] for w in wide))
        return out

    return call


class _Undecided(ValueError):
    """What only a run would tell."""


def _quotient(a: Size, b: Size) -> Size:
    if known_ge(a, 0) is not True or known_ge(b, 1) is not True:
        raise _Undecided
    return a // b


def _remainder(a: Size, b: Size) -> Size:
    if known_ge(a, 0) is not True or known_ge(b, 1) is not True:
        raise _Undecided
    return a % b


def _same(a: Size, b: Size) -> bool:
    proof = prove_equal(a, b)
    if proof is None:
        raise _Undecided
    return proof


def _at_least(a: Size, b: Size) -> bool:
    proof = known_ge(a, b)
    if proof is None:
        raise _Undecided
    return proof


_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _quotient,
    "Mod": _remainder,
    "Neg": lambda a: 0 - a,
    "Max": dim_max,
    "Min": dim_min,
    "Sum": lambda *a: sum(a),
}
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equal": _same,
    "GreaterOrEqual": _at_least,
    "Greater": lambda a, b: not _at_least(b, a),
    "LessOrEqual": lambda a, b: _at_least(b, a),
    "Less": lambda a, b: not _at_least(a, b),
}


@_rule(*_ARITHMETIC)
def _arithmetic(node: Node, *args: Any) -> Any:
    return _each(_ARITHMETIC[node.op_type])(*args)


@_rule(*_COMPARISONS)
def _comparison(node: Node, a: Any, b: Any) -> Any:
    return _each(_COMPARISONS[node.op_type])(a, b).astype(bool)


@_rule("Where")
def _where(node: Node, chosen: Any, a: Any, b: Any) -> Any:
    return np.where(chosen.astype(bool), a, b)


@_rule("Identity")
def _identity(node: Node, x: Any) -> Any:
    return x


@_rule("Cast")
def _cast(node: Node, x: Any) -> Any:
    return x if node.attr("to") in _CAST else NotImplemented


@_rule("Gather")
def _gather(node: Node, x: Any, ids: Any) -> Any:
    return np.take(x, ids.astype(np.int64), axis=node.attr("axis", 0))


@_rule("Concat")
def _concat(node: Node, *parts: Any) -> Any:
    return np.concatenate([np.asarray(p, object) for p in parts], node.attr("axis", 0))


@_rule("Reshape")
def _reshape(node: Node, x: Any, shape: Any) -> Any:
    return np.reshape(x, tuple(int(v) for v in shape))


@_rule("Flatten")
def _flatten(node: Node, x: Any) -> Any:
    at = node.attr("axis", 1)
    return np.reshape(x, (int(np.prod(x.shape[:at])), -1))


@_rule("Squeeze")
def _squeeze(node: Node, x: Any, axes: Any = None) -> Any:
    return np.squeeze(x, node.axes(axes))


@_rule("Unsqueeze")
def _unsqueeze(node: Node, x: Any, axes: Any = None) -> Any:
    return np.expand_dims(x, node.axes(axes) or ())


@_rule("Slice")
def _slice(node: Node, x: Any, start: Any = None, stop: Any = None, *more: Any) -> Any:
    if start is None:
        start, stop = node.need("starts"), node.need("ends")
    count = len(start)
    axes = [*more[:1], None][0]
    axes = node.attr("axes", range(count)) if axes is None else axes
    steps = more[1] if len(more) > 1 else [1] * count
    where = [slice(None)] * x.ndim
    for a, b, axis, step in zip(start, stop, axes, steps, strict=True):
        where[int(axis)] = slice(int(a), int(b), int(step))
    return x[tuple(where)]


@_rule("Split")
def _split(node: Node, x: Any, parts: Any = None) -> Any:
    axis = node.attr("axis", 0)
    parts = node.attr("split") if parts is None else parts
    if parts is None:
        return NotImplemented
    return tuple(np.split(x, np.cumsum([int(p) for p in parts])[:-1], axis))


@_rule("ReduceProd")
def _reduce_prod(node: Node, x: Any, axes: Any = None) -> Any:
    if x.ndim != 1:
        return NotImplemented
    total = _objects(product(x.tolist()))
    return total.reshape(1) if node.attr("keepdims", 1) else total
