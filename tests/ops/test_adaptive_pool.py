import math

import numpy as np
import pytest

import noria.ops.adaptive_pool as family
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import OpDef, lookup
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

ROWS = {0: {0: "N"}}


def places(sizes, size):
    """(window, the positions it sees, in row-major order)."""
    for window in np.ndindex(*size):
        axes = zip(window, sizes, size, strict=True)
        ranges = [range(i * n // m, math.ceil((i + 1) * n / m)) for i, n, m in axes]
        yield (
            window,
            [
                tuple(r)
                for r in np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, len(size))
            ],
        )


def listed(size, n):
    return (size,) * n if isinstance(size, int) else size


def largest(size):
    def apply(x):
        wanted = listed(size, x.ndim - 2)
        out = np.zeros((*x.shape[:2], *wanted), x.dtype)
        for window, seen in places(x.shape[2:], wanted):
            out[(..., *window)] = np.max([x[(..., *at)] for at in seen], axis=0)
        return out

    return apply


def mean(size):
    def apply(x):
        wanted = listed(size, x.ndim - 2)
        out = np.zeros((*x.shape[:2], *wanted))
        for window, seen in places(x.shape[2:], wanted):
            out[(..., *window)] = np.mean([x[(..., *at)] for at in seen], axis=0, dtype=np.float64)
        return out

    return apply


def to_means(sizes):
    def apply(grad):
        total = np.zeros((*grad.shape[:2], *sizes))
        for window, seen in places(sizes, grad.shape[2:]):
            for at in seen:
                total[(..., *at)] += grad[(..., *window)] / len(seen)
        return total

    return apply


def winners(x, size):
    for i in np.ndindex(x.shape[:2]):
        for window, seen in places(x.shape[2:], size):
            yield (*i, *window), (*i, *max(seen, key=lambda at, i=i: x[(*i, *at)]))


def to_winners(x, pooled, grad):
    total = np.zeros(x.shape)
    for window, at in winners(x, pooled.shape[2:]):
        total[at] += grad[window]
    return total


def of_winners(x, pooled, values):
    picked = np.zeros(pooled.shape)
    for window, at in winners(x, pooled.shape[2:]):
        picked[window] = values[at]
    return picked


def cases(x, size, symbolic=None):
    n = len(x) - 2
    values = np.random.default_rng(1).permutation(math.prod(x)).reshape(x).astype(np.float32)
    best = largest(size)(values)
    how = {"size": size}
    return [
        Case(
            f"adaptive_max_pool{n}d",
            [arr(*x, distinct=True)],
            how,
            expect=largest(size),
            symbolic=symbolic,
            grad2=True,
        ),
        # linear in the last input, and constant where x and its result stay what they are
        Case(
            f"adaptive_max_pool{n}d_grad",
            [values, best, arr(*best.shape)],
            expect=to_winners,
            grad=[2],
            grad2=True,
        ),
        Case(
            f"adaptive_max_pool{n}d_pick",
            [values, best, arr(*x)],
            expect=of_winners,
            grad=[2],
            grad2=True,
        ),
        Case(
            f"adaptive_avg_pool{n}d",
            [arr(*x)],
            how,
            expect=mean(size),
            symbolic=symbolic,
            grad2=True,
        ),
        Case(
            f"adaptive_avg_pool{n}d_grad",
            [arr(*best.shape)],
            {"sizes": x[2:]},
            expect=to_means(x[2:]),
            symbolic=ROWS,
            grad2=True,
        ),
    ]


TIES = np.array([[[[1, 1, 0], [1, 1, 2], [0, 2, 2]]]], np.float32)
CASES = [
    *cases((2, 3, 6, 4), (3, 2), symbolic=ROWS),
    *cases((2, 2, 7, 5), (3, 4), symbolic={0: {0: "N", 2: "H", 3: "W"}}),
    *cases((1, 2, 2, 3), 5),  # more windows than elements
    *cases((1, 2, 4, 5), 1),
    *cases((2, 3, 7), 3, symbolic={0: {2: "T"}}),
    *cases((1, 2, 3, 5, 4), (2, 3, 1), symbolic=ROWS),
    Case("adaptive_avg_pool2d", [arr(0, 2, 4, 4)], {"size": 2}),
    Case("adaptive_avg_pool2d", [arr(1, 2, 9, 9, dtype="bfloat16")], {"size": 2}, expect=mean(2)),
    Case("adaptive_max_pool2d", [ints(1, 2, 5, 5, low=-9)], {"size": 2}, expect=largest(2)),
    Case(
        "adaptive_max_pool2d_grad",
        [TIES, largest(2)(TIES), arr(1, 1, 2, 2)],
        expect=to_winners,
        grad=[2],
        id="ties",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    found = {d.name for d in vars(family).values() if isinstance(d, OpDef)}
    assert found == {c.op for c in CASES}


def test_windows_cover_everything_and_overlap_where_they_must():
    first, end = family.bounds(7, 3)
    assert first.tolist() == [0, 2, 4] and end.tolist() == [3, 5, 7]


@pytest.mark.parametrize("name", ["adaptive_max_pool2d", "adaptive_avg_pool2d"])
def test_bad_arguments_are_refused(name):
    definition = lookup(name)
    for size in (0, (2,), (2, None)):
        with pytest.raises(ArgumentError, match="size"):
            definition(np.ones((1, 1, 4, 4)), size=size)
    with pytest.raises(ShapeError, match="rank"):
        definition(np.ones((1, 4, 4)), size=2)
    with pytest.raises(ShapeError, match="nothing to pool"):
        definition(np.ones((1, 1, 0, 4)), size=2)
    with pytest.raises(DTypeError):
        definition(np.ones((1, 1, 4, 4), bool), size=2)
