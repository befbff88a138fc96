import itertools

import numpy as np
import pytest

from noria.core.errors import EngineError, NoriaError
from noria.ops import hashing
from noria.ops.hashing import xxhash
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

LIMIT = {32: 1 << 32, 64: 1 << 64}


def turned(x, by, bits):
    return ((x << by) | (x >> (bits - by))) % LIMIT[bits]


def reference(data, seed, bits):
    """The published algorithm on Python's own integers, byte by byte."""
    m = LIMIT[bits]
    if bits == 64:
        p = (
            11400714785074694791,
            14029467366897019727,
            1609587929392839161,
            9650029242287828579,
            2870177450012600261,
        )
    else:
        p = (2654435761, 2246822519, 3266489917, 668265263, 374761393)
    width, spin = bits // 8, 31 if bits == 64 else 13

    def mix(total, lane):
        return turned((total + lane * p[1]) % m, spin, bits) * p[0] % m

    at, h = 0, (seed + p[4]) % m
    if len(data) >= 4 * width:
        sums = [(seed + p[0] + p[1]) % m, (seed + p[1]) % m, seed, (seed - p[0]) % m]
        while len(data) - at >= 4 * width:
            for i in range(4):
                sums[i] = mix(sums[i], int.from_bytes(data[at : at + width], "little"))
                at += width
        h = sum(turned(s, by, bits) for s, by in zip(sums, (1, 7, 12, 18), strict=True)) % m
        for s in sums if bits == 64 else ():
            h = ((h ^ mix(0, s)) * p[0] + p[3]) % m
    h = (h + len(data)) % m
    while bits == 64 and len(data) - at >= 8:
        h = turned(h ^ mix(0, int.from_bytes(data[at : at + 8], "little")), 27, bits)
        h, at = (h * p[0] + p[3]) % m, at + 8
    while len(data) - at >= 4:
        lane = int.from_bytes(data[at : at + 4], "little")
        if bits == 64:
            h = (turned(h ^ (lane * p[0] % m), 23, bits) * p[1] + p[2]) % m
        else:
            h = turned((h + lane * p[2]) % m, 17, bits) * p[3] % m
        at += 4
    for byte in data[at:]:
        if bits == 64:
            h = turned(h ^ (byte * p[4] % m), 11, bits) * p[0] % m
        else:
            h = turned((h + byte * p[4]) % m, 11, bits) * p[0] % m
    for shift, prime in zip(
        (33, 29, 32) if bits == 64 else (15, 13, 16), (1, 2, None), strict=True
    ):
        h ^= h >> shift
        h = h if prime is None else h * p[prime] % m
    return h


def expected(seeds, mod, bits=64):
    def apply(x):
        rows = x.reshape(-1, x.shape[-1])
        out = [[reference(r.tobytes(), s, bits) % mod for s in seeds] for r in rows]
        return np.array(out, np.int64).reshape(*x.shape[:-1], len(seeds))

    return apply


def case(x, seeds, mod, bits=64):
    attrs = {"seeds": seeds, "mod": mod, "bits": bits}
    expect = expected(seeds, mod, bits)
    return Case("xxhash", [x], attrs, expect=expect, jax=False, id=f"{x}-{bits}")


CASES = [
    case(ints(3, 1, high=99, dtype="int32"), (0, 1), 10000),
    case(ints(2, 3, 5, high=1 << 40), (7,), 1 << 62),
    case(ints(2, 11, low=-5, high=99, dtype="int32"), (0, (1 << 64) - 1), 1 << 32),
    case(ints(4, 3, high=99, dtype="int32"), (0, 16), 1 << 32, 32),
    case(ints(4, 9, high=99), (5,), 977, 32),
    case(ints(3, 19, high=99, dtype="uint8"), (5,), 977),
    case(ints(3, 19, high=99, dtype="uint8"), (5,), 977, 32),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_published_hashes():
    assert reference(b"", 0, 64) == 0xEF46DB3751D8E999
    assert reference(b"", 0, 32) == 0x02CC5D05
    text = np.frombuffer(b"abc", np.uint8)
    assert xxhash(text, seeds=(0,), mod=1 << 32, bits=32).tolist() == [0x32D153FF]
    assert xxhash(text, seeds=(0,), mod=1 << 63)[0] == 0x44BC2CF5AD770999


SPLITS = np.array([0, 3, 3, 4, 8])


def runs(longest):
    out, counts = [], []
    for a, b in itertools.pairwise(SPLITS):
        found = [(t, n) for n in range(2, longest + 1) for t in range(a, b - n + 1)]
        out += found
        counts.append(len(found))
    return out, np.cumsum([0, *counts])


@pytest.mark.parametrize("longest", [2, 3, 5])
def test_runs_of_steps_stay_within_their_row(longest):
    first, steps, splits = hashing.ngrams(SPLITS, longest=longest, size="n")
    found, counts = runs(longest)
    assert list(zip(first.tolist(), steps.tolist(), strict=True)) == found
    assert splits.tolist() == counts.tolist()


def test_a_run_is_made_of_pieces_its_hashes_name():
    ids = np.array([5, 3, 9, 2, 7, 7, 1, 4])

    def fn(weight):
        first, steps, _ = hashing.ngrams(SPLITS, longest=3, size="n")
        options = {"longest": 3, "size": 6, "chunk": 2, "space": 10}
        return hashing.hash_embedding(ids, first, steps, weight, **options)

    def expect(weight):
        rows = []
        for t, n in runs(3)[0]:
            data = ids[t : t + n].astype(np.float32).tobytes()
            places = [reference(data, seed, 32) % 10 for seed in (0, 2, 4)]
            rows.append(np.concatenate([weight[p : p + 2] for p in places]))
        return np.array(rows)

    check_case(Case("pieces", [arr(12)], expect=expect, grad=[0], jax=False), fn)


X = np.ones((2, 3), np.int64)
WRONG = {
    "no seeds": lambda: xxhash(X, seeds=(), mod=10),
    "a negative seed": lambda: xxhash(X, seeds=(-1,), mod=10),
    "mod 0": lambda: xxhash(X, seeds=(0,), mod=0),
    "bits of no hash": lambda: xxhash(X, seeds=(0,), mod=10, bits=16),
    "booleans": lambda: xxhash(X > 0, seeds=(0,), mod=10),
    "runs of one step": lambda: hashing.ngrams(SPLITS, longest=1, size="n"),
    "half a piece": lambda: hashing.hash_embedding(
        X[0], X[0], X[0], X[0] * 1.0, longest=2, size=5, chunk=2, space=3
    ),
    "a scalar": lambda: xxhash(X[0, 0], seeds=(0,), mod=10),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(NoriaError):
        call()


def test_xla_cannot_compile_it():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(EngineError, match="XLA"):
        xxhash.run(jnp, [X], {"seeds": (0,), "mod": 10, "bits": 64})


def test_every_op_has_a_case():
    assert {c.op for c in CASES} == {"xxhash"}
