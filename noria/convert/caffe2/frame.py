"""Blobs while a net is converted: what each name stands for at this place.

Caffe2 assigns names again and again; the Program defines each value once. So the frame maps a name
to the newest value, operator by operator.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.handlers import NeedsConstant
from noria.convert.messages import parse_message, parse_text, schema
from noria.core.dims import product, symbols_of
from noria.core.errors import (
    ArgumentError,
    FormatError,
    MissingError,
    NoriaError,
    ProgramError,
    nearest,
)
from noria.ir.emit import building
from noria.ir.interpret import run_operator
from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Value, needed

MAX_NUMBERS = 1 << 20  # a value that decides a shape is small
COUNTING = ("CountDown", "CountUp", "ResetCounter")  # they change their input
MAX_DEPTH = 8  # nets within nets; some are read twice, so that each level may cost double

# what a handler stumbles over where a net gives an operator what Caffe2 would not take
UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class Shared:
    """What all frames of one conversion share: new symbols, and how deep nets are nested."""

    def __init__(self, inputs: Iterable[Value] = ()) -> None:
        self.symbols: set[str] = set().union(*[symbols_of(v.shape) for v in inputs])
        self.inputs = {v: v.name for v in inputs}
        self.numbers: dict[Value, np.ndarray] = {}  # state whose numbers stay as they are
        self.scales: dict[Value, tuple[float, int]] = {}  # (scale, zero point) of 8-bit values


class Frame:
    """Converts the operators of a net, one after the other.

    blobs: name -> value; None for what is not a tensor of numbers
    """

    def __init__(
        self, shared: Shared, blobs: Mapping[str, Any], outer: Frame | None = None, depth: int = 0
    ) -> None:
        self.shared = shared
        self.blobs = dict(blobs)
        self.outer = outer
        self.depth = depth
        self.emitted = building().block

    # ---- operators -----------------------------------------------------------------------------

    def run(self, net: Any) -> None:
        """Converts every operator of a net. Errors name the operator."""
        for message in net.op:
            node = Node(message, self)
            try:
                self._convert(node)
            except NoriaError as error:
                raise error.at(node.where()) from None
            except MemoryError:
                raise FormatError("an array is too large for memory", where=node.where()) from None
            except UNFIT as error:
                raise ProgramError(
                    "inputs or arguments do not fit this operator",
                    where=node.where(),
                    got=f"{node.specs()}: {error}",
                ) from error

    def _convert(self, node: Node) -> None:
        handler = caffe2_op.find(node.type)
        if handler is None:
            raise MissingError(f"no handler of Caffe2's {node.type}")
        inputs = [self.read(name) for name in node.inputs]
        try:
            inspect.signature(handler).bind(node, *inputs)
        except TypeError as error:
            raise ArgumentError(f"wrong number of inputs: {error}", got=str(len(inputs))) from None
        result = handler(node, *inputs)
        given = result if isinstance(result, (tuple, list)) else (result,)
        if len(given) < len(node.outputs):
            raise ArgumentError(
                "an operator with more outputs than it gives",
                expected=f"at most {len(given)}",
                got=str(node.outputs),
            )
        for name, value in zip(node.outputs, given, strict=False):
            self.blobs[name] = value if value is None else as_value(value)

    def read(self, name: str) -> Any:
        """The newest value of a blob. Raises MissingError where there is none."""
        if name not in self.blobs:
            raise MissingError(f"no blob is called '{name}'", hint=nearest(name, self.blobs))
        return self.blobs[name]

    def inner(self, blobs: Mapping[str, Any]) -> Frame:
        """A frame for a net within an operator, with blobs of its own beside the ones here."""
        return Frame(self.shared, {**self.blobs, **blobs}, self, self.depth + 1)

    def nested_net(self, argument: Any, where: str) -> Any:
        """The net an Argument holds, as a message or, in older files, as text."""
        if self.depth >= MAX_DEPTH:
            raise FormatError(f"nets are nested deeper than {MAX_DEPTH}", where=where)
        if argument.HasField("n"):
            return argument.n
        if argument.HasField("s"):
            net = schema("caffe2").NetDef()
            if b"\0" in argument.s or argument.s[:1] == b"\n":
                return parse_message(net, argument.s, where)
            return parse_text(net, argument.s.decode("utf-8", "replace"), where)
        raise ArgumentError(f"the argument '{argument.name}' holds no net", where=where)

    def constant(self, array: np.ndarray) -> Value:
        """A value that holds these numbers."""
        return as_value(array)

    # ---- what is known while converting --------------------------------------------------------

    def symbol(self, base: str) -> str:
        """A new name for a size that only the data tell."""
        taken, name, k = self.shared.symbols, base, 0
        while name in taken:
            k += 1
            name = f"{base}_{k}"
        taken.add(name)
        return name

    def known(self, value: Any) -> np.ndarray | None:
        """The numbers of a value that depends on no input of the Program; None if it does."""
        if not isinstance(value, Value):
            return np.asarray(value)
        made_here = any(value in operator.outputs for operator in self.emitted.operators)
        if self.outer is not None and not made_here:
            return self.outer.known(value)
        operators = needed(Block(operators=self._operators()), [value])
        found = dict(self.shared.numbers)
        with np.errstate(all="ignore"):
            for operator in operators:
                if not _foldable(operator, found):
                    return None
                inputs = [None if v is None else found[v] for v in operator.inputs]
                found.update(zip(operator.outputs, run_operator(operator, inputs, {}), strict=True))
        return found.get(value)

    def const(self, value: Any, what: str) -> np.ndarray:
        """The numbers of a value. Raises NeedsConstant, which names the inputs it depends on."""
        numbers = self.known(value)
        if numbers is not None:
            return numbers
        frame = self
        while frame.outer is not None:
            frame = frame.outer
        operators = needed(Block(operators=[*frame._operators(), *self._operators()]), [value])
        used = {value}.union(*[o.operands for o in operators])
        inputs = [name for v, name in self.shared.inputs.items() if v in used]
        raise NeedsConstant(value.name, what, inputs)

    def _operators(self) -> list[Operator]:
        return self.emitted.operators


def _foldable(operator: Operator, found: Mapping[Value, Any]) -> bool:
    if lookup(operator.type).effect != "pure" or operator.blocks:
        return False
    if any(v not in found for v in operator.operands):
        return False
    counts = [product(v.shape) for v in operator.outputs]
    return all(isinstance(n, int) and n <= MAX_NUMBERS for n in counts)


def as_value(value: Any) -> Value:
    """A result of a handler as a value of the Program."""
    return value if isinstance(value, Value) else building().constant(np.asarray(value))


def assigned_by(operator: Any) -> list[str]:
    """The names an OperatorDef gives new values to: its outputs, and a counter it changes."""
    changed = operator.input[:1] if operator.type in COUNTING else []
    return [*operator.output, *changed]


def nets_of(operator: Any) -> list[Any]:
    """The nets among the arguments of an OperatorDef."""
    arguments = list(operator.arg)
    return [a.n for a in arguments if a.HasField("n")] + [n for a in arguments for n in a.nets]


def operators_of(net: Any, depth: int = 0) -> Iterator[tuple[str, str, int, str]]:
    """(domain, type, version, where) of every operator of a net, those of nets within included."""
    if depth > MAX_DEPTH:
        raise FormatError(f"nets are nested deeper than {MAX_DEPTH}")
    for message in net.op:
        yield "", message.type, 1, f"'{', '.join(message.output)}'"
        for inner in nets_of(message):
            yield from operators_of(inner, depth + 1)
