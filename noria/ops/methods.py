"""Operators and methods of Values: `x + y`, `x @ w`, `x[:, 1:]`, `x.mean(axis=0)`, `x.T`.

Importing this module attaches them. Each is one op or composed function under the name that NumPy
and PyTorch have for it. `==` and `!=` compare identity: write `ops.equal(x, y)` for numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import Any

from noria.core.dtypes import as_dtype
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value
from noria.ops import (  # noqa: F401 - the methods need these ops to be registered
    activation,
    compare,
    create,
    elementwise,
    index,
    join,
    linalg,
    order,
    reduce,
    scatter,
    shape,
    slicing,
)
from noria.ops.getitem import getitem

_UFUNCS = {
    "add": "add",
    "subtract": "sub",
    "multiply": "mul",
    "divide": "div",
    "floor_divide": "floor_divide",
    "remainder": "remainder",
    "power": "pow",
    "matmul": "matmul",
    "less": "less",
    "less_equal": "less_equal",
    "greater": "greater",
    "greater_equal": "greater_equal",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "bitwise_xor": "logical_xor",
}  # what `array OPERATOR value` calls, and the op it is


class ValueMethods:
    """What becomes operators, methods and properties of `Value`; self is the Value."""

    shape: tuple[Any, ...]

    # ---- arithmetic ----------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        return o.add(self, other)

    def __radd__(self, other: Any) -> Any:
        return o.add(other, self)

    def __sub__(self, other: Any) -> Any:
        return o.sub(self, other)

    def __rsub__(self, other: Any) -> Any:
        return o.sub(other, self)

    def __mul__(self, other: Any) -> Any:
        return o.mul(self, other)

    def __rmul__(self, other: Any) -> Any:
        return o.mul(other, self)

    def __truediv__(self, other: Any) -> Any:
        return o.div(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return o.div(other, self)

    def __floordiv__(self, other: Any) -> Any:
        return o.floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return o.floor_divide(other, self)

    def __mod__(self, other: Any) -> Any:
        return o.remainder(self, other)

    def __rmod__(self, other: Any) -> Any:
        return o.remainder(other, self)

    def __pow__(self, other: Any) -> Any:
        return o.pow(self, other)

    def __rpow__(self, other: Any) -> Any:
        return o.pow(other, self)

    def __matmul__(self, other: Any) -> Any:
        return o.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return o.matmul(other, self)

    def __neg__(self) -> Any:
        return o.neg(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return o.abs(self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """`array + value` is an op; any other NumPy function of a value is a clear error."""
        name = _UFUNCS.get(ufunc.__name__)
        if name is None or method != "__call__" or options:
            raise ArgumentError(
                f"numpy.{ufunc.__name__} takes arrays, not values of a Program",
                hint="use the function of noria.ops",
            )
        return getattr(o, name)(*inputs)

    # ---- comparisons and logic -----------------------------------------------------------------

    def __lt__(self, other: Any) -> Any:
        return o.less(self, other)

    def __le__(self, other: Any) -> Any:
        return o.less_equal(self, other)

    def __gt__(self, other: Any) -> Any:
        return o.greater(self, other)

    def __ge__(self, other: Any) -> Any:
        return o.greater_equal(self, other)

    def __and__(self, other: Any) -> Any:
        return o.logical_and(self, other)

    def __rand__(self, other: Any) -> Any:
        return o.logical_and(other, self)

    def __or__(self, other: Any) -> Any:
        return o.logical_or(self, other)

    def __ror__(self, other: Any) -> Any:
        return o.logical_or(other, self)

    def __xor__(self, other: Any) -> Any:
        return o.logical_xor(self, other)

    def __rxor__(self, other: Any) -> Any:
        return o.logical_xor(other, self)

    def __invert__(self) -> Any:
        return o.logical_not(self)

    # ---- parts ---------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        return getitem(self, key)  # type: ignore[arg-type]

    def __len__(self) -> int:
        if not self.shape or not isinstance(self.shape[0], int):
            raise ShapeError("the length is not a number", got=str(self), hint="x.shape[0]")
        return self.shape[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(join.unstack(self))

    def split(self, *, num: int | None = None, sizes: Any = None, axis: int = 0) -> Any:
        return o.split(self, num=num, sizes=sizes, axis=axis)

    # ---- reductions ----------------------------------------------------------------------------

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return o.reduce_sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        return o.reduce_mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Any:
        return o.reduce_max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        return o.reduce_min(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Any:
        return o.reduce_prod(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> Any:
        return o.reduce_all(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> Any:
        return o.reduce_any(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Any = None, keepdims: bool = False, correction: int = 0) -> Any:
        return reduce.variance(self, axis=axis, keepdims=keepdims, correction=correction)

    def std(self, axis: Any = None, keepdims: bool = False, correction: int = 0) -> Any:
        return reduce.std(self, axis=axis, keepdims=keepdims, correction=correction)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Any:
        return o.argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Any:
        return o.argmin(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int) -> Any:
        return o.cumsum(self, axis=axis)

    # ---- shape ---------------------------------------------------------------------------------

    def reshape(self, *shape: Any) -> Any:
        return o.reshape(self, shape=_listed(shape))

    def flatten(self, start: int = 0, end: int = -1) -> Any:
        return o.flatten(self, start=start, end=end)

    def squeeze(self, axis: Any = None) -> Any:
        """Without axes of size 1: those named, or all whose size is the number 1."""
        if axis is None:
            axis = tuple(i for i, d in enumerate(self.shape) if isinstance(d, int) and d == 1)
        return o.squeeze(self, axis=axis)

    def unsqueeze(self, axis: Any) -> Any:
        return o.unsqueeze(self, axis=axis)

    def transpose(self, *perm: Any) -> Any:
        return o.transpose(self, perm=_listed(perm) if perm and perm != (None,) else None)

    def swapaxes(self, axis1: int, axis2: int) -> Any:
        return shape.swapaxes(self, axis1, axis2)

    def expand(self, *shape_: Any) -> Any:
        return shape.expand(self, _listed(shape_))

    @property
    def T(self) -> Any:
        return o.transpose(self)

    # ---- elementwise ---------------------------------------------------------------------------

    def astype(self, dtype: Any) -> Any:
        return o.cast(self, dtype=as_dtype(dtype))

    def detach(self) -> Any:
        return o.stop_gradient(self)

    def clip(self, low: float | None = None, high: float | None = None) -> Any:
        return o.clip(self, low=low, high=high)

    def abs(self) -> Any:
        return o.abs(self)

    def square(self) -> Any:
        return o.square(self)

    def sqrt(self) -> Any:
        return o.sqrt(self)

    def exp(self) -> Any:
        return o.exp(self)

    def log(self) -> Any:
        return o.log(self)

    def sin(self) -> Any:
        return o.sin(self)

    def cos(self) -> Any:
        return o.cos(self)

    def tanh(self) -> Any:
        return o.tanh(self)

    def sigmoid(self) -> Any:
        return o.sigmoid(self)

    def relu(self) -> Any:
        return o.relu(self)

    def softmax(self, axis: int = -1) -> Any:
        return o.softmax(self, axis=axis)


def _listed(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """`f(2, 3)` and `f((2, 3))` say the same."""
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def _attach() -> list[str]:
    """Put the methods on Value; their names, without those of properties."""
    names = []
    for name, member in vars(ValueMethods).items():
        if isinstance(member, (FunctionType, property)):
            setattr(Value, name, member)
        if isinstance(member, FunctionType):
            names.append(name)
    return names


NAMES = tuple(_attach())
