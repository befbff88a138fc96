import numpy as np
import pytest

from noria.passes.fold_constants import MAX_ELEMENTS, fold_constants
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types


def folded(lines):
    before = program(lines)
    after, report = apply(fold_constants, before)
    assert_same_numbers(before, after)
    return after, report


def test_numbers_stay_fills_and_keep_their_dtype():
    after, report = folded("""
      a: float32[] = fill(shape=(), value=0.1)
      b: float32[] = fill(shape=(), value=0.2)
      add: float32[] = add(a, b)
      cast: float64[] = cast(add, dtype="float64")
      output y = cast
    """)
    assert types(after) == ["fill"] and len(report.fired) == 2
    assert after.operators[0].attrs["value"] == float(np.float32(0.1) + np.float32(0.2))


def test_arrays_become_constants():
    after, _ = folded("""
      a: float32[3] = constant(value=array(float32[3], 1.0, 2.0, 4.0))
      b: float32[] = fill(shape=(), value=2.0)
      mul: float32[3] = mul(a, b)
      output y = mul
    """)
    assert types(after) == ["constant"]
    assert after.operators[0].attrs["value"].tolist() == [2.0, 4.0, 8.0]


def test_an_array_that_is_the_same_everywhere_becomes_a_fill():
    after, _ = folded("""
      a: float32[2] = constant(value=array(float32[2], 1.0, 2.0))
      mul: float32[2] = mul(a, a)
      sub: float32[2] = sub(mul, mul)
      output y = sub
    """)
    assert types(after) == ["fill"] and after.operators[0].attrs["shape"] == (2,)


def test_an_empty_array_becomes_a_fill():
    after, _ = folded("""
      a: float32[0] = fill(shape=(0,), value=1.0)
      arange: int64[0] = arange(stop=0)
      gather: float32[0] = gather(a, arange)
      output y = gather
    """)
    assert types(after) == ["fill"]


def test_zeros_of_both_signs_are_not_the_same_everywhere():
    after, _ = folded("""
      a: float32[2] = constant(value=array(float32[2], 1.0, -1.0))
      b: float32[] = fill(shape=(), value=0.0)
      mul: float32[2] = mul(a, b)
      output y = mul
    """)
    assert types(after) == ["constant"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_nan_infinity_and_other_dtypes_are_kept(dtype):
    after, _ = folded(f"""
      a: {dtype}[2] = fill(shape=(2,), value=0.0, dtype="{dtype}")
      div: {dtype}[2] = div(a, a)
      log: {dtype}[2] = log(a)
      output a = div
      output b = log
    """)
    assert types(after) == ["fill", "fill"]


def test_fills_of_symbolic_size_fold_through_elementwise_and_arranging_ops():
    after, _ = folded("""
      a: float32[N, 1] = fill(shape=[N, 1], value=3.0)
      b: float32[] = fill(shape=(), value=2.0)
      mul: float32[N, 1] = mul(a, b)
      broadcast_to: float32[N, M] = broadcast_to(mul, shape=[N, M])
      input x: float32[N, M]
      add: float32[N, M] = add(x, broadcast_to)
      output y = add
    """)
    assert types(after) == ["fill", "add"]
    assert str(after.operators[0].outputs[0]) == "float32[N, M]"


def test_a_sum_over_a_symbolic_size_is_left_alone():
    after, report = folded("""
      input x: float32[N]
      a: float32[N] = fill(shape=[N], value=1.0)
      reduce_sum: float32[] = reduce_sum(a)
      dim_value: int64[] = dim_value(dim={N})
      output y = reduce_sum
      output n = dim_value
      output x = x
    """)
    assert types(after) == ["fill", "reduce_sum", "dim_value"] and not report.declined


def test_ops_without_inputs_fold_when_their_sizes_are_known():
    after, _ = folded("""
      arange: int64[4] = arange(stop=4)
      dim_value: int64[] = dim_value(dim=7)
      output y = arange
      output n = dim_value
    """)
    assert types(after) == ["constant", "fill"]


def test_an_op_with_several_outputs_gives_several_constants():
    after, _ = folded("""
      a: int64[4] = constant(value=array(int64[4], 1, 2, 3, 3))
      first, second: int64[2], int64[2] = split(a, num=2)
      output y = first
      output z = second
    """)
    assert types(after) == ["constant", "fill"]


def test_what_would_be_large_is_declined_with_the_reason():
    n = MAX_ELEMENTS
    after, report = folded(f"""
      a: float32[{n}] = fill(shape=({n},), value=1.0)
      b: float32[2] = constant(value=array(float32[2], 1.0, 2.0))
      c: float32[2, 1] = reshape(b, shape=(2, 1))
      mul: float32[2, {n}] = mul(c, a)
      output y = mul
    """)
    assert types(after) == ["fill", "constant", "mul"]
    assert reasons(report) == [f"mul has more than {n} elements"]


def test_an_op_that_fails_is_left_for_run_time():
    p = program("""
      a: float32[2] = constant(value=array(float32[2], 1.0, 2.0))
      i: int64[2] = constant(value=array(int64[2], 1, 5))
      gather: float32[2] = gather(a, i)
      output y = gather
    """)
    after, report = apply(fold_constants, p)
    assert after.operators == p.operators
    assert len(report.declined) == 1 and report.declined[0][0] == "gather"


def test_random_ops_and_control_flow_are_left_alone():
    p = program("""
      k: int64[2] = constant(value=array(int64[2], 1, 2))
      uniform: float32[2] = uniform(k, shape=(2,))
      p: bool[] = fill(shape=(), value=true, dtype="bool")
      cond: int64[2] = cond(p, k) {
        then(k1: int64[2]) {
          one: int64[] = fill(shape=(), value=1, dtype="int64")
          two: int64[] = add(one, one)
          add: int64[2] = add(k1, two)
          return add
        }
        otherwise(k2: int64[2]) {
          return k2
        }
      }
      output y = uniform
      output z = cond
    """)
    after, _ = apply(fold_constants, p)
    assert types(after) == ["constant", "uniform", "fill", "cond"]
    inner = after.operators[-1].blocks["then"].operators
    assert [o.type for o in inner] == ["fill", "add"]
    assert_same_numbers(p, after)


def test_constants_still_in_use_stay_and_values_keep_their_names():
    after, _ = folded("""
      input x: float32[2]
      a: float32[] = fill(shape=(), value=2.0)
      b: float32[] = sqrt(a)
      mul: float32[2] = mul(x, a)
      add: float32[2] = add(mul, b)
      output y = add
    """)
    assert [o.outputs[0].name for o in after.operators] == ["a", "b", "mul", "add"]


def test_a_program_without_constants_comes_back_as_it_was():
    p = program("""
      input x: float32[2]
      exp: float32[2] = exp(x)
      output y = exp
    """)
    assert apply(fold_constants, p)[0].operators == p.operators
