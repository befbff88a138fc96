"""A primitive: one computation of fixed shapes and layouts, compiled by oneDNN for this CPU."""

from __future__ import annotations

import ctypes
import threading
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from noria.core.errors import ArgumentError
from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.onednn.attr import PLAIN, Attr
from noria.kernels.onednn.checks import need_fusable
from noria.kernels.onednn.enums import ARG, QUERY_EXEC_ARG_MD, QUERY_IMPL, QUERY_NDIMS, arg_name
from noria.kernels.onednn.lib import Handle, Library, check, library
from noria.kernels.onednn.memory import MemDesc

CACHE_SIZE = 4096  # primitives remembered, the least recently asked for goes first
_compiling = threading.Lock()


# Points the memory objects of an execution at their addresses; makes those that are not there yet.
_POINT = """
def point(args):
    create = load_int64(args, 0)
    set_address = load_int64(args, 1)
    engine = load_int64(args, 2)
    slots = load_int64(args, 3)
    count = load_int64(args, 4)
    for i in range(count):
        memory = load_int64(slots, 2 * i + 1)
        address = load_int64(args, 5 + count + i)
        if memory == 0:
            desc = load_int64(args, 5 + i)
            status = call4(create, slots + 16 * i + 8, desc, engine, address)
        else:
            status = call4(set_address, memory, address, 0, 0)
        if status & 0xFFFFFFFF:
            return status
    return 0
"""
_Point = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class _Arguments:
    """A dnnl_exec_arg_t array and the memory objects in it; they get addresses before each use.

    slots: for each argument its number and the address of its memory object, 0 as long as there is
           none
    """

    __slots__ = ("_destroy", "address", "slots")

    def __init__(self, lib: Library, args: Sequence[int]) -> None:
        self.slots = array("q", [x for arg in args for x in (arg, 0)])
        self.address = self.slots.buffer_info()[0]
        self._destroy = lib.c.dnnl_memory_destroy

    def __del__(self) -> None:
        for memory in self.slots[1::2]:
            if memory:
                self._destroy(memory)


@cache
def _head() -> list[int]:
    """What the table of `point` begins with."""
    lib = library()
    functions = (lib.c.dnnl_memory_create, lib.c.dnnl_memory_set_data_handle)
    head = [ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions]
    return [*head, lib.engine]


@cache
def _native(address: int) -> Any:
    """A function at this address, for Python."""
    return _Point(address)


class _Lease:
    """Keeps a Call's arguments to itself, and marks them free for the next Call when dropped.

    The Primitive owns them: were they a lease's own, the collector could destroy them with it and
    still see them handed back.
    """

    __slots__ = ("arguments", "primitive")

    def __init__(self, primitive: Primitive, arguments: _Arguments) -> None:
        self.primitive, self.arguments = primitive, arguments

    def __del__(self) -> None:
        self.primitive._spare.append(self.arguments)


class Primitive:
    """A computation whose layouts are settled; machine code is generated when first called.

    kind:  what it computes, for profiles and messages
    descs: each argument it takes (ARG numbers) and its descriptor, the layouts left `any` now as
           oneDNN chose them. SCRATCHPAD is there only where it is needed.
    impl:  oneDNN's name for the implementation, e.g. 'brg:avx512_core'
    """

    __slots__ = ("_compiled", "_desc", "_handles", "_lib", "_owned", "_spare", "descs", "kind")

    def __init__(self, kind: str, desc: Handle, args: Sequence[int], given: Sequence[Any]) -> None:
        self.kind, self._desc, self._lib = kind, desc, library()
        self._compiled: Handle | None = None
        self._owned: list[_Arguments] = []  # all ever made
        self._spare: list[_Arguments] = []  # those no Call uses
        self.descs: dict[int, MemDesc] = {}
        known = [d for d in given if isinstance(d, MemDesc) and not d.is_any]
        for arg in (*args, ARG.SCRATCHPAD):
            chosen = self._query(arg, known)
            if chosen is not None:
                self.descs[arg] = chosen
        self._handles = [desc.handle for desc in self.descs.values()]

    def _query(self, arg: int, known: Sequence[MemDesc]) -> MemDesc | None:
        """The descriptor of an argument, the caller's own object where it is the same layout."""
        c = self._lib.c
        borrowed = c.dnnl_primitive_desc_query_md(self._desc.value, QUERY_EXEC_ARG_MD, arg)
        rank = ctypes.c_int()
        if not borrowed or c.dnnl_memory_desc_query(borrowed, QUERY_NDIMS, ctypes.byref(rank)):
            return None
        if rank.value == 0:  # oneDNN's way to say: no such argument
            return None
        for desc in known:
            if c.dnnl_memory_desc_equal(desc, borrowed):
                return desc
        return MemDesc.adopt(self._lib, borrowed)

    @property
    def desc(self) -> int:
        """Address of the C primitive descriptor: the hint a backward primitive asks for."""
        return self._desc.value

    @property
    def impl(self) -> str:
        out = ctypes.c_char_p()
        at = ctypes.byref(out)
        check(self._lib.c.dnnl_primitive_desc_query(self.desc, QUERY_IMPL, 0, at), "its name")
        return (out.value or b"").decode()

    @property
    def scratch_bytes(self) -> int:
        """Bytes of working memory, not kept between calls (argument SCRATCHPAD); 0 for none."""
        return self.descs[ARG.SCRATCHPAD].nbytes if ARG.SCRATCHPAD in self.descs else 0

    @property
    def handle(self) -> int:
        """Address of the compiled primitive. Generates its code the first time (about 1 ms)."""
        if self._compiled is None:
            with _compiling:
                self._compiled = self._compiled or self._compile()
        return self._compiled.value

    def _compile(self) -> Handle:
        out, c = ctypes.c_void_p(), self._lib.c
        status = c.dnnl_primitive_create(ctypes.byref(out), self.desc)
        if status:
            check(status, f"to compile {self.kind}", got=self._told())
        assert out.value
        return Handle(out.value, c.dnnl_primitive_destroy)

    def call(self, addresses: Mapping[int, int]) -> Call:
        """One execution on the memory at these addresses, one for each key of `descs`.

        No byte is touched here. The memory must be as long as its descriptor's nbytes and stay
        where it is while the Call may run; two Calls that may run at once need two scratchpads.
        Raises ArgumentError where an address is missing, null, or of no argument.
        """
        if addresses.keys() != self.descs.keys() or not all(addresses.values()):
            raise self._misaddressed(addresses)
        lib, primitive = self._lib, self.handle
        arguments = self._arguments()
        lease = _Lease(self, arguments)
        table = array("q", [*_head(), arguments.address, len(self.descs), *self._handles])
        table.extend([addresses[arg] for arg in self.descs])
        point = jit.compile_source(_POINT, "point").address
        failed = _native(point)(table.buffer_info()[0]) if point else 0  # within jit.deferred
        if failed:
            check(failed, f"the addresses of {self.kind}", got=self._told())
        row = (primitive, lib.stream, len(self.descs), arguments.address)
        return Call(self.kind, lib.execute, row, lease)

    def _arguments(self) -> _Arguments:
        """Spare ones where there are any: setting an address costs a fifth of making a memory."""
        try:
            return self._spare.pop()
        except IndexError:
            arguments = _Arguments(self._lib, tuple(self.descs))
            self._owned.append(arguments)
            return arguments

    def _misaddressed(self, addresses: Mapping[int, int]) -> ArgumentError:
        wanted = ", ".join(map(arg_name, self.descs))
        got = ", ".join(f"{arg_name(a)}={v}" for a, v in addresses.items()) or "nothing"
        what = f"{self.kind} needs an address for each of its arguments and no other"
        return ArgumentError(what, expected=wanted, got=got)

    def _told(self) -> str:
        return ", ".join(f"{arg_name(a)}={d}" for a, d in self.descs.items())

    def __repr__(self) -> str:
        return f"Primitive({self.kind}, {self._told()}, impl={self.impl})"


@lru_cache(maxsize=CACHE_SIZE)
def _remembered(threads: int, build: Callable[..., Primitive], *args: Any) -> Primitive:
    return build(*args)


def remembered(build: Callable[..., Primitive], *args: Any) -> Primitive:
    """build(*args), or what that returned the last time: code generation takes milliseconds.

    The number of threads is part of the key, because oneDNN divides the work, and the scratchpad,
    among as many as there were when the primitive was made.
    """
    return _remembered(library().max_threads(), build, *args)


def create(
    kind: str,
    function: str,
    given: Sequence[Any],
    args: Sequence[int],
    *,
    attr: Attr = PLAIN,
    detail: str = "",
) -> Primitive:
    """A primitive from a `dnnl_<function>_primitive_desc_create` and what it is given.

    given:  the C arguments between the output and the attributes; a MemDesc stands for its C
            descriptor, None for NULL
    args:   ARG numbers it takes when run, besides those of post-ops and the scratchpad;
            those oneDNN says are absent (a bias not given) are left out
    detail: what a message should tell besides the descriptors
    Raises EngineError where oneDNN has no implementation for it.
    """
    lib, out = library(), ctypes.c_void_p()
    make = getattr(lib.c, f"dnnl_{function}_primitive_desc_create")
    with attr.native(lib) as native:
        status = make(ctypes.byref(out), *given, native)
    if status:
        told = [repr(g) for g in given if isinstance(g, MemDesc)]
        told += [repr(attr)] * (attr != PLAIN) + [detail] * bool(detail)
        check(status, kind, got=", ".join(told))
    assert out.value
    desc = Handle(out.value, lib.c.dnnl_primitive_desc_destroy)
    primitive = Primitive(kind, desc, (*args, *attr.extra_args), given)
    return need_fusable(primitive, attr.post_ops)
