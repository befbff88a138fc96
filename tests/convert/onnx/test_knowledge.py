"""What is known of values, and what is asked for where it is not."""

import numpy as np
import pytest

from noria import ops
from noria.convert.handlers import NeedsConstant
from noria.convert.onnx.knowledge import Knowledge
from noria.convert.onnx.sizes import tensor
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, FormatError
from noria.ir.emit import Builder
from noria.ir.program import Program

N = symbol("N")


@pytest.fixture
def builder():
    with Builder(Program()) as made:
        yield made


def test_arrays_are_known_and_inputs_are_asked_for(builder):
    known = Knowledge(builder, {}, measure=False)
    x = builder.input("x", (2,), "int64")
    assert known.const(np.array([1, 2]), "it").tolist() == [1, 2]
    with pytest.raises(NeedsConstant, match=r'constants=."x"'):
        known.sizes(ops.add(x, 1), "it")
    with pytest.raises(FormatError, match="it is missing"):
        known.const(None, "it")
    with pytest.raises(ArgumentError, match="tensor is needed"):
        known.value([x])


def test_sizes_stay_sizes_through_a_value(builder):
    known = Knowledge(builder, {}, measure=False)
    value = known.value(tensor([N, 3]))
    assert known.sizes(value, "it") == (N, 3)
    with pytest.raises(NeedsConstant, match=r"'N': \.\.\."):
        known.const(value, "it")


def test_data_tell_a_size_once(builder):
    known = Knowledge(builder, {"size": symbol("size")}, measure=True)
    x = builder.input("x", (2,), "int64")
    sizes = known.sizes(x, "it")
    assert [str(s) for s in sizes] == ["size_1", "size_2"]
    assert known.sizes(x, "it") == sizes
