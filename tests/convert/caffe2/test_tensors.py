"""Dtypes and tensors of Caffe2."""

import numpy as np
import pytest

from noria.convert.caffe2.tensors import array_of, dtype_of
from noria.convert.messages import schema
from noria.core.errors import DTypeError, FormatError


def test_half_floats_are_stored_as_their_bits() -> None:
    half = np.array([0.5, -2.0], np.float16)
    tensor = schema("caffe2").TensorProto(dims=[2], data_type=12)
    tensor.int32_data.extend(half.view(np.uint16).astype(int))
    assert np.array_equal(array_of(tensor), half)


def test_raw_bytes_of_half_a_number_are_refused() -> None:
    tensor = schema("caffe2").TensorProto(dims=[1], data_type=1, raw_data=b"abc")
    with pytest.raises(FormatError, match="half a number"):
        array_of(tensor)


def test_a_tensor_that_lies_about_its_sizes_is_refused() -> None:
    tensor = schema("caffe2").TensorProto(dims=[1 << 30], float_data=[1.0])
    with pytest.raises(FormatError, match="number of values"):
        array_of(tensor)


def test_dtypes_are_numbers_or_words() -> None:
    assert dtype_of(2, "here") == dtype_of("int", "here") == dtype_of("INT32", "here") == "int32"
    with pytest.raises(DTypeError, match="strings"):
        dtype_of(4, "here")
