"""Kernels: who can run an op, and in which memory layout.

A kernel is chosen once, when a Program is planned: that of the highest `priority` whose `accepts`
does not decline. The reference kernel is last and takes everything. When sizes are bound, `bind`
prepares native calls for concrete arrays; addresses come later, when memory is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar, cast

from noria.core import dtypes
from noria.core.errors import MissingError, nearest
from noria.core.flags import flags
from noria.ir.program import Operator
from noria.kernels.call import Call

T = TypeVar("T")
PLAIN, LAST = "plain", "channels_last"
Layouts = tuple[list[str | None], list[str]]  # wanted of inputs (None: any), given to outputs


class Declined(Exception):
    """A kernel does not take this op; the text is the reason a user may ask for."""


def strides_of(shape: Sequence[int], layout: str) -> tuple[int, ...]:
    """Strides in elements. channels_last keeps axis 1 innermost ([N, C, H, W] as N, H, W, C)."""
    if layout == LAST and len(shape) > 2:
        inner = strides_of((shape[0], *shape[2:], shape[1]), PLAIN)
        return (inner[0], inner[-1], *inner[1:-1])
    out: list[int] = []
    step = 1
    for size in reversed(shape):
        out.append(step)
        step *= size or 1
    return tuple(out[::-1])


@dataclass(frozen=True, slots=True)
class Array:
    """An operand with real sizes: shape, dtype and strides (in elements), no address yet."""

    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]
    size: int = field(init=False, repr=False, compare=False)
    nbytes: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        size = prod(self.shape)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "nbytes", size * dtypes.itemsize(self.dtype))

    @property
    def dense(self) -> bool:
        """Row-major without gaps."""
        return same_memory(self.shape, self.strides, strides_of(self.shape, PLAIN))


def same_memory(shape: Sequence[int], a: Sequence[int], b: Sequence[int]) -> bool:
    """Do two strides lay the same elements at the same places? (Axes of size 1 do not matter.)"""
    return a == b or all(x == y for d, x, y in zip(shape, a, b, strict=True) if d > 1)


@dataclass(slots=True)
class BoundOp:
    """An operator with real sizes.

    fixed: which inputs never change: packing them is free
    notes: what the kernels asked found out for other sizes of the same operator, each under names
           of its own; nothing in it depends on sizes
    """

    op: Operator
    attrs: Mapping[str, Any]
    inputs: list[Array | None]
    outputs: list[Array]
    threads: int
    fixed: list[bool]
    notes: dict[Any, Any] = field(default_factory=dict)

    def note(self, name: Any, make: Callable[..., T], *args: Any) -> T:
        """What `make(*args)` gives, worked out for the first sizes."""
        found = self.notes.get(name)
        if found is None:
            found = self.notes[name] = make(*args)
        return cast(T, found)


@dataclass(slots=True)
class Pack:
    """A copy of an input in a layout only the kernel knows.

    Made once when the input never changes, else at each step just before the kernel runs; shared
    by all kernels that ask for the same key of the same value.

    emit:     of the address of the input, and of the copy
    replaces: the kernel reads the copy only: the input's memory may be given back
    full:     the same of a float32 input, for a copy of bfloat16 that rounds on the way; with it,
              who made the input by a cast may leave the cast out
    """

    input: int
    key: Any
    nbytes: int
    emit: Callable[[int, int], list[Call]]
    replaces: bool = False
    full: Callable[[int, int], list[Call]] | None = None


@dataclass(slots=True)
class Prepared:
    """A bound kernel. `emit(inputs, outputs, packs, scratch)`: addresses -> rows of the tape.

    in_place: (output, input) pairs that may share memory, a subset of what the op allows.
    """

    emit: Callable[[list[int], list[int], list[int], int], list[Call]]
    scratch: int = 0
    packs: list[Pack] = field(default_factory=list)
    in_place: Sequence[tuple[int, int]] = ()
    work: float = 0.0  # floating-point operations, of ops that do not tell them (`OpDef.work`)
    detail: str = ""


class Kernel:
    """Base of kernels.

    name:     'engine:kernel'
    ops:      the op types it may run
    priority: of the kernels of one op the one of the highest is asked first. Two that share an op
              have different ones: what a kernel declines is left to those below it.
    """

    name = "?"
    ops: tuple[str, ...] = ()
    priority = 0

    @property
    def engine(self) -> str:
        return self.name.split(":")[0]

    def accepts(self, op: Operator) -> None:
        """Raises Declined with the reason, looking at dtypes, ranks, attributes."""

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        """Layouts wanted of inputs and given to outputs, knowing those inputs come in."""
        return [None if v is None else PLAIN for v in op.inputs], [PLAIN] * len(op.outputs)

    def bind(self, bound: BoundOp) -> Prepared:
        """Native calls for real sizes. May still raise Declined: the reference then serves.

        What it returns depends on `bound` and the flags alone, and serves all operators that are
        alike: its `emit` is called for each of them, and once more where kernels were missing.
        """
        raise NotImplementedError


_kernels: list[Kernel] = []


def register(kernel: Kernel) -> Kernel:
    """Add a kernel."""
    _kernels.append(kernel)
    return kernel


def kernels() -> list[Kernel]:
    """All fast kernels, in the order they are asked."""
    return sorted(_kernels, key=lambda kernel: -kernel.priority)


def enabled_engines() -> frozenset[str]:
    """Engines that the flag `kernels` leaves on: 'all', 'reference' or names by comma."""
    known = {k.engine for k in _kernels}
    if flags.kernels == "all":
        return frozenset(known)
    names = {n.strip() for n in flags.kernels.split(",") if n.strip()} - {"reference"}
    for n in names - known:
        raise MissingError(
            f"NORIA_KERNELS names an unknown engine '{n}'", hint=nearest(n, {*known, "reference"})
        )
    return frozenset(names)


@dataclass(slots=True)
class Choice:
    """The kernel of an operator (None: reference), and why the others did not take it.

    others: kernels that accept it too, in order, should the first decline when sizes are known
    """

    kernel: Kernel | None
    refused: list[tuple[str, str]]
    others: list[Kernel] = field(default_factory=list)


def choose(op: Operator, engines: frozenset[str]) -> Choice:
    """The first enabled kernel that accepts the operator.

    engines: what is enabled, by the names of engines or of kernels
    """
    refused, accepting = [], []
    for kernel in _by_op().get(op.type, ()):
        if engines.isdisjoint((kernel.engine, kernel.name)):
            refused.append((kernel.name, "switched off"))
            continue
        try:
            kernel.accepts(op)
            accepting.append(kernel)
        except Declined as reason:
            refused.append((kernel.name, str(reason)))
    return Choice(accepting[0] if accepting else None, refused, accepting[1:])


_index: tuple[int, dict[str, list[Kernel]]] = (-1, {})


def _by_op() -> dict[str, list[Kernel]]:
    global _index
    if _index[0] != len(_kernels):
        table: dict[str, list[Kernel]] = {}
        for k in kernels():
            for t in k.ops:
                table.setdefault(t, []).append(k)
        _index = len(_kernels), table
    return _index[1]
