"""Numbers that write down how they follow from sizes, while a kernel is bound to them.

A kernel turns sizes into the numbers of its tables. Bound to a `Traced` instead of an int it does
so once for many sizes: every sum and product is a node of the `Trace`, and every comparison, which
decided what the kernel did next, is a condition under which the nodes hold. For other sizes
compiled code looks at the conditions and computes the nodes (`runtime/recast.py`).

A Traced is no int, so nothing gets at the number unnoticed: whatever would (an index, a hash, a
text, a float) raises Untraceable, and the step is bound in the ordinary way. A kernel that must
know a number asks for it by `known`, which is a condition too.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn, cast

# What a node is, of two others; then the conditions on two nodes.
ADD, SUB, MUL, DIV, MOD, LESS, NOT_LESS, EQUAL, UNLIKE = range(9)
CONSTANT, SIZE, HERE = range(-3, 0)  # nodes that are given; HERE is where the trace's tables begin

_current: ContextVar[Trace | None] = ContextVar("noria_trace", default=None)


class Untraceable(Exception):
    """Something wanted to know a number that is traced."""


class Trace:
    """What is done with sizes.

    nodes:      (what, of which nodes), or (CONSTANT, number), (SIZE, which), (HERE, 0)
    conditions: nodes of comparisons that held, in the order they were made
    words:      the tables, one behind the other; of_here: the node of where they begin
    """

    def __init__(self) -> None:
        self.nodes: list[tuple[int, ...]] = []
        self.conditions: dict[int, None] = {}
        self.words: list[Any] = []
        self._known: dict[tuple[int, ...], int] = {}
        self.of_here = self.node(HERE, 0)

    def node(self, *what: int) -> int:
        """The number of a node; the same for what is the same."""
        found = self._known.get(what)
        if found is None:
            found = self._known[what] = len(self.nodes)
            self.nodes.append(what)
        return found

    def size(self, which: int, now: int | None) -> int:
        """A size; now: what it is at the moment. Or an address, of which nothing may depend."""
        return _number(self, self.node(SIZE, which), now)

    def of(self, number: Any) -> int:
        """The node of a number, traced or not."""
        if isinstance(number, Traced):
            return number.node
        if type(number) is not int:
            raise Untraceable(f"{type(number).__name__} among the sizes")
        return self.node(CONSTANT, number)

    def table(self, numbers: Sequence[int]) -> int:
        """The address of a table of these numbers."""
        offset = 8 * len(self.words)
        self.words += numbers
        return _number(self, self.node(ADD, self.of_here, self.of(offset)), None)

    def require(self, what: int, a: int, b: int) -> None:
        """A comparison of two nodes that holds now."""
        self.conditions[self.node(what, a, b)] = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within it, on this Python thread, tables are those of this trace."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)


class Traced:
    """A number of a trace. now: what it is for the sizes that are bound; None for an address."""

    __slots__ = ("node", "now", "trace")

    def __init__(self, trace: Trace, node: int, now: int | None) -> None:
        self.trace, self.node, self.now = trace, node, now

    # ---- arithmetic ----------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        return self if _is(other, 0) else _made(ADD, self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self if _is(other, 0) else _made(SUB, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _made(SUB, other, self)

    def __mul__(self, other: Any) -> Any:
        if _is(other, 0):
            return 0
        return self if _is(other, 1) else _made(MUL, self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return self if _is(other, 1) else _made(DIV, self, _divisor(other))

    def __rfloordiv__(self, other: Any) -> Any:
        return _made(DIV, other, _divisor(self))

    def __mod__(self, other: Any) -> Any:
        return 0 if _is(other, 1) else _made(MOD, self, _divisor(other))

    def __rmod__(self, other: Any) -> Any:
        return _made(MOD, other, _divisor(self))

    def __neg__(self) -> Any:
        return 0 - self

    def __abs__(self) -> Any:
        return -self if self < 0 else self

    def __pow__(self, other: Any) -> Any:
        if not _is(other, 2):
            raise Untraceable("a power")
        return self * self

    def __lshift__(self, other: int) -> Any:
        return self * (1 << other)

    def __rshift__(self, other: int) -> Any:
        return self // (1 << other)

    # ---- comparisons ---------------------------------------------------------------------------

    def __lt__(self, other: Any) -> bool:
        return _compared(self, other, LESS, NOT_LESS)

    def __ge__(self, other: Any) -> bool:
        return not _compared(self, other, LESS, NOT_LESS)

    def __gt__(self, other: Any) -> bool:
        return _compared(other, self, LESS, NOT_LESS)

    def __le__(self, other: Any) -> bool:
        return not _compared(other, self, LESS, NOT_LESS)

    def __eq__(self, other: object) -> bool:
        if other is None or isinstance(other, str | tuple | list):
            return False
        return _compared(self, other, EQUAL, UNLIKE)

    def __bool__(self) -> bool:
        return self != 0

    # ---- what would tell the number ------------------------------------------------------------

    def _refuse(self, *_: object) -> NoReturn:
        raise Untraceable("a size is wanted as it is")

    __hash__ = _refuse
    __array__ = _refuse
    __array_ufunc__ = None  # arrays and numbers of NumPy leave arithmetic to the methods above
    __index__ = __int__ = __float__ = __str__ = __repr__ = __format__ = _refuse
    __truediv__ = __rtruediv__ = __round__ = __trunc__ = __floor__ = __ceil__ = _refuse


def table_of(numbers: Sequence[int]) -> tuple[int, object]:
    """(address, what keeps it there) of a table of int64, which native code may change."""
    trace = _current.get()
    if trace is not None:
        return trace.table(numbers), None
    memory = array("q", numbers)
    return memory.buffer_info()[0], memory


def known(number: int) -> int:
    """The number itself, where a kernel has to know it: what is bound serves this one alone."""
    if not isinstance(number, Traced):
        return number
    now = number.now
    if now is None:
        raise Untraceable("an address is wanted as it is")
    number.trace.require(EQUAL, number.node, number.trace.of(now))
    return now


def about(number: int) -> int:
    """The number at the moment: for estimates that nothing but a print-out depends on."""
    return cast(int, number.now) if isinstance(number, Traced) else number


def _number(trace: Trace, node: int, now: int | None) -> int:
    return cast(int, Traced(trace, node, now))  # it takes an int's place


def _is(number: Any, constant: int) -> bool:
    return type(number) is int and number == constant


def _divisor(number: Any) -> Any:
    """The same; if it is not zero, which must then be so."""
    if number == 0:
        raise ZeroDivisionError("integer division or modulo by zero")
    return number


def _values(a: Any, b: Any) -> tuple[Trace, Any, Any]:
    """(trace, value, value) of two numbers, of which one is traced."""
    trace = a.trace if isinstance(a, Traced) else b.trace
    return trace, a.now if isinstance(a, Traced) else a, b.now if isinstance(b, Traced) else b


def _made(what: int, a: Any, b: Any) -> Any:
    trace, x, y = _values(a, b)
    now = None if x is None or y is None else _DO[what](x, y)
    return Traced(trace, trace.node(what, trace.of(a), trace.of(b)), now)


_DO = (int.__add__, int.__sub__, int.__mul__, int.__floordiv__, int.__mod__)


def _compared(a: Any, b: Any, holds: int, fails: int) -> bool:
    trace, x, y = _values(a, b)
    first, second = trace.of(a), trace.of(b)
    if x is None or y is None:
        raise Untraceable("an address is compared")
    told = bool(x < y if holds == LESS else x == y)
    if first != second:
        trace.require(holds if told else fails, first, second)
    return told
