import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.testing.case import arr, ints
from noria.testing.kernel import check_kernel

GATHER, SCATTER, ONE_HOT = "numba:gather", "numba:scatter_rows", "numba:one_hot"
exact = {"tol": 0.0, "same_bits": True}


@pytest.mark.parametrize("width", [1, 3, 16, 64, 65, 200])
def test_embedding_takes_rows_of_any_length(width):
    inputs = [arr(30, width), ints(7, 5, high=30)]
    check_kernel("embedding", inputs, kernel=GATHER, symbolic={1: {0: "N"}}, special=True, **exact)


@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_ids_have_any_shape_and_two_dtypes(shape, dtype):
    check_kernel("embedding", [arr(9, 2), ints(*shape, high=9, dtype=dtype)], kernel=GATHER)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("shape", [(8,), (8, 3), (8, 2, 5)])
def test_tables_have_any_rank_and_float_dtype(shape, dtype):
    inputs = [arr(*shape, dtype=dtype), ints(11, high=8)]
    check_kernel("embedding", inputs, kernel=GATHER, special=True, **exact)


def test_many_ids_of_a_long_table():
    inputs = [arr(5000, 4), ints(3001, high=5000)]
    check_kernel("embedding", inputs, kernel=GATHER, symbolic={0: {0: "R"}}, **exact)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "int8"])
def test_gather_goes_along_any_axis_and_counts_from_the_end(axis, dtype):
    shape = (4, 5, 3)
    x = arr(*shape) if dtype == "float32" else ints(*shape, high=2, dtype=dtype)
    size = shape[axis]
    inputs = [x, ints(3, 2, low=-size, high=size)]
    check_kernel("gather", inputs, {"axis": axis}, kernel=GATHER, symbolic={1: {0: "N"}}, **exact)


@pytest.mark.parametrize("wrong", [-1, 30, 2**31 + 3])
def test_an_id_outside_the_table_is_told_as_the_reference_does(wrong):
    ids = np.array([0, 29, 5, wrong, 2])
    check_kernel("embedding", [arr(30, 3), ids], kernel=GATHER, raises=ArgumentError)


@pytest.mark.parametrize("wrong", [-5, 4])
def test_a_position_out_of_range_is_told_as_the_reference_does(wrong):
    ids = np.array([3, wrong, -4])
    check_kernel("gather", [arr(2, 4), ids], {"axis": 1}, kernel=GATHER, raises=ArgumentError)
    check_kernel(
        "scatter_rows", [ids, arr(3, 2)], {"shape": (4, 2)}, kernel=SCATTER, raises=ArgumentError
    )


@pytest.mark.parametrize("width", [1, 3, 16, 65])
@pytest.mark.parametrize("rows", [1, 7, 40])
def test_scattered_rows_are_added_in_order_whatever_the_team(width, rows):
    inputs = [ints(50, low=-rows, high=rows), arr(50, width, low=-1e3, high=1e3)]
    attrs = {"shape": (rows, width)}
    symbolic = {0: {0: "N"}, 1: {0: "N"}}
    check_kernel("scatter_rows", inputs, attrs, kernel=SCATTER, symbolic=symbolic, **exact)


def test_scattered_rows_keep_nan_and_infinities_in_their_places():
    inputs = [ints(4, 5, high=60, dtype="int32"), arr(4, 5, 2, 3)]
    check_kernel("scatter_rows", inputs, {"shape": (60, 2, 3)}, special=True, **exact)


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "bfloat16", "float16", "bool", "uint8", "int64"]
)
def test_one_hot_of_any_dtype_is_zero_for_ids_out_of_range(dtype):
    inputs = [ints(5, 3, low=-3, high=9)]
    attrs = {"depth": 6, "dtype": dtype}
    check_kernel("one_hot", inputs, attrs, kernel=ONE_HOT, symbolic={0: {0: "N"}}, **exact)


@pytest.mark.parametrize("shape", [(), (1,), (700,)])
def test_one_hot_adds_a_last_axis(shape):
    inputs = [ints(*shape, high=5, dtype="int32")]
    check_kernel("one_hot", inputs, {"depth": 5, "axis": len(shape)}, kernel=ONE_HOT, **exact)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "reason"),
    [
        ("embedding", [arr(3, 2), ints(4, high=3, dtype="uint8")], {}, "is uint8, not"),
        ("scatter_rows", [ints(4, high=3), arr(4, dtype="float64")], {"shape": (3,)}, "is float64"),
        ("one_hot", [ints(4)], {"depth": 3, "axis": 0}, "not the last one"),
    ],
)
def test_what_is_left_to_the_reference(op, inputs, attrs, reason):
    with pytest.raises(AssertionError, match=reason):
        check_kernel(op, inputs, attrs)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("rows", [1, 2, 77])
def test_ids_of_features_are_moved(rows, dtype):
    ids, how = ints(rows, 3, high=5, dtype=dtype), {"sizes": (5, 9, 6)}
    check_kernel("field_ids", [ids], how, kernel="numba:field_ids", symbolic={0: {0: "N"}})


def test_an_id_outside_its_feature_is_told_as_the_reference_does():
    ids = np.array([[0, 1], [4, 2]])
    how = {"kernel": "numba:field_ids", "raises": ArgumentError}
    check_kernel("field_ids", [ids], {"sizes": (5, 2)}, **how)
