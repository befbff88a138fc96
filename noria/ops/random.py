"""Random numbers that are functions of (seed, step, stream): the same whatever the order, the
number of threads, or whether an operator is computed twice. `philox.py` tells how they are made.

key:    int64 [2] = (seed, step), each taken modulo 2^32. In a Program it is the state "random",
        whose step grows by one each run; `random_key()` gives it.
stream: a number of its own for each op that draws from one key.

The functions take the Program's key, and a new stream, where none is given. On arrays (eager) a key
must be given; the same key and stream then give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from noria.core.dims import Size
from noria.core.dtypes import is_float, is_integer, to_numpy
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.emit import Builder, building, current, loop_indices
from noria.ir.opdef import OpDef, op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Spec, Value, as_shape, walk
from noria.ops import philox
from noria.ops.common import need_float, need_integer

STATE = "random"


def _check(key: Spec, stream: Any) -> None:
    if key.dtype != "int64" or key.shape != (2,):
        raise ShapeError("a random key is (seed, step)", expected="int64[2]", got=str(key))
    if not isinstance(stream, int) or not 0 <= stream < 2**64:
        raise ArgumentError("a stream is an integer, 0 or more", got=repr(stream))


def _floats(key: Spec, shape: Any, dtype: str, stream: Any) -> Spec:
    _check(key, stream)
    out = Spec(shape, dtype)
    if not is_float(out.dtype):
        raise DTypeError("a float dtype is needed", got=out.dtype)
    return out


def _probability(p: Any, end: str = "]") -> None:
    if not isinstance(p, (int, float)) or not 0 <= p <= 1 or (end == ")" and p == 1):
        raise ArgumentError(f"a probability lies in [0, 1{end}", got=repr(p))


def _shaped(shape: Any, draw: Callable[..., Any], xp: Any, key: Any, stream: int, *how: Any) -> Any:
    """What a function of `philox.py` draws, in a shape."""
    full = as_shape(shape)
    return draw(xp, key, stream, math.prod(full), *how).reshape(full)


# ---- distributions -----------------------------------------------------------------------------


@op(name="uniform", effect="random")
def uniform_op(key, *, shape, low=0.0, high=1.0, dtype="float32", stream=0):
    """Uniform on [low, high), but for rounding: low + (high - low) * u with u of 24 random bits, 53
    for float64."""
    return _floats(key, shape, dtype, stream)


@uniform_op.compute
def _(xp, key, shape, low, high, dtype, stream):
    unit = _shaped(shape, philox.unit, xp, key, stream, dtype)
    number = np.dtype(unit.dtype).type
    return (unit * number(high - low) + number(low)).astype(to_numpy(dtype))


@op(name="normal", effect="random")
def normal_op(key, *, shape, mean=0.0, std=1.0, dtype="float32", stream=0):
    """Gaussian."""
    return _floats(key, shape, dtype, stream)


@normal_op.compute
def _(xp, key, shape, mean, std, dtype, stream):
    z = _shaped(shape, philox.gauss, xp, key, stream, dtype)
    return _scaled(z, mean, std, dtype)


def _scaled(z: Any, mean: float, std: float, dtype: str) -> Any:
    number = np.dtype(z.dtype).type
    return (z * number(std) + number(mean)).astype(to_numpy(dtype))


@op(name="truncated_normal", effect="random")
def truncated_normal_op(key, *, shape, mean=0.0, std=1.0, dtype="float32", stream=0):
    """Gaussian, given that it is within two standard deviations of the mean: the inverse of its
    distribution function, at uniform numbers."""
    return _floats(key, shape, dtype, stream)


@truncated_normal_op.compute
def _(xp, key, shape, mean, std, dtype, stream):
    wide = "float64" if dtype == "float64" else "float32"
    unit = _shaped(shape, philox.unit, xp, key, stream, wide)
    number = np.dtype(unit.dtype).type
    inside = (2 * unit - 1) * number(math.erf(math.sqrt(2)))
    z = number(math.sqrt(2)) * philox.erfinv(xp, inside)
    return _scaled(xp.clip(z, -2, 2), mean, std, dtype)


@op(name="randint", effect="random")
def randint_op(key, *, shape, low=0, high, dtype="int64", stream=0):
    """Integers, uniform on [low, high), which is at most 2^31 wide. Of 32 random bits, so that no
    integer is more likely than another by more than (high - low) / 2^32."""
    _check(key, stream)
    out = Spec(shape, dtype)
    if not is_integer(out.dtype):
        raise DTypeError("an integer dtype is needed", got=out.dtype)
    limits = np.iinfo(to_numpy(out.dtype))
    if not all(isinstance(v, int) for v in (low, high)) or not 0 < high - low <= 2**31:
        raise ArgumentError(
            "bad range", expected="integers low < high <= low + 2^31", got=f"{low}, {high}"
        )
    if low < limits.min or high - 1 > limits.max:
        raise ArgumentError(f"{out.dtype} cannot hold the range", got=f"{low}, {high}")
    return out


@randint_op.compute
def _(xp, key, shape, low, high, dtype, stream):
    word = _shaped(shape, philox.words, xp, key, stream)
    above, _ = philox.multiply(xp, word, high - low)
    return (above.astype("int64") + low).astype(to_numpy(dtype))


@op(name="bernoulli", effect="random")
def bernoulli_op(key, *, shape, p=0.5, dtype="bool", stream=0):
    """True (or 1) with probability p, of 24 random bits."""
    _check(key, stream)
    _probability(p)
    return Spec(shape, dtype)


@bernoulli_op.compute
def _(xp, key, shape, p, dtype, stream):
    unit = _shaped(shape, philox.unit, xp, key, stream)
    return (unit < np.float32(p)).astype(to_numpy(dtype))


@op(name="permutation", effect="random")
def permutation_op(key, *, n, stream=0):
    """The integers 0 to n - 1 in random order: int64 [n]."""
    _check(key, stream)
    return Spec((n,), "int64")


@permutation_op.compute
def _(xp, key, n, stream):
    return xp.argsort(philox.words(xp, key, stream, n), stable=True).astype("int64")


# ---- dropout -----------------------------------------------------------------------------------


@op(name="dropout", outputs=("out", "mask"), effect="random", overwrites=((0, 0),))
def dropout_op(x, key, *, p=0.5, stream=0):
    """(x / (1 - p) where kept, else 0; bool, what was kept). Each element is dropped with
    probability p. The identity at test time.  (Srivastava et al., 2014)"""
    need_float(x)
    _check(key, stream)
    _probability(p, ")")
    return x, Spec(x.shape, "bool")


@dropout_op.compute
def _(xp, x, key, p, stream):
    kept = (philox.unit(xp, key, stream, x.size) >= np.float32(p)).reshape(x.shape)
    return xp.where(kept, x / xp.asarray(1 - p, x.dtype), xp.zeros((), x.dtype)), kept


@dropout_op.grad
def _(mask, g_out, p):
    g = None if g_out is None else o.where(mask, o.mul(g_out, 1 / (1 - p)), 0.0)
    return {"x": g}


@dropout_op.for_test
def _(x, key, p, stream):
    return x


# ---- keys --------------------------------------------------------------------------------------


@op
def next_key(key):
    """The key of the next step: (seed, step + 1)."""
    _check(key, 0)
    return key


@next_key.compute
def _(xp, key):
    return key + xp.asarray([0, 1], key.dtype)


@op
def fold_key(key, index):
    """Another key for each index, an integer scalar: of an iteration, a layer, an example."""
    _check(key, 0)
    need_integer(index)
    if index.shape != ():
        raise ShapeError("the index must be a scalar", got=str(index))
    return key


@fold_key.compute
def _(xp, key, index):
    return philox.fold(xp, key, index)


def random_key() -> Value:
    """The key of the Program being built; its state is declared on first use.

    Inside loops the key is folded with the iteration of each, so each draws other numbers.
    """
    builder = building()
    root = builder.root
    key = root.state(STATE, (2,), "int64", init=("fill", {"value": 0}))
    if STATE not in root.program.updates:
        root.update(STATE, root.emit(next_key, [key], {}))
    key = builder.capture(key)
    for index in loop_indices():
        key = fold_key(key, index)
    return key


_last_stream: WeakKeyDictionary[Builder, int] = WeakKeyDictionary()


def next_stream() -> int:
    """A number that no other random operator of the Program being built has."""
    root = building().root
    used = _last_stream[root] if root in _last_stream else _streams_of(root.program)
    _last_stream[root] = used + 1
    return used + 1


def _streams_of(program: Program) -> int:
    """The highest stream in use. Nested blocks that are still being built have none: a Builder
    counts those it gave itself."""
    found = [operator.attrs.get("stream") for operator in walk(program.block)]
    return max((s for s in found if isinstance(s, int)), default=0)


# ---- for users ---------------------------------------------------------------------------------


def _drawn(
    definition: OpDef, x: tuple[Any, ...], key: Any, stream: int | None, attrs: dict[str, Any]
) -> Any:
    """Call a random op with the key and stream given, or with the Program's own."""
    if current() is not None:
        key = random_key() if key is None else key
        stream = next_stream() if stream is None else stream
    elif key is None:
        raise ArgumentError(
            f"{definition.name} on arrays needs a key", hint="key=np.array([seed, step])"
        )
    return definition(*x, key, stream=stream or 0, **attrs)


def uniform(
    key: Any = None,
    *,
    shape: Any,
    low: float = 0.0,
    high: float = 1.0,
    dtype: str = "float32",
    stream: int | None = None,
) -> Any:
    """Floats of `shape`, uniform on [low, high)."""
    attrs = {"shape": shape, "low": low, "high": high, "dtype": dtype}
    return _drawn(uniform_op, (), key, stream, attrs)


def normal(
    key: Any = None,
    *,
    shape: Any,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: str = "float32",
    stream: int | None = None,
) -> Any:
    """Floats of `shape`, Gaussian."""
    attrs = {"shape": shape, "mean": mean, "std": std, "dtype": dtype}
    return _drawn(normal_op, (), key, stream, attrs)


def truncated_normal(
    key: Any = None,
    *,
    shape: Any,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: str = "float32",
    stream: int | None = None,
) -> Any:
    """Floats of `shape`, Gaussian given that they are within two standard deviations."""
    attrs = {"shape": shape, "mean": mean, "std": std, "dtype": dtype}
    return _drawn(truncated_normal_op, (), key, stream, attrs)


def randint(
    key: Any = None,
    *,
    shape: Any,
    low: int = 0,
    high: int,
    dtype: str = "int64",
    stream: int | None = None,
) -> Any:
    """Integers of `shape`, uniform on [low, high)."""
    attrs = {"shape": shape, "low": low, "high": high, "dtype": dtype}
    return _drawn(randint_op, (), key, stream, attrs)


def bernoulli(
    key: Any = None,
    *,
    shape: Any,
    p: float = 0.5,
    dtype: str = "bool",
    stream: int | None = None,
) -> Any:
    """True (or 1) with probability p."""
    return _drawn(bernoulli_op, (), key, stream, {"shape": shape, "p": p, "dtype": dtype})


def permutation(key: Any = None, *, n: Size, stream: int | None = None) -> Any:
    """The integers 0 to n - 1 in random order: int64 [n]."""
    return _drawn(permutation_op, (), key, stream, {"n": n})


def dropout(x: Any, key: Any = None, *, p: float = 0.5, stream: int | None = None) -> Any:
    """Each element 0 with probability p, the others divided by 1 - p; the identity at test time.
    (Srivastava et al., 2014)"""
    _probability(p, ")")
    return x if p == 0 else _drawn(dropout_op, (x,), key, stream, {"p": p})[0]
