"""Kernel source to a native function, through memory, disk and at last the compiler.

A kernel is the text of a Python function of one int64, the address of its table of int64 arguments,
that returns 0 (any other int64 whose low 32 bits are not 0 means failure). It may use integers and
floats, `range`, `if`, `for`, `while`, the types by name (`float32(0.5)`, `int64(x)`; a bare 0.5 is
float64), and the names of `intrinsics.NAMESPACE` and `math.NAMESPACE`. Sums may be reordered and
products fused into them; NaN, infinities and -0 are kept.

    def scale(args):
        source, target, n = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
        for i in range(n * thread_id() // team_size(), n * (thread_id() + 1) // team_size()):
            independent()
            store_float32(target, i, load_float32(source, i) * float32(0.5))
        return 0

Kernels found in the cache are loaded by llvmlite alone; Numba is imported at the first miss.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib import import_module

from noria.core.errors import EngineError
from noria.kernels.numba import cache, loader
from noria.kernels.numba.loader import ObjectCode

Source = tuple[str, str]  # text, name of the function in it
_Entry = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True, slots=True)
class NativeFunction:
    """A compiled kernel, `int64 f(int64 table)` by the C calling convention.

    address: where it starts
    name:    the function's name in the source
    keep:    what keeps the code in memory
    """

    address: int
    name: str
    keep: object = field(repr=False)

    def __call__(self, table: int) -> int:
        """Runs it on the calling thread, with the GIL released."""
        return _Entry(self.address)(table)


@dataclass(frozen=True, slots=True)
class Stats:
    """Kernels compiled and loaded from disk by this process, and the seconds both took."""

    compiled: int = 0
    loaded: int = 0
    seconds: float = 0.0


_lock = threading.RLock()
_functions: dict[Source, NativeFunction] = {}
_stats = Stats()


def compile_source(source: str, entry: str) -> NativeFunction:
    """The native function of `entry` in `source`; the same object for the same text.

    Raises EngineError when the source does not compile.
    """
    return _functions.get((source, entry)) or compile_many([(source, entry)])[0]


def compile_many(sources: Iterable[Source]) -> list[NativeFunction]:
    """`compile_source` for many (source, entry): all that the cache has first, then the rest."""
    wanted = list(sources)
    if not all(w in _functions for w in wanted):
        with _lock:
            missing = [w for w in dict.fromkeys(wanted) if w not in _functions]
            for from_disk in (True, False):
                missing = [w for w in missing if not _provide(w, from_disk)]
    return [_functions[w] for w in wanted]


def stats() -> Stats:
    """What was compiled and loaded so far."""
    return _stats


def _provide(wanted: Source, from_disk: bool) -> bool:
    """Loads a kernel from the cache, or compiles it; False if the cache does not have it."""
    global _stats
    start = time.perf_counter()
    name = cache.key(*wanted)
    code = cache.read(name) if from_disk else _compile(*wanted, name)
    if code is None or (from_disk and loader.missing(code.externals)):
        return False
    _functions[wanted] = NativeFunction(loader.load(code), wanted[1], loader.engine())
    count = {"loaded": _stats.loaded + 1} if from_disk else {"compiled": _stats.compiled + 1}
    _stats = replace(_stats, **count, seconds=_stats.seconds + time.perf_counter() - start)
    return True


def _compile(source: str, entry: str, name: str) -> ObjectCode:
    lower = import_module("noria.kernels.numba.lower")  # by name: only now is Numba wanted
    code = lower.compile_object(source, entry, f"noria_{name[:32]}")
    absent = loader.missing(code.externals)
    if absent:
        raise EngineError(f"kernel '{entry}' calls what no library here has", got=", ".join(absent))
    cache.write(name, code)
    return code
