"""Operators on LLVM values, compiled one function at a time."""

import ctypes

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from noria.kernels.numba import expr, loader
from noria.kernels.numba.expr import F32, F64, I32, I64, Value

_C = {F32: ctypes.c_float, F64: ctypes.c_double, I32: ctypes.c_int32, I64: ctypes.c_int64}


@pytest.fixture
def evaluate(request):
    """evaluate(write, type, x, y): `write(Value, Value)` of numbers of an LLVM type."""
    count = 0

    def run(write, kind, *numbers):
        nonlocal count
        count += 1
        name = f"expr_{abs(hash(request.node.name))}_{count}"
        module = ir.Module()
        module.triple = llvm.get_process_triple()
        # called through a type that returns an int64, whatever the result
        function = ir.Function(module, ir.FunctionType(I64, [kind] * len(numbers)), name)
        builder = ir.IRBuilder(function.append_basic_block())
        result = write(*(Value(builder, a) for a in function.args))
        builder.ret(_as_int64(builder, result))
        code = loader.target_machine().emit_object(llvm.parse_assembly(str(module)))
        address = loader.load(loader.ObjectCode(name, (), code))
        bits = ctypes.CFUNCTYPE(ctypes.c_int64, *[_C[kind]] * len(numbers))(address)(*numbers)
        return _read(bits, result.type)

    return run


def _as_int64(builder, value):
    if value.is_float:
        value = expr.bits(value)
    return value.raw if value.type == I64 else builder.sext(value.raw, I64)


def _read(bits, kind):
    if kind == F32:
        return np.int32(bits).view(np.float32)
    return np.int64(bits).view(np.float64) if kind == F64 else bits


def test_arithmetic_of_floats_and_integers(evaluate):
    assert evaluate(lambda x, y: (x + y) * 2 - 1, F32, 1.5, 2.0) == 6
    assert evaluate(lambda x, y: 3 - x / y, F64, 1.0, 4.0) == 2.75
    assert evaluate(lambda x, y: (x + y) * 2 - 1, I32, 5, -7) == -5
    assert evaluate(lambda x: 1 / x, F32, 8.0) == 0.125
    assert evaluate(lambda x: -x, F32, 8.0) == -8
    assert evaluate(lambda x: -x, I64, 8) == -8


def test_bits_shift_and_combine(evaluate):
    assert evaluate(lambda x: x << 3, I32, 5) == 40
    assert evaluate(lambda x: x >> 1, I32, -7) == -4
    assert evaluate(lambda x: x.logical_shift(28), I32, -1) == 15
    assert evaluate(lambda x, y: (x & y) | (x ^ y), I64, 0b1100, 0b1010) == 0b1110


def test_comparisons_with_nan_are_false_but_for_unequal(evaluate):
    for test in (Value.__lt__, Value.__le__, Value.__gt__, Value.__ge__, Value.equals):
        assert evaluate(lambda x, y, t=test: t(x, y), F32, np.nan, 1.0) == 0
    assert evaluate(lambda x, y: x.differs(y), F32, np.nan, 1.0) == -1
    assert evaluate(lambda x: x.is_nan(), F32, np.nan) == -1
    assert evaluate(lambda x: ~x.is_nan(), F32, 1.0) == -1


def test_comparisons_of_integers_are_signed(evaluate):
    assert evaluate(lambda x: x < 0, I32, -1) == -1
    assert evaluate(lambda x: x >= 5, I64, 4) == 0


def test_constants_take_the_type_of_their_operand(evaluate):
    assert evaluate(lambda x: x * 0.1, F32, 1.0) == np.float32(0.1)
    assert evaluate(lambda x: x * 0.1, F64, 1.0) == 0.1
    assert expr.constant(F32, 0.1).constant == float(np.float32(0.1))


def test_clamp_keeps_nan(evaluate):
    clamp = expr.clamp
    assert [evaluate(lambda x: clamp(x, -1, 2), F32, v) for v in (-5, 0.5, 9)] == [-1, 0.5, 2]
    assert np.isnan(evaluate(lambda x: clamp(x, -1, 2), F32, np.nan))
    assert evaluate(lambda x: clamp(x, 3, None), I32, 1) == 3


def test_select_and_copysign(evaluate):
    assert evaluate(lambda x, y: expr.select(x > y, x, y), F64, 1.0, 2.0) == 2
    assert evaluate(lambda x, y: expr.select(x > y, 7.0, y), F64, 3.0, 2.0) == 7
    assert evaluate(expr.copysign, F32, 3.0, -0.0) == -3
    assert evaluate(expr.absolute, F32, -3.0) == 3


def test_patterns_and_widths(evaluate):
    assert evaluate(lambda x: expr.bits(x), F32, 1.0) == 0x3F800000
    assert evaluate(lambda x: expr.as_float(x), I32, 0x40000000) == 2
    assert evaluate(lambda x: expr.extend(x, F64), F32, 0.1) == float(np.float32(0.1))
    assert evaluate(lambda x: expr.truncate(x, F32), F64, 0.1) == np.float32(0.1)
    assert evaluate(lambda x: expr.extend(x, I64), I32, -1) == 2**32 - 1
    assert evaluate(lambda x: expr.truncate(x, I32), I64, 2**32 + 5) == 5
    assert evaluate(lambda x: expr.to_float(x, F32), I32, -3) == -3


def test_a_polynomial_is_horners(evaluate):
    assert evaluate(lambda x: expr.polynomial(x, (1, 2, 3)), F64, 10.0) == 321


def test_only_instructions_written_here_are_exact():
    """The kernel's own arithmetic may be passed in; it stays open to fast-math."""
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(F32, [F32]), "f")
    builder = ir.IRBuilder(function.append_basic_block())
    theirs = builder.fadd(function.args[0], function.args[0])
    ours = Value(builder, theirs) * 2.0
    assert ours.raw.exact and not hasattr(theirs, "exact")
