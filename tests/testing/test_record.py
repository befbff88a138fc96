import numpy as np
import pytest

from noria.core.dims import symbol
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value
from noria.testing.case import Case, arr, ints
from noria.testing.check import load_ops
from noria.testing.record import Subject, as_list, is_float_array, named, record, strided

load_ops()


def test_a_function_becomes_a_program_that_computes_the_same():
    x, y = np.arange(6.0).reshape(2, 3), np.ones(3)
    recorded = record(lambda a, b: (o.add(a, b), o.mul(a, b)), [x, y])
    out, _ = run_program(recorded.program, recorded.feeds([x, y]), {})
    np.testing.assert_array_equal(out["out0"], x + y)
    np.testing.assert_array_equal(out["out1"], x * y)


def test_scalars_and_absent_inputs_are_no_feeds():
    recorded = record(lambda a, b, c: o.mul(a, b), [np.ones(2), 3.0, None])
    assert list(recorded.program.inputs) == ["x0"]
    assert recorded.inputs[1:] == [3.0, None]


def test_declared_shapes_may_be_open():
    recorded = record(o.tanh, [np.ones((2, 3))], [(symbol("N"), 3)])
    assert recorded.outputs[0].shape == (symbol("N"), 3)


def test_an_open_shape_may_be_that_of_a_scalar():
    recorded = record(o.tanh, [np.array(2.0)], [()])
    assert recorded.outputs[0].shape == ()


def test_a_subject_calls_its_op_with_the_attributes_of_the_case():
    subject = Subject(Case("clip", [arr(3)], {"low": 0.0}))
    (out,) = subject.eager([np.array([-1.0, 2.0])], {})
    assert out.tolist() == [0.0, 2.0]
    assert subject.record([np.ones(3)]).program.operators[-1].attrs["low"] == 0.0


def test_what_is_differentiable():
    assert Subject(Case("add", [arr(3), ints(3)])).floats() == [0]
    assert Subject(Case("add", [arr(3), arr(3)], grad=[1])).floats() == [1]
    assert Subject(Case("add", [arr(3), arr(3)])).differentiable()
    assert not Subject(Case("add", [arr(3), arr(3)], grad=False)).differentiable()
    assert not Subject(Case("add", [ints(3), ints(3)])).differentiable()
    assert not Subject(Case("equal", [arr(3), arr(3)])).differentiable()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 2)])
def test_strided_arrays_hold_the_same_numbers_elsewhere(shape):
    a = np.random.default_rng(0).standard_normal(shape)
    b = strided(a)
    np.testing.assert_array_equal(a, b)
    assert a.ndim == 0 or a.size < 2 or not b.flags.c_contiguous


def test_small_helpers():
    assert as_list(3) == [3] and as_list((1, 2)) == [1, 2]
    assert named("a", [5, 6]) == {"a0": 5, "a1": 6}
    assert is_float_array(np.ones(1)) and is_float_array(Value("v", (), "bfloat16"))
    assert not is_float_array(np.ones(1, int)) and not is_float_array(1.0)
