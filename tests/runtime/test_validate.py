"""NORIA_VALIDATE finds planted wrong kernels, and lets rounding pass."""

import ctypes

import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import EngineError
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Value
from noria.ir.text import parse_program
from noria.kernels import registry
from noria.kernels.call import Call
from noria.kernels.registry import Kernel, Prepared
from noria.runtime.executor import Executor
from noria.runtime.operands import array_at
from noria.runtime.plan import REORDER
from noria.runtime.validate import check_step, difference, rounding_of
from noria.testing.check import load_ops
from tests.runtime.programs import N, build, floats

load_ops()
Native = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_int64] * 4)


class Planted(Kernel):
    """Computes an op of one input by a Python function."""

    name = "planted:kernel"

    def __init__(self, op, fn):
        self.ops, self.fn = (op,), fn

    def bind(self, bound):
        x, y = bound.inputs[0], bound.outputs[0]

        def emit(inputs, outputs, packs, scratch):
            def run(*_):
                array_at(outputs[0], y)[...] = self.fn(array_at(inputs[0], x))
                return 0

            callback = Native(run)
            address = ctypes.cast(callback, ctypes.c_void_p).value
            return [Call(self.name, address, (0, 0, 0, 0), callback)]

        return Prepared(emit)


@pytest.fixture
def run_with(monkeypatch):
    """run_with(op, fn, x, **attrs): x through one op, which runs `fn` beside the reference."""

    def run(op, fn, x, validate=True, **attrs):
        monkeypatch.setattr(registry, "_kernels", [Planted(op, fn)])
        monkeypatch.setattr(registry, "_index", (-1, {}))
        shape = (N, *x.shape[1:])
        program = build(lambda b: {"y": getattr(o, op)(b.input("x", shape, x.dtype), **attrs)})
        with flags.set(validate=validate, kernels="planted"):
            return Executor(program, optimized=True).run({"x": x})["y"]

    return run


def test_a_right_kernel_passes(run_with):
    x = floats(5, 3)
    np.testing.assert_array_equal(run_with("square", np.square, x), x * x)


def test_a_wrong_kernel_is_named_with_op_line_and_way_out(run_with):
    def wrong(x):
        y = x * x
        y[-1, -1] += 0.1
        return y

    x = floats(5, 3)
    with pytest.raises(EngineError) as caught:
        run_with("square", wrong, x)
    text = str(caught.value)
    assert "kernel planted:kernel differs from the reference in 'square" in text
    assert "square at " in text and "test_validate.py" in text
    assert "expected float32[5, 3] as the reference computes it" in text
    assert "got      largest error 0.0" in text and "try      NORIA_KERNELS=reference" in text
    assert run_with("square", wrong, x, validate=False)[-1, -1] == wrong(x)[-1, -1]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_found(run_with, bad):
    with pytest.raises(EngineError, match="3 of 6 elements differ in being finite"):
        run_with("square", lambda x: np.where(x > 0, bad, x * x), np.float32([[1, -1]] * 3))


def test_nan_and_infinities_where_the_reference_has_them_pass(run_with):
    x = np.array([[np.nan, np.inf, -np.inf, 2.0]], np.float32)
    np.testing.assert_array_equal(run_with("square", np.square, x), x * x)


def test_another_infinity_is_found(run_with):
    x = np.array([[np.inf, 1.0]], np.float32)
    with pytest.raises(EngineError, match="1 of 2 elements differ in being finite"):
        run_with("square", lambda x: np.array([[-np.inf, 1.0]]), x)


def test_integers_must_be_equal(run_with):
    x = np.arange(6).reshape(2, 3)
    big = x + 2**40
    np.testing.assert_array_equal(run_with("square", np.square, x), x * x)
    with pytest.raises(EngineError, match="1 of 6 elements differ"):
        run_with("neg", lambda x: -x + (x == big[1, 1]), big)


def test_rounding_of_inputs_that_cancel_passes_and_no_more(run_with):
    x = np.array([[1e6, -1e6, 1.0]], np.float32)
    assert run_with("reduce_sum", lambda x: np.float32(1.1), x, axis=1) == np.float32(1.1)
    with pytest.raises(EngineError, match="largest error"):
        run_with("reduce_sum", lambda x: np.float32(2), x, axis=1)


def test_a_kernel_that_overwrites_its_input_is_checked_on_the_input_before(run_with):
    def in_place(x):
        y = x * x
        x[...] = 0
        return y

    np.testing.assert_array_equal(run_with("square", in_place, np.float32([[2, 3]])), [[4, 9]])


# ---- one step ----------------------------------------------------------------------------------


def step(op, inputs, outputs, sizes=None, **attrs):
    ins = tuple(None if a is None else Value(f"x{i}", a.shape, a.dtype) for i, a in inputs)
    outs = tuple(Value(f"y{i}", a.shape, a.dtype) for i, a in enumerate(outputs))
    operator = Operator(op, ins, outs, attrs)
    check_step(operator, "planted:kernel", [a for _, a in inputs], outputs, sizes or {})


def test_a_reorder_must_copy():
    x = floats(2, 3, 4)
    step(REORDER, [(0, x)], [np.asfortranarray(x)], layout="channels_last")
    with pytest.raises(EngineError, match="differs from the reference in 'y0'"):
        step(REORDER, [(0, x)], [x + 1], layout="channels_last")


def test_an_absent_input_is_no_input():
    x, w = floats(2, 3), floats(4, 3)
    step("linear", [(0, x), (1, w), (2, None)], [x @ w.T])
    with pytest.raises(EngineError):
        step("linear", [(0, x), (1, w), (2, None)], [x @ w.T + 1])


def test_the_reference_may_divide_by_zero_in_silence():
    x, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    step("div", [(0, x), (1, zero)], [np.full(2, np.inf, np.float32)])


# ---- the difference ----------------------------------------------------------------------------

ALLOWED = [
    ("float64", np.float64, 5e-10, 5e-9),
    ("float32", np.float32, 1e-4, 1e-3),
    ("float16", np.float16, 1e-2, 1e-1),
    ("bfloat16", ml_dtypes.bfloat16, 2e-2, 2e-1),
]


@pytest.mark.parametrize(("dtype", "kind", "small", "large"), ALLOWED)
def test_each_float_dtype_has_its_tolerance(dtype, kind, small, large):
    want = np.array([1, -1, 0.5], kind)
    assert difference((want * (1 + small)).astype(kind), want, dtype) is None
    problem = difference((want * (1 + large)).astype(kind), want, dtype)
    assert problem and "of the largest value" in problem


def test_the_scale_is_the_largest_number_or_the_floor():
    want = np.array([1000, 0], np.float32)
    assert difference(np.array([1000, 0.1], np.float32), want, "float32") is None
    assert difference(np.array([1000, 1], np.float32), want, "float32")
    zeros, off = np.zeros(2, np.float32), np.array([0, 1e-5], np.float32)
    assert difference(off, zeros, "float32")
    assert difference(off, zeros, "float32", floor=1.0) is None
    assert difference(zeros, zeros, "float32") is None


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_nothing_differs_from_nothing(dtype):
    assert difference(np.zeros((0, 3), dtype), np.zeros((0, 3), dtype), dtype) is None


def test_booleans_are_counted():
    got, want = np.array([[True, False], [True, True]]), np.array([[True, True], [True, False]])
    assert difference(got, want, "bool") == "2 of 4 elements differ"


def test_all_numbers_may_be_nan():
    nan = np.full(3, np.nan, np.float32)
    assert difference(nan, nan, "float32") is None
    assert difference(nan, np.ones(3, np.float32), "float32") == (
        "3 of 3 elements differ in being finite"
    )


def test_a_loop_with_halves_inside_has_their_tolerance():
    program = parse_program("""
    program p {
      input x: bfloat16[N]
      y: float32[N] = fused(x) {
        body(x: bfloat16[N]) {
          e: bfloat16[N] = exp(x)
          y: float32[N] = cast(e, dtype="float32")
          return y
        }
      }
      z: float32[N] = cast(x, dtype="float32")
      output y = y
      output z = z
    }""")
    loop, cast = program.operators
    assert rounding_of(loop, loop.outputs[0]) == "bfloat16"
    assert rounding_of(cast, cast.outputs[0]) == "float32"
    want = np.ones(3, np.float32)
    assert difference(want * 1.005, want, "float32", rounding="bfloat16") is None
    assert difference(want * 1.005, want, "float32")


def test_bits_of_a_mask_are_the_signs_of_what_the_kernel_gave():
    """A sum that is 0 but for rounding may be above 0 or not; a bit that belies its number not."""
    attrs = {"momentum": 0.1, "epsilon": 1e-5, "axis": 1, "mask": True}
    x = np.array([[1.0, -1.0], [-1.0, 1.0]], np.float32)
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    *wanted, mask = o.batch_norm_relu(x, ones, zeros, zeros, ones, **attrs)
    outs = tuple(Value(f"y{i}", a.shape, str(a.dtype)) for i, a in enumerate((*wanted, mask)))
    inputs = tuple(Value(f"x{i}", a.shape, "float32") for i, a in enumerate((x, *[ones] * 4)))
    op = Operator("batch_norm_relu", (*inputs, None, None, None), outs, attrs, {}, None, None)
    given = [x, ones, zeros, zeros, ones, None, None, None]
    rounded = [np.where(wanted[0] > 0, wanted[0], np.float32(1e-9)), *wanted[1:]]
    check_step(op, "k", given, [*wanted, mask], {})
    check_step(op, "k", given, [*rounded, np.full_like(mask, 3)], {})
    with pytest.raises(EngineError, match="differs from the reference in 'y5'"):
        check_step(op, "k", given, [*wanted, np.full_like(mask, 3)], {})
