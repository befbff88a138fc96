"""Reducing ops beside their reference: every kind, dtype and memory layout."""

import itertools

import numpy as np
import pytest

from noria.core.dtypes import to_numpy
from noria.kernels.numba.reduce import Reduce
from noria.kernels.numba.reduction import KINDS
from noria.kernels.registry import LAST, PLAIN
from tests.kernels.numba.running import compute, last, operator, reference, same_bits, team

KERNEL = Reduce()
DTYPES = ["float32", "bfloat16", "int8", "int64", "bool"]
MORE = ["float64", "float16", "uint8", "int32"]


def numbers(shape, dtype, seed=0):
    """Small whole numbers, so that sums and products are exact in any order."""
    rng = np.random.default_rng(seed)
    low = 0 if dtype in ("bool", "uint8") else -2
    return rng.integers(low, 2 if dtype == "bool" else 3, shape).astype(to_numpy(dtype))


def check(name, x, **attrs):
    op = operator(name, [x], **attrs)
    (got,), (want,) = compute(KERNEL, op, [x]), reference(op, [x])
    zero = np.zeros((), want.dtype)
    assert same_bits(got + zero, want + zero)  # -0 and 0 are one sum


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [*itertools.product(KINDS, DTYPES), *itertools.product(["mean", "max"], MORE)],
)
def test_every_kind_of_every_dtype(kind, dtype):
    x = numbers((5, 37), dtype)
    for axis in (0, 1):
        check(f"reduce_{kind}", x, axis=axis)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_extremes_of_the_widest_integers(kind):
    limits = np.iinfo("uint64")
    x = np.array([[limits.max, 0], [1, limits.max - 1]], np.uint64)
    check(f"reduce_{kind}", x, axis=1)


def test_integer_sums_are_int64():
    check("reduce_sum", np.full((3, 1000), 127, np.int8), axis=1)
    check("reduce_sum", np.full(10, 1 << 60, np.int64))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 1, -1, (0, 2), (1, 3), (0, 1, 2, 3), ()])
def test_axes_are_kept_on_demand(axis, keepdims):
    check("reduce_sum", numbers((2, 3, 4, 5), "float32"), axis=axis, keepdims=keepdims)


@pytest.mark.parametrize("axis", [(0, 2, 3), (2, 3), 1, (0, 1), 3, None])
def test_channels_last_is_reduced_where_it_lies(axis):
    x = last(numbers((3, 17, 4, 5), "float32"))
    check("reduce_mean", x, axis=axis)
    check("reduce_max", x, axis=axis, keepdims=True)


def test_views_are_reduced_where_they_lie():
    base = numbers((12, 10, 9), "float32")
    for x in (base[::2, ::-1, 1:8], base.T, base[:, 3, ::2]):
        for axis in range(x.ndim):
            check("reduce_sum", x, axis=axis)


@pytest.mark.parametrize("value", [0.0, -0.0, np.nan, 1e-40])
def test_what_is_not_zero_is_true(value):
    x = np.array([[value, 1], [value, 0]], np.float32)
    check("reduce_all", x, axis=1)
    check("reduce_any", x, axis=1)


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((3, 4), (4,)),
        ((3, 4), (3, 1)),
        ((3, 4), (1, 1)),
        ((2, 3, 4), (3, 1)),
        ((2, 3, 4), (1, 3, 4)),
        ((2, 1, 4), (1, 4)),
        ((5,), ()),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_sum_to_undoes_broadcasting(shape, target, dtype):
    check("sum_to", numbers(shape, dtype), shape=target)


def test_axes_of_size_1_reduce_to_themselves():
    check("reduce_sum", numbers((1, 1), "float32"))
    check("reduce_mean", numbers((1, 7), "bfloat16"), axis=0)
    check("reduce_max", numbers((), "float32"))


def test_random_reductions_on_teams():
    rng = np.random.default_rng(1)
    for seed in range(30):
        shape = tuple(int(n) for n in rng.choice([1, 2, 3, 7, 33], int(rng.integers(1, 5))))
        x = numbers(shape, "float32", seed).transpose(rng.permutation(len(shape)))
        axis = tuple(a for a in range(x.ndim) if rng.random() < 0.5)
        op = operator("reduce_sum", [x], axis=axis)
        size = int(rng.integers(1, 6))
        with team(size, split=rng.random() < 0.5):
            (got,) = compute(KERNEL, op, [x], threads=size)
        assert (got == reference(op, [x])[0]).all()


def test_any_layout_comes_in_and_plain_goes_out():
    op = operator("reduce_sum", [numbers((2, 3, 4, 5), "float32")], axis=1)
    assert KERNEL.layout(op, [LAST]) == ([None], [PLAIN])
