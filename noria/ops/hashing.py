"""Numbers from rows of numbers: hashes of their bytes, for tables without a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.dtypes import is_float, itemsize
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.packed import need_numpy
from noria.ops.ragged import ragged_range, sequence_starts
from noria.ops.sequence import sequence_lengths, sequence_splits

# xxHash by Y. Collet: the multipliers of the two widths
_PRIMES = {
    64: (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
         0x27D4EB2F165667C5),
    32: (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1),
}  # fmt: skip


@op
def xxhash(x, *, seeds, mod, bits=64):
    """xxHash of each row, modulo `mod`, for each seed: int64 [..., size] -> [..., seeds].

    x: integers or floats [..., size], little-endian bytes of which are hashed; bits: 64 or 32, of
    the hash; mod: at most 2^63. (Collet, 2012) XLA cannot compile it: it has no 64-bit integers.
    """
    if x.ndim < 1:
        raise ShapeError("a row has an axis", got=str(x))
    if x.dtype == "bool" or (is_float(x.dtype) and itemsize(x.dtype) < 4):
        raise ArgumentError("rows are integers or floats of 32 or 64 bits", got=str(x))
    if bits not in _PRIMES:
        raise ArgumentError("a hash has 64 or 32 bits", got=repr(bits))
    if not isinstance(mod, int) or not 0 < mod <= 1 << 63:
        raise ArgumentError("mod is a positive number", expected="1 to 2^63", got=repr(mod))
    if not seeds or any(not isinstance(s, int) or not 0 <= s < 1 << bits for s in seeds):
        raise ArgumentError("seeds are numbers", expected=f"0 to 2^{bits} - 1", got=repr(seeds))
    return Spec((*x.shape[:-1], len(seeds)), "int64")


@xxhash.compute
def _(xp, x, seeds, mod, bits):
    need_numpy(xp, "xxhash")
    size = x.shape[-1] * x.dtype.itemsize
    rows = np.ascontiguousarray(x).view(np.uint8).reshape(int(np.prod(x.shape[:-1])), size)
    found = [_hashed(rows, seed, bits) % np.asarray(mod, np.uint64) for seed in seeds]
    return np.stack(found, axis=-1).astype(np.int64).reshape(*x.shape[:-1], len(seeds))


def _hashed(rows: Any, seed: int, bits: int) -> Any:
    """uint64 [n], of rows of bytes uint8 [n, size]."""
    word: Any = np.uint64 if bits == 64 else np.uint32
    width = bits // 8
    p = [np.array([v], word) for v in _PRIMES[bits]]
    size, start = rows.shape[1], np.array([seed], word)
    stripes = size // (4 * width)
    if stripes:
        whole = rows[:, : stripes * 4 * width].copy().view(word)
        total = _stripes(whole.reshape(len(rows), stripes, 4), start, p, bits)
    else:
        total = np.repeat(start + p[4], len(rows))
    total = total + np.array([size & ((1 << bits) - 1)], word)
    total = _tail(total, rows[:, stripes * 4 * width :], p, bits)
    for shift, prime in zip(
        (33, 29, 32) if bits == 64 else (15, 13, 16), (1, 2, None), strict=True
    ):
        total = total ^ (total >> word(shift))
        total = total if prime is None else total * p[prime]
    return total.astype(np.uint64)


def _turn(x: Any, by: int, bits: int) -> Any:
    """The bits of each number turned to the left."""
    return (x << x.dtype.type(by)) | (x >> x.dtype.type(bits - by))


def _round(total: Any, lane: Any, p: Sequence[Any], bits: int) -> Any:
    return _turn(total + lane * p[1], 31 if bits == 64 else 13, bits) * p[0]


def _stripes(lanes: Any, seed: Any, p: Sequence[Any], bits: int) -> Any:
    """The sum of four lanes [n, stripes, 4] of a long row."""
    count = len(lanes)
    starts = (seed + p[0] + p[1], seed + p[1], seed, seed - p[0])
    sums = [np.repeat(s, count) for s in starts]
    for k in range(lanes.shape[1]):
        sums = [_round(s, lanes[:, k, i], p, bits) for i, s in enumerate(sums)]
    turned = [_turn(s, by, bits) for s, by in zip(sums, (1, 7, 12, 18), strict=True)]
    total = turned[0] + turned[1] + turned[2] + turned[3]
    if bits == 64:
        for s in sums:
            total = (total ^ _round(np.zeros_like(s), s, p, bits)) * p[0] + p[3]
    return total


def _tail(total: Any, rest: Any, p: Sequence[Any], bits: int) -> Any:
    """What is left of the rows behind the last stripe: words, then bytes."""
    word, at, size = total.dtype.type, 0, rest.shape[1]
    while bits == 64 and size - at >= 8:
        lane = rest[:, at : at + 8].copy().view(np.uint64)[:, 0]
        total = total ^ _round(np.zeros_like(total), lane, p, bits)
        total = _turn(total, 27, bits) * p[0] + p[3]
        at += 8
    while size - at >= 4:
        lane = rest[:, at : at + 4].copy().view(np.uint32)[:, 0].astype(word)
        if bits == 64:
            total = _turn(total ^ (lane * p[0]), 23, bits) * p[1] + p[2]
        else:
            total = _turn(total + lane * p[2], 17, bits) * p[3]
        at += 4
    for k in range(at, size):
        lane = rest[:, k].astype(word)
        if bits == 64:
            total = _turn(total ^ (lane * p[4]), 11, bits) * p[0]
        else:
            total = _turn(total + lane * p[4], 11, bits) * p[0]
    return total


# ---- n-grams without a vocabulary --------------------------------------------------------------


def ngrams(row_splits: Any, *, longest: int, size: str) -> tuple[Any, Any, Any]:
    """(first step, how many steps, row_splits) of all runs of 2 to `longest` steps of each row.

    int64 [size], the shorter ones of a row first; size: the name of a new symbol
    """
    if not isinstance(longest, int) or longest < 2:
        raise ArgumentError("a run has two steps or more", got=f"{longest=}")
    more = np.arange(1, longest)
    lengths = o.unsqueeze(sequence_lengths(row_splits), axis=1)
    counts = o.maximum(o.sub(lengths, more), 0)
    starts = o.add(o.unsqueeze(sequence_starts(row_splits), axis=1), np.zeros_like(more))
    flat = o.reshape(counts, shape=(-1,))
    first = ragged_range(o.reshape(starts, shape=(-1,)), flat, size=size)
    group = o.sequence_ids(sequence_splits(flat), total=first.shape[0])
    steps = o.add(o.remainder(group, longest - 1), 2)
    return first, steps, sequence_splits(o.reduce_sum(counts, axis=1))


def hash_embedding(
    ids: Any,
    first: Any,
    steps: Any,
    weight: Any,
    *,
    longest: int,
    size: int,
    chunk: int,
    space: int,
) -> Any:
    """A vector for each run of ids, of pieces of one vector that its hashes name: [P, size].

    ids: integers [T]; first, steps: as of `ngrams`; weight: [space + chunk]; the result has
    size / chunk pieces of `chunk` numbers, piece j begins at xxHash32(ids as float32, seed
    j * chunk) modulo space. (Chen et al., 2015: hashed weights)
    """
    if chunk < 1 or size % chunk:
        raise ArgumentError("a vector is made of whole pieces", got=f"{size=}, {chunk=}")
    seeds = tuple(range(0, size, chunk))
    behind = o.fill(shape=(longest,), value=0.0, dtype="float32")
    numbers = o.concat(o.cast(ids, dtype="float32"), behind, axis=0)
    place: Any = None
    for count in range(2, longest + 1):
        run = o.gather(numbers, o.add(o.unsqueeze(first, axis=1), np.arange(count)))
        found = xxhash(run, seeds=seeds, mod=space, bits=32)
        this = o.unsqueeze(o.equal(steps, count), axis=1)
        place = found if place is None else o.where(this, found, place)
    pieces = o.gather(weight, o.add(o.unsqueeze(place, axis=2), np.arange(chunk)))
    return o.reshape(pieces, shape=(place.shape[0], size))
