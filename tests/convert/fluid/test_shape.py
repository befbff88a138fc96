import numpy as np
import pytest

from noria.convert.handlers import NeedsConstant
from noria.core.errors import ArgumentError

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def test_a_zero_in_a_target_keeps_the_size_and_a_tensor_may_give_it(run_op):
    assert run_op("reshape2", {"X": X}, {"shape": [0, -1]})["Out"].shape == (2, 12)
    shape = np.array([4, 6], np.int32)
    got = run_op("reshape2", {"X": X, "Shape": shape}, constants=("Shape",))["Out"]
    assert got.shape == (4, 6)
    with pytest.raises(NeedsConstant, match="the target of a reshape") as error:
        run_op("reshape2", {"X": X, "Shape": shape})
    assert error.value.inputs == ("Shape",)


def test_squeeze_leaves_axes_of_other_sizes_and_one_axis(run_op):
    x = np.ones((1, 3, 1), np.float32)
    assert run_op("squeeze2", {"X": x}, {"axes": [0, 1]})["Out"].shape == (3, 1)
    assert run_op("squeeze2", {"X": x[:, :1]}, {"axes": []})["Out"].shape == (1,)


def test_axes_are_added_one_after_another(run_op):
    assert run_op("unsqueeze2", {"X": X}, {"axes": [0, -1]})["Out"].shape == (1, 2, 3, 4, 1)


def test_slices(run_op):
    attrs = {"axes": [1, 2], "starts": [-2, 1], "ends": [2147483647, -1]}
    assert np.array_equal(run_op("slice", {"Input": X}, attrs)["Out"], X[:, -2:, 1:-1])
    attrs = {"axes": [2], "starts": [-1], "ends": [-6], "strides": [-2]}
    assert np.array_equal(run_op("strided_slice", {"Input": X}, attrs)["Out"], X[:, :, ::-2])
    attrs = {"axes": [0], "starts": [1], "ends": [2], "decrease_axis": [0]}
    assert np.array_equal(run_op("slice", {"Input": X}, attrs)["Out"], X[1])


def test_what_a_section_leaves_open_is_worked_out(run_op):
    names = {"Out": ["a", "b", "c"]}
    got = run_op("split", {"X": X}, {"axis": 2, "sections": [1, -1, 1]}, names)
    assert [got[n].shape[2] for n in "abc"] == [1, 2, 1]
    with pytest.raises(ArgumentError, match="-1"):
        run_op("split", {"X": X}, {"axis": 2, "sections": [-1, -1]}, names)


def test_a_crop_takes_what_remains(run_op):
    attrs = {"offsets": [0, 1, 2], "shape": [2, -1, 1]}
    assert np.array_equal(run_op("crop_tensor", {"X": X}, attrs)["Out"], X[:, 1:, 2:3])


def test_padding_of_images(run_op):
    x = X[None]
    attrs = {"paddings": [1, 0, 2, 1], "mode": "reflect"}
    want = np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 1)), mode="reflect")
    assert np.array_equal(run_op("pad2d", {"X": x}, attrs)["Out"], want)


@pytest.mark.parametrize("num", [1 << 30, -1])
def test_a_number_of_parts_no_operator_has_is_refused(run_op, num):
    with pytest.raises(ArgumentError, match="the number of parts"):
        run_op("split", {"X": X[:0]}, {"axis": 0, "num": num}, {"Out": ["a", "b"]})
