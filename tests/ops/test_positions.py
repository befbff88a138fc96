import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.program import Spec
from noria.ops.positions import in_range, index_depth, nd_index

IDS = np.array([[0, -1], [2, 1]])


def test_ids_in_range_pass_unchanged():
    assert in_range(np, IDS, 3) is IDS
    assert in_range(np, IDS.astype(np.uint64) * 0, 1).dtype == np.int64


@pytest.mark.parametrize(("size", "got"), [(2, r"2 at \[1, 0\]"), (0, r"0 at \[0, 0\]")])
def test_the_first_id_that_is_out_of_range_is_named_with_its_place(size, got):
    with pytest.raises(ArgumentError, match=got):
        in_range(np, IDS, size)


def test_a_single_id_is_checked_too():
    with pytest.raises(ArgumentError, match="-4"):
        in_range(np, np.array(-4), 3)


def test_only_arrays_of_numpy_can_be_looked_at():
    ids = object()
    assert in_range(object(), ids, 1) is ids


def test_the_depth_of_an_index_is_the_size_of_its_last_axis():
    x = Spec((symbol("N"), 3))
    assert index_depth(x, Spec((5, 2), "int64")) == 2
    for bad in ((5, 3), (5, 0), (), (symbol("N"),)):
        with pytest.raises(ShapeError):
            index_depth(x, Spec(bad, "int64"))
    with pytest.raises(DTypeError):
        index_depth(x, Spec((5, 2), "float32"))


def test_the_last_axis_becomes_an_index_of_numpy():
    x = np.arange(6).reshape(3, 2)
    assert x[nd_index(np, x, IDS)].tolist() == [x[0, -1], x[2, 1]]
