"""Calling ops: emitted on Values, computed at once on arrays."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.call import bounded_arrays
from noria.ir.emit import Builder
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from tests.ir.programs import N


@pytest.fixture
def builder():
    with Builder(Program("p")) as b:
        yield b


def types(builder):
    return [operator.type for operator in builder.block.operators]


# ---- on values ---------------------------------------------------------------------------------


def test_a_python_number_takes_the_dtype_of_the_value_beside_it(builder):
    half, whole = builder.input("h", (2,), "float16"), builder.input("i", (2,), "int32")
    assert o.add(half, 1).dtype == "float16"
    assert o.mul(2.5, half).dtype == "float16"
    assert o.add(whole, 1).dtype == "int32"
    assert o.add(whole, 1.5).dtype == "float32"


def test_an_array_of_a_symbolic_size_becomes_an_operator(builder):
    out = o.broadcast_to(np.ones((1, 1), bool), shape=(N, 2))
    assert (out.shape, out.dtype) == ((N, 2), "bool") and types(builder)[-1] == "broadcast_to"


def test_dtypes_are_promoted_by_casts(builder):
    x, y = builder.input("x", (2,), "float16"), builder.input("y", (2,), "float32")
    assert o.add(x, y).dtype == "float32"
    assert types(builder) == ["cast", "add"]
    assert builder.block.operators[1].inputs[1] is y


def test_inputs_may_be_given_by_name_and_optional_ones_left_out(builder, own_ops):
    @op
    def test_affine(x, w=None, b=None, *, k=1):
        return x

    x = builder.input("x", (2,))
    test_affine(x, b=x)
    assert builder.block.operators[0].inputs == (x, None, x)
    with pytest.raises(ArgumentError, match="needs the input 'x'"):
        test_affine(w=x)
    with pytest.raises(ArgumentError, match="at most 3 inputs") as told:
        test_affine(x, x, x, x)
    assert "k=1" in told.value.hint


def test_many_inputs_may_come_as_a_list(builder):
    x, y = builder.input("x", (N, 2)), builder.input("y", (N, 3))
    joined = o.concat([x, y], axis=1)
    assert joined.shape == (N, 5) and builder.block.operators[-1].inputs == (x, y)
    arrays = [np.zeros((2, 1)), np.ones((2, 2))]
    assert np.array_equal(o.concat(arrays, axis=1), o.concat(*arrays, axis=1))
    assert np.array_equal(o.concat([[1, 2]], [[3]], axis=1), [[1, 2, 3]])
    with pytest.raises(ArgumentError, match="one list of them") as error:
        o.concat([x, y], 1)
    assert "axis" in str(error.value)


def test_an_error_tells_the_op_and_the_line(builder):
    x = builder.input("x", (2, 3))
    with pytest.raises(ShapeError, match="do not broadcast") as told:
        o.add(x, builder.input("y", (4,)))
    assert told.value.where.startswith("add at ") and "test_call.py:" in told.value.where
    assert types(builder) == []


def test_what_has_blocks_is_not_called_by_itself(builder, call_op):
    with pytest.raises(ArgumentError, match="is not called by itself"):
        o.test_call(builder.input("x", (2,)))


# ---- on arrays ---------------------------------------------------------------------------------


def test_a_call_on_arrays_computes():
    got = o.add(np.array([1, 2], np.float32), 1)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, [2, 3])


def test_arrays_are_promoted_as_values_are():
    assert o.add(np.zeros(2, np.float16), np.zeros(2, np.float32)).dtype == np.float32
    assert o.add(np.zeros(2, np.int8), 1.5).dtype == np.float32


def test_arrays_are_checked_as_values_are():
    with pytest.raises(ShapeError, match="do not broadcast"):
        o.add(np.zeros((2, 3)), np.zeros(4))
    for wrong in ("text", object(), np.array(["a"])):
        with pytest.raises(DTypeError):
            o.neg(wrong)


def test_computing_raises_no_warnings():
    assert np.isnan(o.log(np.array(-1.0)))
    assert np.isinf(o.div(np.array(1.0), np.array(0.0)))


def test_a_result_larger_than_allowed_is_refused_before_it_is_made():
    x = np.zeros((), np.float32)
    with bounded_arrays(1 << 20):
        assert o.broadcast_to(x, shape=(1 << 18,)).nbytes == 1 << 20
        with pytest.raises(ArgumentError, match="too large") as told:
            o.broadcast_to(x, shape=((1 << 18) + 1,))
    assert "1,048,580 bytes" in told.value.got
    assert o.broadcast_to(x, shape=((1 << 18) + 1,)).size > 1 << 18
