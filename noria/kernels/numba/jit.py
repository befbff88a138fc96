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

Kernels found in the cache are loaded by llvmlite alone; Numba is imported at the first miss. Many
that are missing at once are compiled by processes of their own (`compilers.py`); `deferred` finds
out which they are.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from importlib import import_module

from noria.core.errors import EngineError
from noria.kernels.numba import cache, compilers, loader
from noria.kernels.numba.loader import ObjectCode

Source = tuple[str, str]  # text, name of the function in it
_Entry = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


class NativeFunction:
    """A kernel, `int64 f(int64 table)` by the C calling convention.

    name: the function's name in the source
    """

    __slots__ = ("_address", "_source", "name")

    def __init__(self, source: Source) -> None:
        self._source, self._address = source, 0
        self.name = source[1]

    @property
    def address(self) -> int:
        """Where it starts; its code stays as long as the process. Within `deferred` 0, if it has
        to be compiled first. Raises EngineError when the source does not compile."""
        if not self._address:
            waiting = _deferred.get()
            if waiting is not None and not _provided(self, from_disk=True):
                waiting.append(self._source)
                return 0
            compile_many([self._source])
        return self._address

    def __call__(self, table: int) -> int:
        """Runs it on the calling thread, with the GIL released."""
        if not self._address:
            compile_many([self._source])
        return _Entry(self._address)(table)


@dataclass(frozen=True, slots=True)
class Stats:
    """Kernels compiled and loaded from disk by this process, and the seconds both took."""

    compiled: int = 0
    loaded: int = 0
    seconds: float = 0.0


_lock = threading.RLock()
_functions: dict[Source, NativeFunction] = {}
_stats = Stats()
_deferred: ContextVar[list[Source] | None] = ContextVar("noria_deferred", default=None)


def compile_source(source: str, entry: str) -> NativeFunction:
    """The native function of `entry` in `source`; the same object for the same text.

    Raises EngineError when the source does not compile; within `deferred` not yet.
    """
    wanted = (source, entry)
    found = _functions.get(wanted)
    if found is None:
        with _lock:
            found = _functions.setdefault(wanted, NativeFunction(wanted))
    if not found._address and _deferred.get() is None:
        compile_many([wanted])
    return found


def compile_many(sources: Iterable[Source]) -> list[NativeFunction]:
    """`compile_source` for many (source, entry): all that the cache has first, then the rest."""
    wanted = list(sources)
    functions = [_functions.get(w) or _functions.setdefault(w, NativeFunction(w)) for w in wanted]
    if not all(f._address for f in functions):
        with _lock:
            todo = dict.fromkeys(f for f in functions if not f._address)
            missing = [f for f in todo if not _provided(f, from_disk=True)]
            _compile_apart(missing)
            for function in missing:
                _provided(function, from_disk=False)
    return functions


@contextmanager
def deferred() -> Iterator[list[Source]]:
    """Within it, on this Python thread, nothing is compiled: a function the cache does not have is
    put on the list and has the address 0, unless it is called.

    What was made with such addresses must not be run. It is made again after `compile_many` of the
    list.
    """
    waiting: list[Source] = []
    token = _deferred.set(waiting)
    try:
        yield waiting
    finally:
        _deferred.reset(token)


def stats() -> Stats:
    """What was compiled and loaded so far."""
    return _stats


def _provided(function: NativeFunction, from_disk: bool) -> bool:
    """Loads a kernel from the cache, or compiles it; False if the cache does not have it."""
    with _lock:
        if function._address:
            return True
        start = time.perf_counter()
        name = cache.key(*function._source)
        code = cache.read(name) if from_disk else _compile(*function._source, name)
        if code is None or (from_disk and loader.missing(code.externals)):
            return False
        _load(function, code, time.perf_counter() - start, loaded=from_disk)
        return True


def _load(function: NativeFunction, code: ObjectCode, seconds: float, *, loaded: bool) -> None:
    global _stats
    start = time.perf_counter()
    function._address = loader.load(code)
    count = {"loaded": _stats.loaded + 1} if loaded else {"compiled": _stats.compiled + 1}
    seconds += _stats.seconds + time.perf_counter() - start
    _stats = replace(_stats, **count, seconds=seconds)


def _compile_apart(functions: Sequence[NativeFunction]) -> None:
    """Compiles them in processes of their own, if that pays. What comes not back whole is left."""
    start = time.perf_counter()
    jobs = [(*f._source, _symbol(cache.key(*f._source))) for f in functions]
    for function, code in zip(functions, compilers.compiled(jobs), strict=True):
        if code is not None and not loader.missing(code.externals):
            cache.write(cache.key(*function._source), code)
            _load(function, code, time.perf_counter() - start, loaded=False)
            start = time.perf_counter()


def _symbol(name: str) -> str:
    return f"noria_{name[:32]}"


def _compile(source: str, entry: str, name: str) -> ObjectCode:
    lower = import_module("noria.kernels.numba.lower")  # by name: only now is Numba wanted
    code = lower.compile_object(source, entry, _symbol(name))
    absent = loader.missing(code.externals)
    if absent:
        raise EngineError(f"kernel '{entry}' calls what no library here has", got=", ".join(absent))
    cache.write(name, code)
    return code
