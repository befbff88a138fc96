"""Object code into this process: one LLVM engine, and the libgomp that oneDNN uses too."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass

import llvmlite.binding as llvm

from noria.core.flags import flags


@dataclass(frozen=True, slots=True)
class ObjectCode:
    """A relocatable object file: its one entry point, and the functions it expects elsewhere."""

    symbol: str
    externals: tuple[str, ...]
    code: bytes


_OPENMP = ("GOMP_barrier", "omp_get_thread_num", "omp_get_num_threads", "omp_set_num_threads")
# Without libgomp the same names stand for a team of one, and nobody starts another.
_SERIAL = """
define i32 @omp_get_thread_num() { ret i32 0 }
define i32 @omp_get_num_threads() { ret i32 1 }
define void @omp_set_num_threads(i32 %n) { ret void }
define void @GOMP_barrier() { ret void }
"""
X86 = platform.machine().lower() in ("x86_64", "amd64")
# What LLVM may use under the values of NORIA_CPU: the x86-64 psABI's levels 3 and 4, and more.
_AVX2 = (
    "64bit cx8 cmov mmx fxsr sse sse2 sse3 ssse3 sse4.1 sse4.2 crc32 cx16 sahf popcnt xsave "
    "avx avx2 bmi bmi2 f16c fma lzcnt movbe"
)
_AVX512 = f"{_AVX2} avx512f avx512bw avx512cd avx512dq avx512vl"
_LEVELS = {
    "avx2": ("x86-64-v3", _AVX2),
    "avx512": ("x86-64-v4", _AVX512),
    "avx512_bf16": ("x86-64-v4", f"{_AVX512} avx512vnni avx512bf16"),
}
SPIN = 1000  # turns of a waiting thread before it sleeps, some 10 us
_lock = threading.Lock()


@functools.cache
def openmp() -> ctypes.CDLL | None:
    """libgomp, by the name oneDNN asks for; None where the system has none (then no threads).

    A thread that waits spins for some microseconds and then sleeps, unless the user chose
    otherwise. libgomp's own default spins for a millisecond or more: on a machine that is shared it
    then takes the core from the very thread it waits for; a step was measured to take nine times
    as long.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPIN))
    try:
        return ctypes.CDLL("libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return None


@functools.cache
def cpu() -> tuple[str, str]:
    """LLVM's name of this CPU and the features to use ("+avx2,-sse4a,..."): all that the CPU has,
    or under NORIA_CPU a generic name and what the CPU has of that level.

    Vectors are as wide as the CPU has them. For some CPUs LLVM would halve them to spare the clock,
    but oneDNN beside us uses all of the width, so that price is paid already.
    """
    name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
    if X86 and flags.cpu in _LEVELS:
        name, allowed = _LEVELS[flags.cpu]
        features = llvm.FeatureMap({f: has and f in allowed.split() for f, has in features.items()})
    wide = ",-prefer-256-bit" if features.get("avx512f") else ""
    return name, features.flatten() + wide


@functools.cache
def target_machine() -> llvm.TargetMachine:
    """Code for exactly this CPU."""
    return _new_target_machine()


def _new_target_machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    name, features = cpu()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    return target.create_target_machine(
        cpu=name, features=features, opt=3, reloc="static", codemodel="jitdefault", jit=True
    )


@functools.cache
def engine() -> llvm.ExecutionEngine:
    """What holds all code loaded; it lives as long as the process."""
    library = openmp()
    if library is not None:
        for name in (*_OPENMP, "GOMP_parallel"):
            address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            llvm.add_symbol(name, address)
    machine = _new_target_machine()  # the engine takes it over
    text = "" if library is not None else _SERIAL
    module = llvm.parse_assembly(text, context=llvm.create_context())
    module.triple = machine.triple
    return llvm.create_mcjit_compiler(module, machine)


def undefined(code: bytes) -> tuple[str, ...]:
    """The names an ELF object file expects elsewhere."""
    sections = {s.name(): s.data() for s in llvm.ObjectFileRef.from_data(code).sections()}
    names = sections[b".strtab"]
    symbols = struct.iter_unpack("<IBBHQQ", sections[b".symtab"])  # Elf64_Sym
    at = [name for name, _, _, section, _, _ in symbols if name and section == 0]
    return tuple(names[n : names.index(b"\0", n)].decode() for n in at)


def missing(externals: Iterable[str]) -> list[str]:
    """Those of the names that nothing in this process defines. LLVM would abort over one."""
    engine()  # names libgomp's functions
    own = () if openmp() is not None else _OPENMP
    return [n for n in externals if n not in own and llvm.address_of_symbol(n) is None]


def load(code: ObjectCode) -> int:
    """The address of the entry point. The externals must be there, see `missing`."""
    with _lock:
        engine().add_object_file(llvm.ObjectFileRef.from_data(code.code))
        engine().finalize_object()
        return engine().get_function_address(code.symbol)
