"""Random numbers that are functions of (seed, step, stream): the same whatever the order, the
number of threads, or whether an operator is computed twice.

The generator is Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
2011), written in 32-bit arithmetic so that NumPy and jax give the same bits. Element i of an op is
word i % 4 of block i // 4; the key is (seed, step), the counter (block, stream).

key: int64 [2] = (seed, step). In a Program it is the state "random", whose step grows by one each
run; `random_key()` gives it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.dtypes import is_float
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.emit import building, current, loop_indices
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec, Value, as_shape, walk
from noria.ops.common import need_float

STATE = "random"
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10


def _multiply(xp: Any, a: Any, b: int) -> tuple[Any, Any]:
    """(high, low) 32 bits of a product, in halves of 16 bits."""
    u = xp.uint32
    a_low, a_high = a & u(0xFFFF), a >> u(16)
    b_low, b_high = u(b & 0xFFFF), u(b >> 16)
    cross = a_high * b_low + ((a_low * b_low) >> u(16))
    middle = a_low * b_high + (cross & u(0xFFFF))
    return a_high * b_high + (cross >> u(16)) + (middle >> u(16)), a * u(b)


def philox(xp: Any, counter: Sequence[Any], key: tuple[Any, Any]) -> list[Any]:
    """Four arrays of uint32 from four counters and two keys (uint32)."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    with np.errstate(over="ignore"):
        for _ in range(ROUNDS):
            h0, l0 = _multiply(xp, x0, _M0)
            h1, l1 = _multiply(xp, x2, _M1)
            x0, x1, x2, x3 = h1 ^ x1 ^ k0, l1, h0 ^ x3 ^ k1, l0
            k0, k1 = k0 + xp.uint32(_W0), k1 + xp.uint32(_W1)
    return [x0, x1, x2, x3]


def bits(xp: Any, key: Any, stream: int, count: int) -> Any:
    """uint32 [count]."""
    words = key.astype("int32").astype("uint32") if xp is not np else _low_words(key)
    blocks = -(-count // 4)
    block = xp.arange(blocks, dtype="uint32")
    zero = xp.zeros((blocks,), "uint32")
    lane = zero + xp.uint32(stream & 0xFFFFFFFF)
    high = zero + xp.uint32((stream >> 32) & 0xFFFFFFFF)
    out = philox(xp, (block, zero, lane, high), (words[0], words[1]))
    return xp.stack(out, axis=1).reshape(-1)[:count]


def _low_words(key: Any) -> Any:
    return (np.asarray(key).astype(np.int64) & 0xFFFFFFFF).astype(np.uint32)


def _count(shape: Shape) -> int:
    return math.prod(int(d) for d in shape)


def _unit(xp: Any, word: Any) -> Any:
    """float32 in [0, 1) from the upper 24 bits."""
    return (word >> xp.uint32(8)).astype("float32") * np.float32(2**-24)


def _key(key: Spec) -> None:
    if key.dtype != "int64" or tuple(key.shape) != (2,):
        raise ShapeError("a random key is (seed, step)", expected="int64[2]", got=str(key))


def _float(dtype: str) -> None:
    if not is_float(dtype):
        raise DTypeError("random floats need a float dtype", got=dtype)


# ---- distributions -----------------------------------------------------------------------------


@op(effect="random")
def uniform(key, *, shape, low=0.0, high=1.0, dtype="float32", stream=0):
    """Uniform on [low, high)."""
    _key(key)
    _float(dtype)
    return Spec(shape, dtype)


@uniform.compute
def _(xp, key, shape, low, high, dtype, stream):
    unit = _unit(xp, bits(xp, key, stream, _count(shape))).reshape(as_shape(shape))
    return (unit * np.float32(high - low) + np.float32(low)).astype(dtype)


def _gauss(xp: Any, key: Any, stream: int, count: int) -> Any:
    """Box and Muller (1958): two uniforms make two normals; pairs are (i, i + half)."""
    half = -(-count // 2)
    word = bits(xp, key, stream, 2 * half)
    radius = xp.sqrt(np.float32(-2) * xp.log(np.float32(1) - _unit(xp, word[:half])))
    angle = np.float32(2 * math.pi) * _unit(xp, word[half:])
    return xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)])[:count]


@op(effect="random")
def normal(key, *, shape, mean=0.0, std=1.0, dtype="float32", stream=0):
    """Gaussian."""
    _key(key)
    _float(dtype)
    return Spec(shape, dtype)


@normal.compute
def _(xp, key, shape, mean, std, dtype, stream):
    z = _gauss(xp, key, stream, _count(shape)).reshape(as_shape(shape))
    return (z * np.float32(std) + np.float32(mean)).astype(dtype)


@op(effect="random")
def truncated_normal(key, *, shape, mean=0.0, std=1.0, dtype="float32", stream=0):
    """Gaussian between two standard deviations, by the inverse of its distribution function.

    The inverse of erf is Giles' ("Approximating the erfinv function", 2010), single precision.
    """
    _key(key)
    _float(dtype)
    return Spec(shape, dtype)


_EDGE = math.erf(2 / math.sqrt(2))
_CENTRE = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)


def _erfinv(xp: Any, x: Any) -> Any:
    """For |x| < 0.96, where w = -log(1 - x^2) stays below 5."""
    w = -xp.log((1 - x) * (1 + x)) - np.float32(2.5)
    p = xp.full(x.shape, np.float32(_CENTRE[0]), "float32")
    for c in _CENTRE[1:]:
        p = np.float32(c) + p * w
    return p * x


@truncated_normal.compute
def _(xp, key, shape, mean, std, dtype, stream):
    unit = _unit(xp, bits(xp, key, stream, _count(shape))).reshape(as_shape(shape))
    centred = (np.float32(2) * unit - np.float32(1)) * np.float32(_EDGE)
    z = np.float32(math.sqrt(2)) * _erfinv(xp, centred)
    return (xp.clip(z, -2, 2) * np.float32(std) + np.float32(mean)).astype(dtype)


@op(effect="random")
def randint(key, *, shape, low=0, high, dtype="int64", stream=0):
    """Integers in [low, high), from 32 random bits (bias below (high - low) / 2^32)."""
    _key(key)
    if not low < high or high - low > 2**31:
        raise ArgumentError("randint needs low < high <= low + 2^31", got=f"{low}, {high}")
    return Spec(shape, dtype)


@randint.compute
def _(xp, key, shape, low, high, dtype, stream):
    word = bits(xp, key, stream, _count(shape)).reshape(as_shape(shape))
    high_bits, _ = _multiply(xp, word, high - low)
    return high_bits.astype(dtype) + xp.asarray(low, dtype)


@op(effect="random")
def bernoulli(key, *, shape, p=0.5, dtype="bool", stream=0):
    """1 with probability p."""
    _key(key)
    if not 0 <= p <= 1:
        raise ArgumentError("a probability lies in [0, 1]", got=repr(p))
    return Spec(shape, dtype)


@bernoulli.compute
def _(xp, key, shape, p, dtype, stream):
    unit = _unit(xp, bits(xp, key, stream, _count(shape))).reshape(as_shape(shape))
    return (unit < np.float32(p)).astype(dtype)


# ---- dropout -----------------------------------------------------------------------------------


@op(name="dropout", outputs=("out", "mask"), effect="random", overwrites=((0, 0),))
def dropout_op(x, key, *, p=0.5, stream=0):
    """(x / (1 - p) where kept, else 0; mask: bool, what was kept).

    An element is dropped with probability p. (Srivastava et al., 2014). Identity at test time.
    """
    need_float(x)
    _key(key)
    if not 0 <= p < 1:
        raise ArgumentError("dropout probability must be in [0, 1)", got=repr(p))
    return x, Spec(x.shape, "bool")


@dropout_op.compute
def _(xp, x, key, p, stream):
    kept = (_unit(xp, bits(xp, key, stream, x.size)) >= np.float32(p)).reshape(x.shape)
    return xp.where(kept, x / xp.asarray(1 - p, x.dtype), xp.zeros((), x.dtype)), kept


@dropout_op.grad
def _(mask, g_out, p):
    if g_out is None:
        return None, None
    return o.where(mask, o.mul(g_out, 1 / (1 - p)), 0.0), None


@dropout_op.for_test
def _(x, key, p, stream):
    return x


# ---- keys --------------------------------------------------------------------------------------


def next_key(key: Any) -> Any:
    """The key of the next step: (seed, step + 1)."""
    return o.add(key, np.array([0, 1], np.int64))


@op
def fold_key(key, index):
    """A key for each index, e.g. of a loop: Philox of (seed, step) under the counter `index`."""
    _key(key)
    if index.shape != ():
        raise ShapeError("the index must be a scalar", got=str(index))
    return key


@fold_key.compute
def _(xp, key, index):
    words = key.astype("int32").astype("uint32") if xp is not np else _low_words(key)
    at = xp.asarray(index).astype("int32").astype("uint32").reshape(1)
    zero = xp.zeros((1,), "uint32")
    out = philox(xp, (at, zero, zero, zero + xp.uint32(1)), (words[0], words[1]))
    return (xp.concatenate(out[:2]) >> xp.uint32(1)).astype(key.dtype)


def random_key() -> Value:
    """The key of the Program being built; its state is declared on first use.

    Inside loops the key is folded with the iteration of each, so each draws other numbers.
    """
    builder = building()
    root = builder.root
    fresh = STATE not in root.program.state
    key = root.state(STATE, (2,), "int64", init=("fill", {"value": 0}))
    if fresh:
        with root:
            root.update(STATE, next_key(key))
    key = builder.capture(key)
    for index in loop_indices():
        key = o.fold_key(key, index)
    return key


def next_stream() -> int:
    """A number no other random operator of the Program has."""
    root: Any = building().root
    root.streams = getattr(root, "streams", _streams_of(root.program)) + 1
    return int(root.streams)


def _streams_of(program: Any) -> int:
    return max((int(op.attrs.get("stream", 0)) for op in walk(program.block)), default=0)


def dropout(x: Any, key: Any = None, *, p: float = 0.5) -> Any:
    """Zero each element with probability p, scale the rest by 1 / (1 - p); identity at test time.

    key: default the Program's own. On arrays (eager) a key is needed unless p is 0.
    """
    if key is None and current() is not None:
        key = random_key()
    if key is None:
        if p == 0:
            return x
        raise ArgumentError(
            "dropout on arrays needs a key", hint="key=np.array([seed, step], np.int64)"
        )
    stream = next_stream() if current() is not None else 0
    out, _ = dropout_op(x, key, p=p, stream=stream)
    return out
