"""LLVM values with Python operators, so that a polynomial reads like a polynomial.

Everything written with these is *exact*: no fast-math flag is ever put on it, so range reductions,
error terms and tests for NaN mean what they say. Only scalars are written; LLVM's loop vectoriser
turns them into vectors.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from llvmlite import ir

F32, F64 = ir.FloatType(), ir.DoubleType()
I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
_SUFFIX = {F32: "f32", F64: "f64"}
_COMPARE = {"<", "<=", ">", ">=", "=="}

Number = int | float


class Value:
    """A scalar of LLVM type `type`; an operand that is a Python number takes the other's type."""

    __slots__ = ("builder", "raw")

    def __init__(self, builder: ir.IRBuilder, raw: ir.Value) -> None:
        self.builder, self.raw = builder, raw

    @property
    def type(self) -> ir.Type:
        return self.raw.type

    @property
    def is_float(self) -> bool:
        return self.type in (F32, F64)

    def of(self, raw: ir.Value) -> Value:
        """Wraps an instruction just written; the fast-math pass of the compiler leaves it alone."""
        if isinstance(raw, ir.Instruction):
            raw.exact = True
        return Value(self.builder, raw)

    def like(self, x: Value | Number) -> Value:
        """`x`, as a constant of this value's type if it is a Python number."""
        if isinstance(x, Value):
            return x
        return self.of(constant(self.type, x))

    def _binary(self, other: Value | Number, floating: str, integer: str) -> Value:
        method = getattr(self.builder, floating if self.is_float else integer)
        return self.of(method(self.raw, self.like(other).raw))

    def __add__(self, other: Value | Number) -> Value:
        return self._binary(other, "fadd", "add")

    def __sub__(self, other: Value | Number) -> Value:
        return self._binary(other, "fsub", "sub")

    def __mul__(self, other: Value | Number) -> Value:
        return self._binary(other, "fmul", "mul")

    def __truediv__(self, other: Value | Number) -> Value:
        return self.of(self.builder.fdiv(self.raw, self.like(other).raw))

    def __rtruediv__(self, other: Number) -> Value:
        return self.like(other) / self

    def __rsub__(self, other: Number) -> Value:
        return self.like(other) - self

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Value:
        return self.of(self.builder.fneg(self.raw) if self.is_float else self.builder.neg(self.raw))

    def __and__(self, other: Value | Number) -> Value:
        return self.of(self.builder.and_(self.raw, self.like(other).raw))

    def __or__(self, other: Value | Number) -> Value:
        return self.of(self.builder.or_(self.raw, self.like(other).raw))

    def __xor__(self, other: Value | Number) -> Value:
        return self.of(self.builder.xor(self.raw, self.like(other).raw))

    def __invert__(self) -> Value:
        return self.of(self.builder.not_(self.raw))

    def __lshift__(self, other: Value | Number) -> Value:
        return self.of(self.builder.shl(self.raw, self.like(other).raw))

    def __rshift__(self, other: Value | Number) -> Value:
        """Arithmetic: the sign is shifted in."""
        return self.of(self.builder.ashr(self.raw, self.like(other).raw))

    def logical_shift(self, other: Value | Number) -> Value:
        """To the right, with zeros shifted in."""
        return self.of(self.builder.lshr(self.raw, self.like(other).raw))

    def compare(self, how: str, other: Value | Number) -> Value:
        """An i1. Of floats: false for every test but "!=" when one of the two is NaN."""
        b, y = self.builder, self.like(other).raw
        if not self.is_float:
            return self.of(b.icmp_signed(how, self.raw, y))
        test = b.fcmp_ordered if how in _COMPARE else b.fcmp_unordered
        return self.of(test(how, self.raw, y))

    def __lt__(self, other: Value | Number) -> Value:
        return self.compare("<", other)

    def __gt__(self, other: Value | Number) -> Value:
        return self.compare(">", other)

    def __le__(self, other: Value | Number) -> Value:
        return self.compare("<=", other)

    def __ge__(self, other: Value | Number) -> Value:
        return self.compare(">=", other)

    def equals(self, other: Value | Number) -> Value:
        return self.compare("==", other)

    def differs(self, other: Value | Number) -> Value:
        return self.compare("!=", other)

    def is_nan(self) -> Value:
        return self.differs(self)


def constant(type: ir.Type, x: Number) -> ir.Constant:
    """A float32 constant is rounded here: LLVM refuses one that float32 cannot hold."""
    if type is F32 or type == F32:
        x = struct.unpack("f", struct.pack("f", x))[0]
    return ir.Constant(type, x)


def call(name: str, *args: Value, result: ir.Type | None = None) -> Value:
    """An overloaded LLVM intrinsic such as "llvm.fma" on the type of its first argument."""
    first = args[0]
    types = [a.type for a in args]
    function = first.builder.module.declare_intrinsic(
        name, [first.type], ir.FunctionType(result or first.type, types)
    )
    return first.of(first.builder.call(function, [a.raw for a in args]))


def external(name: str, *args: Value) -> Value:
    """A function of the C library: result of the arguments' type, no side effect worth keeping."""
    first = args[0]
    function = declare(first.builder.module, name, first.type, [a.type for a in args])
    function.attributes.add("readnone")
    return first.of(first.builder.call(function, [a.raw for a in args]))


def declare(module: ir.Module, name: str, result: ir.Type, types: Sequence[ir.Type]) -> ir.Function:
    """The C function `name`, declared once in a module; it throws nothing."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(result, types), name)
    function.attributes.add("nounwind")
    return function


def fma(a: Value, b: Value | Number, c: Value | Number) -> Value:
    """a * b + c, rounded once."""
    return call("llvm.fma", a, a.like(b), a.like(c))


def select(condition: Value, yes: Value | Number, no: Value | Number) -> Value:
    """`yes` or `no`, both computed. One of them must be a Value."""
    kind = yes if isinstance(yes, Value) else no
    assert isinstance(kind, Value)
    raw = condition.builder.select(condition.raw, kind.like(yes).raw, kind.like(no).raw)
    return condition.of(raw)


def absolute(x: Value) -> Value:
    return call("llvm.fabs", x)


def copysign(magnitude: Value, sign: Value) -> Value:
    return call("llvm.copysign", magnitude, sign)


def clamp(x: Value, low: Number | None, high: Number | None) -> Value:
    """`x` held between the bounds; NaN stays NaN."""
    if low is not None:
        x = select(x < low, low, x)
    return x if high is None else select(x > high, high, x)


def bits(x: Value) -> Value:
    """The bit pattern of a float as an integer of the same width."""
    return x.of(x.builder.bitcast(x.raw, I32 if x.type == F32 else I64))


def as_float(x: Value) -> Value:
    """The float whose bit pattern the integer is."""
    return x.of(x.builder.bitcast(x.raw, F32 if x.type == I32 else F64))


def extend(x: Value, to: ir.Type) -> Value:
    """A wider float, or a wider integer with zeros on top."""
    widen = x.builder.fpext if x.is_float else x.builder.zext
    return x.of(widen(x.raw, to))


def truncate(x: Value, to: ir.Type) -> Value:
    """A narrower float (rounded) or integer (cut)."""
    narrow = x.builder.fptrunc if x.is_float else x.builder.trunc
    return x.of(narrow(x.raw, to))


def to_float(x: Value, to: ir.Type) -> Value:
    """The float nearest to a signed integer."""
    return x.of(x.builder.sitofp(x.raw, to))


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """c[0] + c[1] x + c[2] x^2 + ... (Horner)."""
    total = x.like(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = fma(total, x, c)
    return total
