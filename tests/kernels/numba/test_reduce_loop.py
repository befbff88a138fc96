"""Generated reductions: accuracy, order, special values, and sharing among threads."""

import itertools

import numpy as np
import pytest

from noria.kernels.numba.body import body_of
from noria.kernels.numba.codegen import form_of
from noria.kernels.numba.reduce import Reduce
from noria.kernels.numba.reduce_loop import BLOCK, TILE, reduce_source
from noria.kernels.numba.space import Space
from tests.kernels.numba.running import compute, operator, reference, same_bits, team

SHAPES = [(7,), (1, 33), (17, 3), (3, 4, 5), (2, 3, 4, 5), (5, 2 * TILE + 3), (2, 3, BLOCK + 5)]


def all_axes(rank):
    return [a for k in range(rank + 1) for a in itertools.combinations(range(rank), k)]


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_axes_on_any_team(shape, size, split):
    """Small whole numbers, so that every order gives the same sum."""
    x = np.random.default_rng(1).integers(-9, 9, shape).astype("f")
    with team(size, split):
        for axes in all_axes(x.ndim):
            for name in ("reduce_sum", "reduce_max"):
                op = operator(name, [x], axis=axes)
                (got,) = compute(Reduce(), op, [x], threads=size)
                assert same_bits(got + 0, reference(op, [x])[0] + 0), (name, axes)


def errors(x, axis):
    """Largest errors of ours and NumPy's sum, relative to the sum of magnitudes."""
    op = operator("reduce_sum", [x], axis=axis)
    (got,) = compute(Reduce(), op, [x])
    exact = x.astype(np.longdouble).sum(axis=axis)
    scale = np.abs(x).astype(np.longdouble).sum(axis=axis)
    theirs = x.sum(axis=axis)
    return [float((np.abs(y.astype(np.longdouble) - exact) / scale).max()) for y in (got, theirs)]


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), [((1 << 20,), 0), ((4, 50_000), 1), ((20_000, 8), 0)])
def test_sums_are_as_exact_as_numpys_pairwise_ones(shape, axis, dtype, offset):
    x = (np.random.default_rng(1).standard_normal(shape) + offset).astype(dtype)
    ours, theirs = errors(x, axis)
    assert ours <= max(theirs, np.finfo(dtype).eps)


def test_a_long_float64_sum_loses_nothing():
    """Blocks are added without error: a naive loop would be off by hundreds of units. Within a
    block each lane adds up by itself, and narrow vectors have few of them."""
    x = np.full(3_000_001, 0.1)
    op = operator("reduce_sum", [x])
    (got,) = compute(Reduce(), op, [x])
    exact = x[0].astype(np.longdouble) * x.size
    assert abs(got.astype(np.longdouble) - exact) <= 8 * np.spacing(float(exact))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("name", ["reduce_sum", "reduce_mean", "reduce_max", "reduce_min"])
def test_nan_and_infinity_come_through(name, dtype, axis):
    import ml_dtypes

    x = np.ones((40, 40), np.float32)
    x[3, 5], x[7, 9], x[11, 13] = np.nan, np.inf, -np.inf
    x[2, 30], x[33, 30], x[30, 2], x[30, 33] = np.inf, -np.inf, np.inf, -np.inf
    x = x.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    op = operator(name, [x], axis=axis)
    assert same_bits(compute(Reduce(), op, [x])[0], reference(op, [x])[0])


def test_the_largest_of_only_minus_infinity_is_minus_infinity():
    x = np.full((3, 70), -np.inf, np.float32)
    for axis in (0, 1, None):
        (got,) = compute(Reduce(), operator("reduce_max", [x], axis=axis), [x])
        assert (got == -np.inf).all()


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_team_of_one_size_always_sums_in_the_same_order(axis):
    x = (np.random.default_rng(1).standard_normal((999, 333)) * 1e3).astype(np.float64)
    op = operator("reduce_sum", [x], axis=axis)
    with team(3):
        runs = [compute(Reduce(), op, [x], threads=3)[0] for _ in range(5)]
    assert all((r == runs[0]).all() for r in runs)


def test_a_row_is_reduced_in_a_register():
    op = operator("reduce_sum", [np.zeros((4, 8), "f")], axis=1)
    space = Space((4, 8), ((8, 1), (1, 0)), (False, True))
    source = reduce_source(form_of(body_of(op), space))
    inner = source.split("independent()")[1].splitlines()[1:3]
    assert [line.strip() for line in inner] == [
        "t1 = load_float32(q0, i)",
        "a0 = a0 + float64(t1)",
    ]


def test_columns_take_several_rows_at_a_time():
    op = operator("reduce_sum", [np.zeros((8, 4), "f")], axis=0)
    space = Space((8, 4), ((4, 0), (1, 1)), (True, False))
    source = reduce_source(form_of(body_of(op), space))
    assert (
        "store_float64(m0, i, load_float64(m0, i) + float64(t1u0) + float64(t1u1)"
        " + float64(t1u2) + float64(t1u3))" in source
    )
