"""Philox 4x32-10, a counter-based generator: random bits as a function of a key and a counter.
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)

Written in 32-bit arithmetic, so that NumPy and jax (which has no 64-bit integers unless told) give
the same bits. A random op draws word i % 4 of block i // 4 for its element i, where

    key      = (seed, step), each modulo 2^32
    counter  = (block, 0, stream modulo 2^32, stream // 2^32)

so every element can be drawn alone, in any order, by any number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # what the keys grow by: golden ratio, square root of 3 minus 1
ROUNDS = 10
MASK = 0xFFFFFFFF


def multiply(xp: Any, a: Any, b: int) -> tuple[Any, Any]:
    """(high, low) 32 bits of the product of a uint32 array and a number below 2^32."""
    if xp is np:
        product = a.astype(np.uint64) * np.uint64(b)
        return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)
    u = xp.uint32
    a_low, a_high = a & u(0xFFFF), a >> u(16)
    b_low, b_high = u(b & 0xFFFF), u(b >> 16)
    cross = a_high * b_low + ((a_low * b_low) >> u(16))
    middle = a_low * b_high + (cross & u(0xFFFF))
    return a_high * b_high + (cross >> u(16)) + (middle >> u(16)), a * u(b)


def philox(xp: Any, counter: Sequence[Any], key: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Four uint32 arrays from four uint32 arrays of one shape and two uint32 scalars."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    with np.errstate(over="ignore"):  # of NumPy scalars; the keys wrap around
        for _ in range(ROUNDS):
            high0, low0 = multiply(xp, c0, MULTIPLIERS[0])
            high1, low1 = multiply(xp, c2, MULTIPLIERS[1])
            c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
            k0, k1 = k0 + xp.uint32(WEYL[0]), k1 + xp.uint32(WEYL[1])
    return c0, c1, c2, c3


def low_words(xp: Any, integers: Any) -> Any:
    """Integers modulo 2^32, as uint32."""
    if xp is np:
        return (np.asarray(integers).astype(np.int64) & MASK).astype(np.uint32)
    return xp.asarray(integers).astype("int32").astype("uint32")


def words(xp: Any, key: Any, stream: int, count: int) -> Any:
    """uint32 [count]: what an op draws. key: integers [2]."""
    blocks = -(-count // 4)
    block = xp.arange(blocks, dtype="uint32")
    lanes = [xp.full(blocks, xp.uint32(w)) for w in (0, stream & MASK, (stream >> 32) & MASK)]
    k = low_words(xp, key)
    drawn = philox(xp, (block, *lanes), (k[0], k[1]))
    return xp.stack(drawn, axis=1).reshape(-1)[:count]


def fold(xp: Any, key: Any, index: Any) -> Any:
    """Another key, int32 values >= 0 in the dtype of `key`, for each integer index (a scalar).

    The counter is one that `words` never uses: its second word is 1.
    """
    k, at = low_words(xp, key), low_words(xp, index).reshape(1)
    zero = xp.zeros_like(at)
    seed, step, _, _ = philox(xp, (at, zero + xp.uint32(1), zero, zero), (k[0], k[1]))
    return (xp.concatenate([seed, step]) >> xp.uint32(1)).astype(key.dtype)


# ---- floats ------------------------------------------------------------------------------------


def unit(xp: Any, key: Any, stream: int, count: int, dtype: str = "float32") -> Any:
    """Floats [count], uniform on [0, 1): multiples of 2^-53 for float64, else of 2^-24, in float32
    for halves too."""
    if dtype == "float64":
        pairs = words(xp, key, stream, 2 * count).reshape(count, 2)
        high = (pairs[:, 0] >> xp.uint32(5)).astype(dtype) * 2.0**-27
        return high + (pairs[:, 1] >> xp.uint32(6)).astype(dtype) * 2.0**-53
    return (words(xp, key, stream, count) >> xp.uint32(8)).astype("float32") * np.float32(2.0**-24)


def gauss(xp: Any, key: Any, stream: int, count: int, dtype: str = "float32") -> Any:
    """Floats [count] of mean 0 and variance 1; halves come as float32.  (Box & Muller, 1958)

    Words 2 i and 2 i + 1 make elements 2 i and 2 i + 1. None is farther from 0 than 6.8.
    """
    wide = "float64" if dtype == "float64" else "float32"
    drawn = words(xp, key, stream, count + count % 2).reshape(-1, 2).astype(wide)
    scale = np.dtype(wide).type(2.0**-32)
    radius = xp.sqrt(-2 * xp.log((drawn[:, 0] + np.dtype(wide).type(0.5)) * scale))
    angle = drawn[:, 1] * scale * np.dtype(wide).type(2 * np.pi)
    pairs = xp.stack([radius * xp.cos(angle), radius * xp.sin(angle)], axis=1)
    return pairs.reshape(-1)[:count]


# Of -log(1 - x^2) - 2.5; single precision.  (Giles, "Approximating the erfinv function", 2010)
CENTRAL = (
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


def erfinv(xp: Any, x: Any) -> Any:
    """The inverse of erf for |x| < 0.996, to 7 digits."""
    w = -xp.log((1 - x) * (1 + x)) - 2.5
    total = xp.zeros_like(x)
    for c in CENTRAL:
        total = total * w + c
    return total * x
