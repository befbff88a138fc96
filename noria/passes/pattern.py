"""Patterns: a function in the op vocabulary, traced on variables instead of values.

    def pattern(x, weight, bias=None, *, axis):
        return o.softmax(o.linear(x, weight, bias), axis=axis)

The signature reads like that of an op: positional parameters stand for values (with the default
None also for an absent optional input), keyword-only ones for attributes. What is written out must
be there as written: a number is a `fill` of that number, an attribute that is not mentioned has its
default. `ANY` is an attribute that may be anything. An op of several outputs stands for its first
one, or is unpacked: `out, *rest = o.batch_norm(...)`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from noria.core.errors import ProgramError
from noria.ir.emit import Builder
from noria.ir.opdef import OpDef
from noria.ir.program import Operator, Program, Value
from noria.ops import methods  # noqa: F401 - registers the ops that patterns name, and `x + y`

_COMMUTATIVE = "add mul maximum minimum equal not_equal logical_and logical_or logical_xor"
COMMUTATIVE = frozenset(_COMMUTATIVE.split())
MAX_COMMUTATIVE = 6  # in one pattern, which is tried 2^n times


class _Any:
    """Matches every attribute."""

    def __repr__(self) -> str:
        return "ANY"


ANY = _Any()


@dataclass(frozen=True, eq=False, slots=True)
class Variable:
    """Any value; the same value wherever the name stands."""

    name: str
    optional: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Attribute:
    """Any attribute; the same wherever the name stands."""

    name: str


@dataclass(frozen=True, eq=False, slots=True)
class Number:
    """A `fill` of this number, of any shape and dtype."""

    number: bool | int | float


@dataclass(frozen=True, eq=False, slots=True)
class Node:
    """An operator of this type."""

    type: str
    inputs: tuple[Variable | Number | Output | None, ...]
    attrs: Mapping[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Output:
    """Output `index` of the operator that matches `node`."""

    node: Node
    index: int


Term = Variable | Number | Output | None


class _Stand(Value):
    """What a pattern function computes with; shape and dtype say nothing."""

    __slots__ = ("term",)

    def __init__(self, term: Term) -> None:
        super().__init__("pattern", (), "float32")
        self.term = term


class _Several(_Stand):
    """The result of an op that has several outputs."""

    __slots__ = ("all",)

    def __init__(self, node: Node, count: int) -> None:
        super().__init__(Output(node, 0))
        self.all = [self, *(_Stand(Output(node, i)) for i in range(1, count))]

    def __iter__(self) -> Iterator[Value]:
        return iter(self.all)


def _term(value: Any) -> Term:
    if not isinstance(value, _Stand):
        raise ProgramError(
            "a pattern is made of its parameters, ops on them and numbers", got=repr(value)
        )
    return value.term


class _Tracer(Builder):
    """Records what a pattern function calls, without inference."""

    shortcuts = False

    def __init__(self) -> None:
        super().__init__(Program("pattern"))
        self.nodes: list[Node] = []

    def constant(self, data: Any, dtype: str | None = None) -> Value:
        if not isinstance(data, (bool, int, float)):
            raise ProgramError("a pattern holds numbers, not arrays", got=repr(data))
        return _Stand(Number(data))

    def emit(
        self,
        definition: OpDef,
        inputs: Sequence[Value | None],
        attrs: Mapping[str, Any],
        blocks: Any = None,
    ) -> Any:
        terms = tuple(None if v is None else _term(v) for v in inputs)
        node = Node(definition.name, terms, definition.bind_attrs(attrs))
        self.nodes.append(node)
        count = len(definition.outputs)
        return _Stand(Output(node, 0)) if count == 1 else _Several(node, count)


class Pattern:
    """A traced pattern.

    root:     the node it is anchored at, the op that the function returns
    nodes:    all nodes, operands first; types: of their operators
    variants: the sets of nodes whose two inputs are exchanged, to be tried in this order
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        tracer = _Tracer()
        args, attrs = _parameters(fn)
        with tracer:
            result = fn(*(_Stand(v) for v in args), **{a.name: a for a in attrs})
        term = _term(result)
        if not isinstance(term, Output):
            raise ProgramError("a pattern must return what an op gives", got=repr(result))
        self.root = term.node
        self.nodes = tracer.nodes
        self.types = {node.type for node in tracer.nodes}
        swaps = [n for n in tracer.nodes if n.type in COMMUTATIVE and n.inputs[0] != n.inputs[1]]
        if len(swaps) > MAX_COMMUTATIVE:
            raise ProgramError(f"more than {MAX_COMMUTATIVE} commutative ops in one pattern")
        self.variants = [
            frozenset(chosen) for k in range(len(swaps) + 1) for chosen in combinations(swaps, k)
        ]

    def match(self, operator: Operator, producer: Mapping[Value, Operator]) -> Found | None:
        """The first of `matches`, None if there is none."""
        return next(self.matches(operator, producer), None)

    def matches(self, operator: Operator, producer: Mapping[Value, Operator]) -> Iterator[Found]:
        """The ways the operator and what leads to it fit.

        producer: value -> the operator that makes it. If there is none, the first fit whose only
        fault is an attribute, with the fault.
        """
        nearly, fits = None, False
        for swapped in self.variants:
            attempt = _Attempt(swapped, producer)
            if attempt.node(self.root, operator):
                if not attempt.found.fault:
                    fits = True
                    yield attempt.found
                nearly = nearly or attempt.found
        if nearly is not None and not fits:
            yield nearly


@dataclass(slots=True)
class Found:
    """A fit. operators: node -> operator, the anchor first; fault: '' or the first difference."""

    values: dict[str, Value | None] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    operators: dict[Node, Operator] = field(default_factory=dict)
    fault: str = ""


class _Attempt:
    """One walk from the anchor backwards, with some commutative nodes exchanged."""

    def __init__(self, swapped: frozenset[Node], producer: Mapping[Value, Operator]) -> None:
        self.swapped, self.producer = swapped, producer
        self.found = Found()

    def node(self, node: Node, operator: Operator) -> bool:
        known = self.found.operators.get(node)
        if known is not None:
            return known is operator
        if operator.type != node.type or len(operator.inputs) != len(node.inputs):
            return False
        self.found.operators[node] = operator
        terms = node.inputs[::-1] if node in self.swapped else node.inputs
        if not all(map(self.term, terms, operator.inputs)):
            return False
        for name, wanted in node.attrs.items():
            self.attribute(operator, name, wanted)
        return True

    def term(self, term: Term, value: Value | None) -> bool:
        if term is None or value is None:
            return (term is None and value is None) or self.absent(term)
        if isinstance(term, Variable):
            return self.found.values.setdefault(term.name, value) is value
        maker = self.producer.get(value)
        if maker is None:
            return False
        if isinstance(term, Number):
            return maker.type == "fill" and same_number(maker.attrs["value"], term.number)
        count = len(maker.outputs)
        right = term.index < count and maker.outputs[term.index] is value
        return right and self.node(term.node, maker)

    def absent(self, term: Term) -> bool:
        if not isinstance(term, Variable) or not term.optional:
            return False
        return self.found.values.setdefault(term.name, None) is None

    def attribute(self, operator: Operator, name: str, wanted: Any) -> None:
        got = operator.attrs.get(name)
        if wanted is ANY:
            return
        if isinstance(wanted, Attribute):
            wanted = self.found.attrs.setdefault(wanted.name, got)
        if wanted is not got and wanted != got and not self.found.fault:
            self.found.fault = f"{name} of {operator.type} is {got!r}, not {wanted!r}"


def same_number(a: bool | int | float, b: bool | int | float) -> bool:
    """Equal, with 0.0 and -0.0 told apart."""
    return a == b and math.copysign(1, a) == math.copysign(1, b)


def _parameters(fn: Callable[..., Any]) -> tuple[list[Variable], list[Attribute]]:
    args, attrs = [], []
    for p in inspect.signature(fn).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            attrs.append(Attribute(p.name))
        elif p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise ProgramError(f"the parameters of a pattern are named, not *{p.name}")
        else:
            args.append(Variable(p.name, optional=p.default is None))
    return args, attrs
