"""The checker is only worth something if it fails: each test here plants one bug."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError
from noria.ir.opdef import op, registry
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.testing import check
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case


@pytest.fixture
def define():
    """Declare ops that are forgotten when the test ends."""
    names = []

    def declare(infer, compute, grad=None, **options):
        definition = op(infer, **options)
        definition.compute(compute)
        if grad is not None:
            definition.grad(grad)
        names.append(definition.name)
        return definition.name

    yield declare
    for name in names:
        del registry[name]


def twice(x):
    return x


def test_a_right_op_passes(define):
    name = define(twice, lambda xp, x: x * 2, lambda g: o.mul(g, 2.0))
    case = Case(name, [arr(3, 2)], symbolic={0: {0: "N"}}, expect=lambda x: x + x, grad2=True)
    check_case(case)


def test_a_wrong_inferred_shape_is_found(define):
    def flat(x):
        return Spec((6,), x.dtype)

    name = define(flat, lambda xp, x: x * 2)
    with pytest.raises((AssertionError, ValueError), match=r"\[6\]"):
        check_case(Case(name, [arr(3, 2)]))


def test_a_shape_that_is_right_only_at_the_traced_size_is_found(define):
    def three(x):
        return Spec((3, 2), x.dtype)

    name = define(three, lambda xp, x: x * 2)
    with pytest.raises((AssertionError, ValueError), match=r"expected 3\n.*got +4"):
        check_case(Case(name, [arr(3, 2)], symbolic={0: {0: "N"}}))


def test_a_wrong_dtype_is_found_although_running_would_cast_it(define):
    name = define(twice, lambda xp, x: x.astype("float64") * 2)
    with pytest.raises(AssertionError, match=r"inference said float32.*computed was float64"):
        check_case(Case(name, [arr(3, 2)]))


def test_a_compute_that_returns_no_array_is_found(define):
    def total(x):
        return Spec((), x.dtype)

    name = define(total, lambda xp, x: 1.0)
    with pytest.raises(AssertionError, match="gave a float"):
        check_case(Case(name, [arr(3)]))


def test_a_wrong_number_is_found_and_its_place_told(define):
    name = define(twice, lambda xp, x: x * 2)
    with pytest.raises(AssertionError, match=r"1 of 6 numbers.*\n.*at \[0, 0\]"):
        check_case(Case(name, [arr(3, 2)], expect=lambda x: 2 * x + np.eye(3, 2) * [1, 0]))


def test_a_missing_output_is_found(define):
    name = define(twice, lambda xp, x: x * 2)
    with pytest.raises(AssertionError, match="1 outputs, expected 2"):
        check_case(Case(name, [arr(3)], expect=lambda x: (2 * x, x)))


def test_a_gradient_of_wrong_sign_is_found(define):
    name = define(twice, lambda xp, x: x * 2, lambda g: o.mul(g, -2.0))
    with pytest.raises(AssertionError, match=r"first order.*finite differences"):
        check_case(Case(name, [arr(3, 2)]))


def test_a_gradient_wrong_for_one_element_in_many_is_found(define):
    def grad(x, g):
        return o.mul(g, o.where(o.greater(x, 1.9), 2.001, 2.0))

    name = define(twice, lambda xp, x: x * 2, grad)
    with pytest.raises(AssertionError, match="first order"):
        check_case(Case(name, [arr(100)]))


def test_a_forgotten_gradient_is_found(define):
    def product(x, y):
        return x

    name = define(product, lambda xp, x, y: x * y, lambda y, g: (o.mul(g, y), None))
    with pytest.raises(AssertionError, match="first order"):
        check_case(Case(name, [arr(3), arr(3)]))
    check_case(Case(name, [arr(3), arr(3)], grad=[0]))


def test_a_gradient_that_is_right_but_hides_its_own_gradient_is_found(define):
    def cube(x):
        return x

    def grad(x, g):
        return o.mul(g, o.mul(3.0, o.square(o.stop_gradient(x))))

    name = define(cube, lambda xp, x: x**3, grad)
    check_case(Case(name, [arr(4)]))
    with pytest.raises(AssertionError, match="second order"):
        check_case(Case(name, [arr(4)], grad2=True))


def test_a_gradient_that_loses_precision_in_float32_is_found(define):
    def grad(g):
        return o.sub(o.add(o.mul(g, 2.0), 1e7), 1e7)

    name = define(twice, lambda xp, x: x * 2, grad)
    with pytest.raises(AssertionError, match="gradient of input 0 in float32"):
        check_case(Case(name, [arr(9)]))


def test_a_case_that_demands_a_gradient_of_an_op_without_one_fails(define):
    name = define(twice, lambda xp, x: x * 2)
    with pytest.raises(ValueError, match="has no gradient"):
        check_case(Case(name, [arr(3)], grad=True))


def test_a_function_with_kinks_everywhere_is_told_from_a_wrong_gradient(define):
    def compute(xp, x):
        return xp.abs(xp.sin(x * 1e6))

    name = define(twice, compute, lambda g: g)
    with pytest.raises(AssertionError, match="contradict"):
        check_case(Case(name, [arr(3)], jax=False))


def test_a_point_near_a_kink_is_left_for_another(define):
    def shifted(x):
        return x

    start = arr(1, dtype="float64").make((0, 0, 0))

    def compute(xp, x):
        return xp.abs(x - xp.asarray(start - 3e-6, x.dtype))

    def grad(x, g):
        return o.mul(g, o.sign(o.sub(x, start - 3e-6)))

    name = define(shifted, compute, grad)
    check_case(Case(name, [arr(1, dtype="float64")], jax=False))


def test_a_computation_that_differs_under_jax_is_found(define):
    pytest.importorskip("jax")

    def compute(xp, x):
        return x * 2 if xp.__name__ == "numpy" else x * 2.01

    name = define(twice, compute)
    with pytest.raises(AssertionError, match="jax, out0"):
        check_case(Case(name, [arr(3)]))
    check_case(Case(name, [arr(3)], jax=False))


def test_a_computation_that_looks_at_data_cannot_be_compiled_by_jax(define):
    pytest.importorskip("jax")
    name = define(twice, lambda xp, x: x * 2 if float(x[0]) > 0 else x * 3)
    with pytest.raises(Exception, match="traced"):
        check_case(Case(name, [arr(3)]))


def test_an_attribute_may_hold_a_symbolic_size(define):
    def grow(x, *, shape):
        return Spec(shape, x.dtype)

    def compute(xp, x, shape):
        return xp.broadcast_to(x, shape)

    name = define(grow, compute)
    shape = (symbol("N") + 1, symbol("N"))
    check_case(Case(name, [arr(3)], {"shape": shape}, symbolic={0: {0: "N"}}))


def test_symbols_that_disagree_are_refused():
    case = Case("add", [arr(3), arr(4)], symbolic={0: {0: "N"}, 1: {0: "N"}})
    with pytest.raises(ValueError, match="another size"):
        check_case(case)


def test_an_engine_that_differs_is_found():
    def wrong(program, feeds, state):
        return {n: np.zeros(v.shape, v.dtype) for n, v in program.outputs.items()}, {}

    check.engines.append(wrong)
    try:
        with pytest.raises(AssertionError, match="engine wrong"):
            check_case(Case("tanh", [arr(3)]))
    finally:
        check.engines.remove(wrong)


def test_engines_are_given_feeds_that_are_not_contiguous():
    from noria.ir.interpret import run_program

    seen = []

    def watch(program, feeds, state):
        seen.extend(a.flags.c_contiguous for a in feeds.values())
        return run_program(program, feeds, state)

    check.engines.append(watch)
    try:
        check_case(Case("tanh", [arr(3, 4)], grad=False))
    finally:
        check.engines.remove(watch)
    assert seen == [True, False]


def test_a_function_of_several_ops_is_checked_as_an_op_is():
    def fn(x, y):
        return o.mul(o.tanh(x), y), o.add(x, 1.0)

    case = Case("fn", [arr(3, 2), arr(2)], symbolic={0: {0: "N"}}, grad2=True)
    check_case(case, fn)
    with pytest.raises(AssertionError, match="computed"):
        check_case(Case("fn", [arr(3)], expect=lambda x: x * 3), lambda x: o.mul(x, 2.0))


def test_gradients_are_not_checked_at_points_that_are_not_finite():
    with pytest.raises(ArgumentError, match="finite"):
        check_case(Case("tanh", [np.array([np.nan, 1.0])]))


def test_nan_equals_nan_and_integers_must_be_exact():
    check_case(Case("tanh", [np.array([np.nan], np.float32)], expect=np.tanh, grad=False))
    with pytest.raises(AssertionError, match="equal was required"):
        check_case(Case("add", [ints(3), 1], expect=lambda x, y: x + y + (x == x[0])))
