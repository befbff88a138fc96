"""What a generated kernel may call besides arithmetic: memory by address, threads, native calls.

A pointer is an int64. `load_DTYPE(pointer, i)` and `store_DTYPE(pointer, i, value)` move element
number `i` of any noria dtype. float16 and bfloat16 widen to float32 on loading and round to nearest
even on storing; a bool is one byte.

LLVM has to assume that any two pointers overlap. A kernel whose iterations do not depend on one
another says so with `independent()` in the body of its innermost loop, as C compilers have
`#pragma ivdep`: iteration i may read and write element i of several equal pointers (in-place use),
but must not read what another iteration writes.
`together()` says the same of a loop whose few iterations are a constant, such as that over a short
row of a table, and that they shall run as vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.extending import intrinsic

from noria.kernels.numba.expr import (
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    Value,
    as_float,
    bits,
    declare,
    extend,
    select,
    truncate,
)
from noria.kernels.numba.loader import X86

MARKS = {"noria.independent": False, "noria.together": True}  # in the IR, gone after compilation
_HALF = ir.HalfType()
Emit = Callable[[ir.IRBuilder, list[ir.Value]], ir.Value | None]
_Resolve = Callable[..., tuple[types.Type, list[types.Type], Emit] | None]
# Numba reads the number of arguments off the function, so there is one form for each.
_ARITY: dict[int, Callable[[Any], Any]] = {
    0: lambda f: lambda context: f(context),
    1: lambda f: lambda context, a: f(context, a),
    2: lambda f: lambda context, a, b: f(context, a, b),
    3: lambda f: lambda context, a, b, c: f(context, a, b, c),
    4: lambda f: lambda context, a, b, c, d: f(context, a, b, c, d),
    5: lambda f: lambda context, a, b, c, d, e: f(context, a, b, c, d, e),
}

# dtype: (type of an element in memory, its bytes, type in the kernel)
ELEMENTS = {
    "bool": (I8, 1, types.boolean),
    "bfloat16": (I16, 2, types.float32),
    "float16": (_HALF, 2, types.float32),
    "float32": (F32, 4, types.float32),
    "float64": (F64, 8, types.float64),
} | {
    f"{prefix}int{width}": (ir.IntType(width), width // 8, getattr(types, f"{prefix}int{width}"))
    for prefix in ("", "u")
    for width in (8, 16, 32, 64)
}


def define(name: str, arity: int, resolve: _Resolve) -> Any:
    """A function kernels can call; numbers passed to it are converted to the types resolved.

    resolve: types of the arguments -> (type of the result, types wanted, what writes the LLVM
             instructions), or None if they do not fit
    """

    def typed(typing_context: Any, *given: types.Type) -> Any:
        resolved = resolve(*given)
        if resolved is None:
            return None
        result, wanted, emit = resolved

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, args: list[ir.Value]) -> Any:
            value = emit(builder, args)
            return context.get_dummy_value() if value is None else value

        return signature(result, *wanted), generate

    function = _ARITY[arity](typed)
    function.__name__ = function.__qualname__ = name
    return intrinsic(function)


def fixed(name: str, result: types.Type, wanted: list[types.Type], emit: Emit) -> Any:
    """`define` for arguments whose types never change."""
    return define(name, len(wanted), lambda *given: (result, wanted, emit))


def _address(builder: ir.IRBuilder, element: ir.Type, pointer: ir.Value, i: ir.Value) -> ir.Value:
    base = builder.inttoptr(pointer, element.as_pointer())
    return builder.gep(base, [i], inbounds=True)


def _access(instruction: ir.Instruction) -> ir.Instruction:
    """Marks a load or store as one of those that `independent()` speaks of."""
    instruction.element = True
    return instruction


def _load(dtype: str) -> Any:
    element, size, kind = ELEMENTS[dtype]

    def emit(b: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
        raw = _access(b.load(_address(b, element, *args), align=size))
        if dtype == "bool":
            return b.icmp_unsigned("!=", raw, ir.Constant(I8, 0))
        if dtype == "float16":
            return b.fpext(raw, F32)
        return _widen_bfloat16(Value(b, raw)).raw if dtype == "bfloat16" else raw

    return fixed(f"load_{dtype}", kind, [types.int64, types.int64], emit)


def _store(dtype: str) -> Any:
    element, size, kind = ELEMENTS[dtype]

    def emit(b: ir.IRBuilder, args: list[ir.Value]) -> None:
        pointer, i, value = args
        if dtype == "bool":
            value = b.zext(value, I8)
        elif dtype == "float16":
            value = b.fptrunc(value, _HALF)
        elif dtype == "bfloat16":
            value = _round_bfloat16(Value(b, value)).raw
        _access(b.store(value, _address(b, element, pointer, i), align=size))

    return fixed(f"store_{dtype}", types.void, [types.int64, types.int64, kind], emit)


def _widen_bfloat16(x: Value) -> Value:
    return as_float(extend(x, I32) << 16)


def _round_bfloat16(x: Value) -> Value:
    """To nearest even in integers: the CPU's own instruction flushes denormals. NaN stays NaN."""
    pattern = bits(x)
    high = pattern.logical_shift(16)
    rounded = (pattern + ((high & 1) + 0x7FFF)).logical_shift(16)
    return truncate(select(x.is_nan(), high | 0x40, rounded), I16)


def _rank(b: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    """A bfloat16 and what is to be flipped of its bits, as an integer of the same order, in which
    vectors have twice as many numbers. Both zeros are 0; NaN has some rank."""
    return _in_order(Value(b, args[0]) ^ Value(b, args[1])).raw


def _of_rank(b: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    """The number, widened, that has this rank."""
    return _widen_bfloat16(_in_order(Value(b, args[0])) ^ Value(b, args[1])).raw


def _in_order(x: Value) -> Value:
    """Sign and magnitude as an int16, or back."""
    return select(x < 0, -x ^ -0x8000, x)


def _pair(b: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    """Two 16-bit elements as they lie one behind the other."""
    low, high = (b.zext(x, I32) for x in args)
    return b.or_(low, b.shl(high, ir.Constant(I32, 16)))


def _rounded_pair(b: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    """Two float32 rounded to bfloat16, one behind the other."""
    return _pair(b, [_round_bfloat16(Value(b, x)).raw for x in args])


def _has_bit(b: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    """Bit k of a word, lowest first."""
    word, k = args
    return b.trunc(b.lshr(b.zext(word, I32), b.trunc(k, I32)), ir.IntType(1))


def _positive(dtype: str) -> Emit:
    """A bit for each of 16 numbers of that dtype from number i: is it above 0? NaN is not."""
    element = ELEMENTS[dtype][0]
    kind = ir.VectorType(element, 16)

    def emit(b: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
        place = b.bitcast(_address(b, element, *args), kind.as_pointer())
        found, zero = b.load(place, align=ELEMENTS[dtype][1]), ir.Constant(kind, None)
        if dtype == "float32":
            above = b.fcmp_ordered(">", found, zero)
        else:  # its bits, as an integer: from 1 to those of infinity
            one, last = (ir.Constant(kind, [n] * 16) for n in (1, 0x7F80))
            above = b.icmp_unsigned("<", b.sub(found, one), last)
        return b.bitcast(above, I16)

    return emit


def _mark(name: str) -> Emit:
    def emit(builder: ir.IRBuilder, args: list[ir.Value]) -> None:
        builder.call(declare(builder.module, name, ir.VoidType(), []), [])

    return emit


def _call(builder: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    function, *arguments = args
    kind = ir.FunctionType(I64, [I64] * len(arguments))
    return builder.call(builder.inttoptr(function, kind.as_pointer()), arguments)


def _sgemm(builder: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    """dnnl_sgemm with the arguments of a table: its address, two letters, m, n, k, a, lda, b, ldb,
    whether to add to c, c, ldc."""
    table = builder.inttoptr(args[0], I64.as_pointer())
    fields = [builder.load(builder.gep(table, [ir.Constant(I64, k)])) for k in range(13)]
    function, *letters = fields[:3]
    given = [builder.trunc(letter, I8) for letter in letters]
    given += [*fields[3:6], ir.Constant(F32, 1.0), *fields[6:10]]
    given += [builder.sitofp(fields[10], F32), *fields[11:]]
    kind = ir.FunctionType(I32, [x.type for x in given])
    return builder.sext(builder.call(builder.inttoptr(function, kind.as_pointer()), given), I64)


def _openmp(name: str) -> Emit:
    """An OpenMP query without arguments."""

    def emit(builder: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
        return builder.sext(builder.call(declare(builder.module, name, I32, []), []), I64)

    return emit


def _set_team_size(builder: ir.IRBuilder, args: list[ir.Value]) -> None:
    function = declare(builder.module, "omp_set_num_threads", ir.VoidType(), [I32])
    builder.call(function, [builder.trunc(args[0], I32)])


def _barrier(builder: ir.IRBuilder, args: list[ir.Value]) -> None:
    builder.call(declare(builder.module, "GOMP_barrier", ir.VoidType(), []), [])


def _atomic_add(builder: ir.IRBuilder, args: list[ir.Value]) -> None:
    """Adds to an int64 that threads share; what was stored before is seen by who sees the sum."""
    pointer = builder.inttoptr(args[0], I64.as_pointer())
    builder.atomic_rmw("add", pointer, args[1], "acq_rel")


def _take(builder: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    """The same, and gives what was there before."""
    pointer = builder.inttoptr(args[0], I64.as_pointer())
    return builder.atomic_rmw("add", pointer, args[1], "acq_rel")


def _load_shared(builder: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    """An int64 that other threads change, read anew each time."""
    return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "acquire", 8)


def _pause(builder: ir.IRBuilder, args: list[ir.Value]) -> None:
    """Tells an x86 core that this thread only waits."""
    if X86:
        builder.call(declare(builder.module, "llvm.x86.sse2.pause", ir.VoidType(), []), [])


def _yield_thread(builder: ir.IRBuilder, args: list[ir.Value]) -> None:
    builder.call(declare(builder.module, "sched_yield", I32, []), [])


def _run_team(builder: ir.IRBuilder, args: list[ir.Value]) -> None:
    """libgomp's entry point behind `#pragma omp parallel`: (fn, argument, threads, flags)."""
    types_ = [I64, I64, I32, I32]
    function = declare(builder.module, "GOMP_parallel", ir.VoidType(), types_)
    threads = builder.trunc(args[2], I32)
    builder.call(function, [args[0], args[1], threads, ir.Constant(I32, 0)])


def _now(builder: ir.IRBuilder, args: list[ir.Value]) -> ir.Value:
    """clock_gettime(CLOCK_MONOTONIC) in nanoseconds."""
    time = cgutils.alloca_once(builder, ir.LiteralStructType([I64, I64]))
    function = declare(builder.module, "clock_gettime", I32, [I32, time.type])
    builder.call(function, [ir.Constant(I32, 1), time])
    seconds, nanoseconds = (builder.load(cgutils.gep_inbounds(builder, time, 0, k)) for k in (0, 1))
    return builder.add(builder.mul(seconds, ir.Constant(I64, 1_000_000_000)), nanoseconds)


def _prefetch(write: bool) -> Emit:
    """Asks for the line of cache at an address, which may be any: to be read, or written, soon."""

    def emit(builder: ir.IRBuilder, args: list[ir.Value]) -> None:
        pointer, number = I8.as_pointer(), [ir.Constant(I32, k) for k in (int(write), 3, 1)]
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        builder.call(function, [builder.inttoptr(args[0], pointer), *number])

    return emit


def _memory(name: str, middle: ir.Type) -> Emit:
    """llvm.memcpy and llvm.memset: (to, from or byte, number of bytes)."""

    def emit(builder: ir.IRBuilder, args: list[ir.Value]) -> None:
        pointer = I8.as_pointer()
        to = builder.inttoptr(args[0], pointer)
        if middle == I8:
            operand, overload = builder.trunc(args[1], I8), [pointer, I64]
        else:
            operand, overload = builder.inttoptr(args[1], pointer), [pointer, pointer, I64]
        kind = ir.FunctionType(ir.VoidType(), [pointer, operand.type, I64, ir.IntType(1)])
        function = builder.module.declare_intrinsic(name, overload, kind)
        builder.call(function, [to, operand, args[2], ir.Constant(ir.IntType(1), 0)])

    return emit


def _all() -> dict[str, Any]:
    i64, void = types.int64, types.void
    table = {f"load_{d}": _load(d) for d in ELEMENTS} | {f"store_{d}": _store(d) for d in ELEMENTS}
    for name, result, count, emit in (
        *((name.split(".")[1], void, 0, _mark(name)) for name in MARKS),
        ("call1", i64, 2, _call),
        ("call4", i64, 5, _call),
        ("sgemm", i64, 1, _sgemm),
        ("thread_id", i64, 0, _openmp("omp_get_thread_num")),
        ("team_size", i64, 0, _openmp("omp_get_num_threads")),
        ("set_team_size", void, 1, _set_team_size),
        ("barrier", void, 0, _barrier),
        ("atomic_add", void, 2, _atomic_add),
        ("take", i64, 2, _take),
        ("load_shared", i64, 1, _load_shared),
        ("pause", void, 0, _pause),
        ("yield_thread", void, 0, _yield_thread),
        ("run_team", void, 3, _run_team),
        ("now", i64, 0, _now),
        ("prefetch", void, 1, _prefetch(write=False)),
        ("prefetch_to_write", void, 1, _prefetch(write=True)),
        ("copy_bytes", void, 3, _memory("llvm.memcpy", I64)),
        ("fill_bytes", void, 3, _memory("llvm.memset", I8)),
    ):
        table[name] = fixed(name, result, [i64] * count, emit)
    table["has_bit"] = fixed("has_bit", types.boolean, [types.uint16, i64], _has_bit)
    for dtype in ("float32", "bfloat16"):
        name = f"positive_{dtype}"
        table[name] = fixed(name, types.uint16, [i64, i64], _positive(dtype))
    word, rank = types.uint16, types.int16
    table["rank_bfloat16"] = fixed("rank_bfloat16", rank, [word, word], _rank)
    table["of_rank_bfloat16"] = fixed("of_rank_bfloat16", types.float32, [rank, word], _of_rank)
    table["pair"] = fixed("pair", types.uint32, [types.uint16, types.uint16], _pair)
    two: list[types.Type] = [types.float32, types.float32]
    table["rounded_pair"] = fixed("rounded_pair", types.uint32, two, _rounded_pair)
    return table


NAMESPACE = _all()
