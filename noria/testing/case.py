"""One test case of an op: inputs, attributes and what is expected of it.

    CASES = [
        Case("softmax", [arr(3, 5)], {"axis": 0}, symbolic={0: {0: "N"}}, expect=my_softmax),
        Case("gather", [arr(4, 2), ints(3, high=4)], {"axis": 0}),
    ]

`check.check_case` proves everything else from these few words. Inputs are recipes rather than
numbers, so a case can be made again with other sizes, another seed or another dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np

from noria.core.dims import Dim, evaluate, format_shape, parse_dim
from noria.core.dtypes import FLOATS, as_dtype, is_float, to_numpy
from noria.core.errors import ArgumentError
from noria.core.shapes import solve
from noria.ir.interpret import bind_attrs
from noria.ir.program import as_shape


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """How to make an input: `arr(...)` or `ints(...)`."""

    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    distinct: bool = False

    def make(self, seed: Sequence[int], shape: Sequence[int] | None = None) -> np.ndarray:
        """The array for a seed (the same seed: the same numbers), of `shape` if it is given."""
        rng = np.random.default_rng(list(seed))
        shape = self.shape if shape is None else tuple(shape)
        if not is_float(self.dtype):
            values: np.ndarray = rng.integers(int(self.low), int(self.high), size=shape)
        elif self.distinct:
            values = _spread(rng, shape) * (self.high - self.low) + self.low
        else:
            values = rng.uniform(self.low, self.high, size=shape)
        return values.astype(to_numpy(self.dtype))

    def __str__(self) -> str:
        return f"{self.dtype}{format_shape(self.shape)}"


def _spread(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in (0, 1) in random order, any two at least half a step apart."""
    count = int(np.prod(shape))
    steps = rng.permutation(count) + rng.uniform(0.25, 0.75, size=count)
    return (steps / max(count, 1)).reshape(shape)


def arr(
    *shape: int,
    dtype: str = "float32",
    low: float = -2.0,
    high: float = 2.0,
    distinct: bool = False,
) -> ArraySpec:
    """Floats, uniform in [low, high).

    distinct: no two elements are nearly equal, for ops with a kink at ties (max, sort).
    Raises DTypeError if the dtype is not a float one, ShapeError for a bad shape.
    """
    if not is_float(as_dtype(dtype)):
        raise ArgumentError("arr makes floats", got=dtype, hint="ints(..., dtype='int64')")
    return ArraySpec(_sizes(shape), as_dtype(dtype), low, high, distinct)


def ints(*shape: int, low: int = 0, high: int = 10, dtype: str = "int64") -> ArraySpec:
    """Integers, uniform in [low, high), or booleans with `dtype="bool"`.

    Raises ArgumentError for a float dtype or an empty range.
    """
    name = as_dtype(dtype)
    if is_float(name) or low >= high:
        raise ArgumentError(
            "ints makes integers or booleans of a range that is not empty",
            got=f"{name} in [{low}, {high})",
        )
    return ArraySpec(_sizes(shape), name, low, min(high, 2) if name == "bool" else high)


def _sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(n) for n in as_shape(shape))


@dataclass(frozen=True, eq=False)
class Case:
    """One way to call an op.

    op:       its name
    inputs:   for each input `arr(...)`, `ints(...)`, a NumPy array, a Python scalar, or None
              (an optional input that is absent)
    attrs:    its attributes; a size that depends on a symbol is written as a Dim
    expect:   function of the input arrays (an absent input is None) which gives, by an
              independent formula, the array or tuple of arrays that must come out
    grad:     None: check the gradient if the op has a rule; False: do not (say why in a
              comment); True: it must have one; a list of input indices: check only those
    grad2:    check the gradient of the gradient too
    jax:      False for an op whose output shape depends on data, which XLA cannot compile
    symbolic: {input index: {axis: symbol or expression}} sizes left open in the traced Program
    tol:      tolerance relative to the largest output, default by dtype (`compare.TOLERANCE`)
    id:       added to the name of the test
    seed:     another seed: other numbers
    """

    op: str
    inputs: Sequence[Any]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    _: KW_ONLY
    expect: Callable[..., Any] | None = None
    grad: bool | Sequence[int] | None = None
    grad2: bool = False
    jax: bool = True
    symbolic: Mapping[int, Mapping[int, str]] | None = None
    tol: float | None = None
    id: str = ""
    seed: int = 0

    def __str__(self) -> str:
        words = [self.op, *(_describe(x) for x in self.inputs)]
        words += [f"{k}={v}".replace(" ", "") for k, v in self.attrs.items() if _short(v)]
        return f"{self.op}-{self.id}" if self.id else "-".join(words).replace(" ", "")

    @property
    def resizable(self) -> bool:
        """Whether it can be made again with other values of its symbols."""
        open_inputs = [i for i, axes in (self.symbolic or {}).items() if axes]
        return bool(open_inputs) and all(isinstance(self.inputs[i], ArraySpec) for i in open_inputs)

    def shape(self, index: int) -> tuple[int | Dim, ...] | None:
        """Shape of an input as the traced Program declares it; None for a scalar or None."""
        given = self.inputs[index]
        if not hasattr(given, "shape"):
            return None
        out: list[int | Dim] = list(given.shape)
        for axis, size in (self.symbolic or {}).get(index, {}).items():
            out[axis] = parse_dim(size)
        return tuple(out)

    def sizes(self) -> dict[str, int]:
        """The values its symbols have in the inputs as given.

        Raises ShapeError if two inputs disagree about a symbol.
        """
        found: dict[str, int] = {}
        for i, given in enumerate(self.inputs):
            shape = self.shape(i)
            if shape is not None:
                found.update(solve(shape, tuple(given.shape), found))
        return found

    def arrays(self, sizes: Mapping[str, int] | None = None, salt: int = 0) -> list[Any]:
        """The inputs as numbers.

        sizes: other values for the symbols; salt: other numbers.
        """
        out: list[Any] = []
        for i, given in enumerate(self.inputs):
            if isinstance(given, ArraySpec):
                shape = self.shape(i) or ()
                fixed = None if sizes is None else [evaluate(n, dict(sizes)) for n in shape]
                given = given.make((self.seed, salt, i), fixed)
            out.append(given)
        return out

    def attrs_at(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        """The attributes, with every symbolic size replaced by its number."""
        return bind_attrs(self.attrs, sizes)

    def with_floats(self, dtype: str) -> Case:
        """The same case with every float input, and every float dtype it names, of `dtype`."""
        inputs = [_recast(x, dtype) for x in self.inputs]
        attrs = {
            k: dtype if isinstance(v, str) and v in FLOATS else v for k, v in self.attrs.items()
        }
        return replace(self, inputs=inputs, attrs=attrs)


def _recast(given: Any, dtype: str) -> Any:
    if not hasattr(given, "dtype") or not is_float(as_dtype(given.dtype)):
        return given
    if isinstance(given, ArraySpec):
        return replace(given, dtype=dtype)
    return given.astype(to_numpy(dtype))


def _describe(given: Any) -> str:
    if isinstance(given, np.ndarray):
        return f"{as_dtype(given.dtype)}{format_shape(given.shape)}"
    return str(given)


def _short(value: Any) -> bool:
    return not isinstance(value, np.ndarray) and len(str(value)) <= 30
