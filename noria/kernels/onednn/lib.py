"""Find, load and check the oneDNN shared library; one CPU engine and one stream per process.

Everything else of the binding asks `library()`. Where no usable oneDNN is found `available()` says
why, and nothing here raises before somebody insists on having it.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from noria.core.errors import EngineError
from noria.core.flags import flags
from noria.kernels.numba.loader import X86, openmp
from noria.kernels.onednn.enums import STATUS

WHEEL = "onednn-cpu-gomp"
SONAME = "libdnnl.so.3"
MAJOR = 3
# NORIA_CPU -> dnnl_cpu_isa_t, whose bits are sets of instructions.
_ISA = {"avx2": 0x07, "avx512": 0x27, "avx512_bf16": 0xE7}
_RUNTIMES = {1: "sequential", 2: "OpenMP"}  # others want their own streams or their own pool

_C: dict[str, Any] = {
    "p": ctypes.c_void_p,
    "c": ctypes.c_char,
    "i": ctypes.c_int,
    "l": ctypes.c_int64,
    "u": ctypes.c_uint,
    "f": ctypes.c_float,
    "z": ctypes.c_size_t,
}

# Parameter types of each C function used, a letter each (`_C`); all but _RESULTS return a status.
_SIGNATURES = {
    "engine_create": "piz",
    "stream_create": "ppu",
    "memory_desc_create_with_strides": "pipip",
    "memory_desc_create_with_tag": "pipii",
    "memory_desc_clone": "pp",
    "memory_desc_destroy": "p",
    "memory_desc_query": "pip",
    "memory_desc_equal": "pp",
    "memory_desc_get_size": "p",
    "memory_create": "pppp",
    "memory_set_data_handle": "pp",
    "memory_destroy": "p",
    "primitive_attr_create": "p",
    "primitive_attr_destroy": "p",
    "primitive_attr_set_scratchpad_mode": "pi",
    "primitive_attr_set_fpmath_mode": "pi",
    "primitive_attr_set_post_ops": "pp",
    "post_ops_create": "p",
    "post_ops_destroy": "p",
    "post_ops_append_eltwise": "piff",
    "post_ops_append_sum": "pfii",
    "post_ops_append_binary": "pip",
    "primitive_create": "pp",
    "primitive_destroy": "p",
    "primitive_execute": "ppip",
    "sgemm": "cclllfplplfpl",
    "primitive_desc_destroy": "p",
    "primitive_desc_query": "piip",
    "primitive_desc_query_md": "pii",
    "matmul_primitive_desc_create": "ppppppp",
    "convolution_forward_primitive_desc_create": "ppiippppppppp",
    "convolution_backward_data_primitive_desc_create": "ppippppppppp",
    "convolution_backward_weights_primitive_desc_create": "ppipppppppppp",
    "deconvolution_forward_primitive_desc_create": "ppiippppppppp",
    "deconvolution_backward_data_primitive_desc_create": "ppippppppppp",
    "deconvolution_backward_weights_primitive_desc_create": "ppipppppppppp",
    "reorder_primitive_desc_create": "pppppp",
}
_RESULTS: dict[str, Any] = {
    "memory_desc_get_size": ctypes.c_size_t,
    "primitive_desc_query_md": ctypes.c_void_p,
}


class _Version(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("patch", ctypes.c_int),
        ("hash", ctypes.c_char_p),
        ("cpu_runtime", ctypes.c_uint),
        ("gpu_runtime", ctypes.c_uint),
    )


class Handle:
    """A C object and the function that destroys it, called once when the last reference goes."""

    __slots__ = ("_destroy", "value")

    def __init__(self, value: int, destroy: Any) -> None:
        self.value, self._destroy = value, destroy

    def __del__(self) -> None:
        self._destroy(self.value)

    def __reduce__(self) -> Any:
        raise TypeError("a oneDNN handle means nothing outside its process, or twice inside it")


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded oneDNN.

    path:        what was loaded
    version:     (major, minor, patch)
    c:           the C functions, their types declared
    engine:      address of the CPU engine; like the stream it lives as long as the process
    stream:      address of an in-order stream
    execute:     address of dnnl_primitive_execute, the `fn` of the Call of a primitive
    sgemm:       address of dnnl_sgemm
    max_threads: () -> how many threads a primitive run from this thread would use
    """

    path: str
    version: tuple[int, int, int]
    c: ctypes.CDLL
    engine: int
    stream: int
    execute: int
    sgemm: int
    max_threads: Any


def check(status: int, what: str, **told: str) -> None:
    """Raise EngineError, with the status by name, unless it is 0."""
    if status:
        name = STATUS[status] if 0 <= status < len(STATUS) else f"status {status}"
        raise EngineError(f"oneDNN refused {what}: {name}", **told)


def _find(path: str | None) -> str:
    """The file to load: the argument, the flag, the wheel's, else the system's."""
    chosen = path or flags.onednn
    if chosen:
        return chosen
    try:
        files = metadata.files(WHEEL) or ()
    except metadata.PackageNotFoundError:
        files = ()
    inside = [os.path.normpath(f.locate()) for f in files if f.name == SONAME]
    return next(filter(os.path.exists, inside), SONAME)


def _dlopen(path: str) -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """(libgomp, libdnnl).

    libgomp is global, so that generated loops share its pool. libdnnl is not: it is called by
    address only, and another copy of oneDNN in the process must not bind to its symbols.
    """
    gomp = openmp()
    if gomp is None:
        raise EngineError("cannot load oneDNN", where=path, got="no libgomp.so.1 on this system")
    try:
        return gomp, ctypes.CDLL(path, mode=ctypes.RTLD_LOCAL)
    except OSError as e:
        hint = f"pip install {WHEEL}, or name a {SONAME} in NORIA_ONEDNN"
        raise EngineError("cannot load oneDNN", where=path, got=str(e), hint=hint) from None


def _check_version(c: ctypes.CDLL, path: str) -> tuple[int, int, int]:
    if not hasattr(c, "dnnl_version"):
        raise EngineError("this library is not oneDNN", where=path)
    c.dnnl_version.restype = ctypes.POINTER(_Version)
    v = c.dnnl_version().contents
    version = (v.major, v.minor, v.patch)
    if v.major != MAJOR:
        got = ".".join(map(str, version))
        raise EngineError("unsupported oneDNN", where=path, expected=f"version {MAJOR}.x", got=got)
    if v.cpu_runtime not in _RUNTIMES:
        wanted = " or ".join(_RUNTIMES.values())
        got = f"CPU runtime {v.cpu_runtime}"
        raise EngineError("unsupported build of oneDNN", where=path, expected=wanted, got=got)
    return version


def _limit(c: ctypes.CDLL, path: str) -> None:
    """Holds oneDNN to the instructions that NORIA_CPU allows, which is possible before its first
    use only; if it was used before, it must have been held to them then."""
    wanted = _ISA.get(flags.cpu)
    if wanted is None or not X86:
        return
    try:
        c.dnnl_set_max_cpu_isa(wanted)
        used = c.dnnl_get_effective_cpu_isa()
    except AttributeError:
        raise EngineError("this oneDNN cannot be held to NORIA_CPU", where=path) from None
    if used & ~wanted:
        expected, got = f"instructions {wanted:#x} ({flags.cpu})", f"{used:#x}"
        raise EngineError("oneDNN exceeds NORIA_CPU", where=path, expected=expected, got=got)


def _declare(c: ctypes.CDLL, path: str) -> None:
    for name, letters in _SIGNATURES.items():
        try:
            function = getattr(c, f"dnnl_{name}")
        except AttributeError:
            raise EngineError(f"this oneDNN has no dnnl_{name}", where=path) from None
        function.argtypes = [_C[letter] for letter in letters]
        function.restype = _RESULTS.get(name, ctypes.c_int)


def open_library(path: str | None = None) -> Library:
    """Load oneDNN from `path`, else the flag NORIA_ONEDNN, else the wheel, else the system.

    Raises EngineError where it cannot be loaded, is not oneDNN 3.x, or offers no CPU engine.
    """
    path = _find(path)
    gomp, c = _dlopen(path)
    version = _check_version(c, path)
    _declare(c, path)
    _limit(c, path)
    engine, stream = ctypes.c_void_p(), ctypes.c_void_p()
    check(c.dnnl_engine_create(ctypes.byref(engine), 1, 0), "a CPU engine", where=path)
    check(c.dnnl_stream_create(ctypes.byref(stream), engine, 1), "a stream", where=path)
    assert engine.value and stream.value
    execute = ctypes.cast(c.dnnl_primitive_execute, ctypes.c_void_p).value
    sgemm = ctypes.cast(c.dnnl_sgemm, ctypes.c_void_p).value
    assert execute and sgemm
    gomp.omp_get_max_threads.argtypes = ()
    addresses = engine.value, stream.value, execute, sgemm
    return Library(path, version, c, *addresses, gomp.omp_get_max_threads)


@cache
def _attempt() -> Library | EngineError:
    try:
        return open_library()
    except EngineError as e:
        return e


def library() -> Library:
    """The process's oneDNN, loaded at the first call. Raises EngineError where there is none."""
    found = _attempt()
    if isinstance(found, EngineError):
        raise found.with_traceback(None)  # the same error may be raised many times
    return found


def available() -> tuple[bool, str]:
    """(True, version and path) where oneDNN can be used, else (False, why not)."""
    found = _attempt()
    if isinstance(found, EngineError):
        return False, str(found)
    return True, f"oneDNN {'.'.join(map(str, found.version))} at {found.path}"
