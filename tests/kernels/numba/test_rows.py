import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.kernels.numba.rows import BINS, DIGIT
from noria.testing.case import arr, ints
from noria.testing.kernel import check_kernel

NAME = "numba:merge_rows"


def check(ids, width=3, count=40, **options):
    n = ids.shape[0]
    check_kernel(
        "merge_rows",
        [ids, arr(n, width, low=-1e3, high=1e3)],
        {"shape": (count, width)},
        kernel=NAME,
        tol=0.0,
        same_bits=True,
        **options,
    )


@pytest.mark.parametrize("n", [1, 2, 3, 4, 17, 1000])
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_rows_of_one_id_are_summed_in_their_order(n, dtype):
    check(ints(n, high=40, dtype=dtype), symbolic={0: {0: "N"}, 1: {0: "N"}})


@pytest.mark.parametrize("width", [1, 16, 64, 65, 300])
def test_rows_have_any_length(width):
    check(ints(90, high=40), width)


def test_rows_have_any_rank():
    for shape in [(20,), (20, 2, 3)]:
        how = {"shape": (7, *shape[1:])}
        check_kernel("merge_rows", [ints(20, high=7), arr(*shape)], how, kernel=NAME)


@pytest.mark.parametrize(("bags", "per"), [(1, 26), (9, 5), (2, 70), (40, 1)])
@pytest.mark.parametrize("width", [1, 16, 17])
def test_a_row_belongs_to_all_ids_of_its_bag(bags, per, width):
    inputs = [ints(bags, per, high=30), arr(bags, width)]
    check_kernel("merge_rows", inputs, {"shape": (30, width)}, kernel=NAME, tol=0.0, same_bits=True)


@pytest.mark.parametrize(
    "ids",
    [
        np.full(50, 7),  # one id, which only one thread can own
        np.repeat([3, 9], 25),
        np.arange(50)[::-1].copy(),
        np.array([39, *[5] * 48, 0]),
        np.zeros(1, np.int64),
    ],
    ids=["one", "two", "all different", "runs over the bounds of threads", "single"],
)
def test_any_spread_of_ids(ids):
    check(ids, count=50)


@pytest.mark.parametrize("bits", [1, DIGIT - 1, DIGIT, DIGIT + 1, 2 * DIGIT + 1, 31])
def test_ids_of_any_number_of_bits_are_sorted(bits):
    top = min(2**bits, 2**31 - 1) - 1  # a table has less than 2^31 rows
    ids = np.array([top, 0, top // 2, top, 1, 0, top - 1, top // 3])
    check(ids, count=top + 1)


def test_ids_far_from_zero_are_sorted_by_what_they_differ_in():
    check(ints(60, low=2**30, high=2**30 + BINS // 2), count=2**31 - 1)


def test_nan_stays_with_its_id():
    rows = arr(30, 2)
    check_kernel(
        "merge_rows", [ints(30, high=9), rows], {"shape": (9, 2)}, kernel=NAME, special=True
    )


@pytest.mark.parametrize("wrong", [-1, 40, 2**40])
def test_an_id_that_is_no_row_is_told_as_the_reference_does(wrong):
    ids = np.array([3, wrong, 0])
    how = {"shape": (40, 2)}
    check_kernel("merge_rows", [ids, arr(3, 2)], how, kernel=NAME, raises=ArgumentError)


@pytest.mark.parametrize(
    ("ids", "dtype", "count", "reason"),
    [
        (ints(3, dtype="int16"), "float32", 40, "is int16"),
        (ints(3), "float64", 40, "is float64"),
        (ints(3), "float32", 2**31, "more than 31 bits"),
    ],
)
def test_what_is_left_to_the_reference(ids, dtype, count, reason):
    with pytest.raises(AssertionError, match=reason):
        inputs, how = [ids, arr(3, 2, dtype=dtype)], {"shape": (count, 2)}
        check_kernel("merge_rows", inputs, how, kernel=NAME)
