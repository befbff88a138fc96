import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.testing.case import Case, arr, ints
from noria.testing.check import load_ops
from noria.testing.gradient import backward, check_gradient
from noria.testing.record import Subject

load_ops()


def product(x, y):
    return o.mul(o.square(x), y)


def test_first_and_second_gradients_are_traced_and_run():
    arrays = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
    subject = Subject(Case("product", [arr(2, dtype="float64")] * 2), product)
    back = backward(subject, arrays, second=True)
    weights, along = [np.array([1.0, 10.0])], {0: np.ones(2), 1: np.zeros(2)}
    first, second = back.run(arrays, weights, along)
    assert first[0].tolist() == [2 * 1 * 3, 10 * 2 * 2 * 4]
    assert first[1].tolist() == [1, 10 * 4]
    assert second[0].tolist() == [2 * 3, 10 * 2 * 4]
    assert second[1].tolist() == [2 * 1, 10 * 2 * 2]


def test_an_input_nothing_depends_on_has_zero_gradient():
    case = Case("first", [arr(2), arr(3)], grad2=True)
    check_gradient(case, lambda x, y: o.square(x))


def test_only_the_inputs_named_are_differentiated():
    def fn(x, y):
        return o.mul(x, o.stop_gradient(y))

    check_gradient(Case("f", [arr(2), arr(2)], grad=[0]), fn)
    with pytest.raises(AssertionError):
        check_gradient(Case("f", [arr(2), arr(2)]), fn)


def test_integer_inputs_and_outputs_are_left_alone():
    def fn(x, i):
        return o.mul(x, o.cast(i, dtype=x.dtype)), o.add(i, 1)

    check_gradient(Case("f", [arr(3), ints(3)]), fn)


def test_open_sizes_stay_open_in_the_gradient():
    case = Case("product", [arr(3, 2), arr(2)], symbolic={0: {0: "N"}}, grad2=True)
    check_gradient(case, product)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_gradients_are_checked_in_the_dtype_of_the_case(dtype):
    check_gradient(Case("product", [arr(3, dtype=dtype), arr(3, dtype=dtype)]), product)


def test_infinite_inputs_have_no_gradient_to_check():
    with pytest.raises(ArgumentError, match="finite"):
        check_gradient(Case("tanh", [np.array([np.inf])]))
