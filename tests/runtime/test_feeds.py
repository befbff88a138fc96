"""What is fed is checked, and what is wrong with it is told."""

import ml_dtypes
import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, MissingError, NoriaError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.runtime.feeds import Feeds
from tests.runtime.programs import N, build, floats


def two_inputs(b):
    x, ids = b.input("image", (N, 3)), b.input("label", (N,), "int64")
    return {"y": o.reduce_sum(x), "z": o.reduce_sum(ids)}


@pytest.fixture
def feeds():
    return Feeds(build(two_inputs, "classify"))


def parts(error):
    """The labelled parts of a message."""
    return [line.split()[0] for line in str(error.value).splitlines()[1:]]


LABEL = np.arange(4)


def test_arrays_come_in_the_order_of_the_inputs(feeds):
    image = floats(4, 3)
    got = feeds.arrays({"label": LABEL, "image": image})
    assert got[0] is image and got[1] is LABEL
    assert feeds.sizes(got) == {"N": 4}


def test_what_is_like_an_array_is_taken(feeds):
    got = feeds.arrays({"image": np.ma.masked_array(floats(4, 3)), "label": [0, 1, 2, 3]})
    assert all(type(a) is np.ndarray for a in got)
    np.testing.assert_array_equal(got[1], LABEL)


def test_a_missing_feed_is_told(feeds):
    for given in ({"image": floats(4, 3)}, {"image": floats(4, 3), "label": None}):
        with pytest.raises(MissingError) as error:
            feeds.arrays(given)
        assert parts(error) == ["at", "expected", "got", "try"]
        assert "the feed 'label' is missing" in str(error.value)
        assert "image: float32[N, 3], label: int64[N]" in str(error.value)


def test_an_unknown_feed_is_told_with_the_name_nearest_to_it(feeds):
    with pytest.raises(MissingError) as error:
        feeds.arrays({"image": floats(4, 3), "label": LABEL, "lable": LABEL})
    assert parts(error) == ["at", "expected", "got", "try"]
    assert "no input 'lable'" in str(error.value) and "'label'" in error.value.hint


def test_a_program_without_inputs_takes_none():
    none = Feeds(build(lambda b: {"y": o.fill(shape=(), value=1.0)}))
    assert none.arrays({}) == [] and none.sizes([]) == {}
    with pytest.raises(MissingError, match="no input 'x'"):
        none.arrays({"x": LABEL})


@pytest.mark.parametrize("dtype", ["float64", "int32", ">f4", "float16", ml_dtypes.bfloat16, "O"])
def test_another_dtype_is_told_and_never_converted(feeds, dtype):
    with pytest.raises(DTypeError) as error:
        feeds.arrays({"image": floats(4, 3).astype(dtype), "label": LABEL})
    assert parts(error) == ["at", "expected", "got", "try"]
    assert "image.astype('float32')" in str(error.value)


def test_what_is_no_array_is_told(feeds):
    with pytest.raises(DTypeError, match="'image' is not an array"):
        feeds.arrays({"image": [[1.0], [1.0, 2.0]], "label": LABEL})


@pytest.mark.parametrize("shape", [(4,), (4, 2), (4, 3, 1), ()])
def test_another_shape_is_told(feeds, shape):
    arrays = feeds.arrays({"image": floats(*shape), "label": LABEL})
    with pytest.raises(ShapeError) as error:
        feeds.sizes(arrays)
    assert parts(error) == ["at", "expected", "got", "try"]
    assert "'image" in error.value.where and "'classify'" in error.value.where


def test_inputs_that_disagree_on_a_size_are_told(feeds):
    with pytest.raises(ShapeError) as error:
        feeds.sizes(feeds.arrays({"image": floats(4, 3), "label": np.arange(5)}))
    assert parts(error) == ["at", "expected", "got", "try"]
    assert "N=4" in str(error.value) and "5" in error.value.got


def test_every_error_is_one_of_noria(feeds):
    for given in ({}, {1: LABEL}, {"image": "text", "label": LABEL}):
        with pytest.raises(NoriaError):
            feeds.arrays(given)


def test_an_array_in_place_of_a_dict_is_told(feeds):
    with pytest.raises(ArgumentError) as error:
        feeds.arrays(floats(4, 3))
    assert parts(error) == ["at", "expected", "got", "try"]
    assert "{'image': array}" in str(error.value)


def test_sizes_of_plain_axes_are_those_that_solving_finds():
    def fn(b):
        t = symbol("T")
        x, splits, pairs = b.input("x", (t, 3)), b.input("splits", (N + 1,)), b.input("p", (N - 1,))
        return {"y": o.reduce_sum(x), "z": o.reduce_sum(splits), "w": o.reduce_sum(pairs)}

    feeds = Feeds(build(fn))
    given = [np.zeros(s, np.float32) for s in ((5, 3), (4,), (2,))]
    assert feeds.sizes(given) == {"T": 5, "N": 3} == feeds._solved(given)
    for wrong in (
        ((5, 2), (4,), (2,)),
        ((5, 3), (4,), (4,)),
        ((5, 3, 1), (4,), (2,)),
        ((5, 3), (0,), (2,)),
    ):
        assert feeds._plain_sizes([np.zeros(s, np.float32) for s in wrong]) == {}
        with pytest.raises(ShapeError):
            feeds.sizes([np.zeros(s, np.float32) for s in wrong])


def test_axes_that_need_solving_are_solved():
    def fn(b):
        return {"y": o.reduce_sum(b.input("x", (2 * N + 1, N)))}

    feeds = Feeds(build(fn))
    assert feeds.sizes([np.zeros((7, 3), np.float32)]) == {"N": 3}
    with pytest.raises(ShapeError):
        feeds.sizes([np.zeros((6, 3), np.float32)])
