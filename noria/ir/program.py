"""The IR: plain data that can be printed, differentiated, rewritten, planned and shipped.

    Program  = main Block + inputs + state + outputs + updates
    Block    = inputs, operators, outputs            (a closed function: no hidden captures)
    Operator = type, inputs, outputs, attributes, nested blocks, origin
    Value    = name, dtype, shape                    (defined once)

Values and Operators never change once made; a rewrite makes new ones. So a copy of a Program is
a copy of its lists, and sharing is always safe. Uses are computed (`ir/index.py`), never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from noria.core.dims import Dim, format_shape, symbols_of
from noria.core.dtypes import as_dtype
from noria.core.errors import ArgumentError, MissingError, ShapeError, nearest
from noria.core.trace import Source

Shape = tuple[int | Dim, ...]


def as_shape(shape: Any) -> Shape:
    """A tuple of sizes from an int, a Dim, or a sequence of them."""
    if isinstance(shape, (int, Dim)) and not isinstance(shape, bool):
        shape = (shape,)
    if not isinstance(shape, Iterable):
        raise ShapeError("a shape is a sequence of sizes", got=repr(shape))
    out: list[int | Dim] = []
    for d in shape:
        n = d if type(d) is int or isinstance(d, Dim) else _whole(d, shape)
        if type(n) is int and n < 0:
            raise ShapeError(f"a size cannot be negative: {n}", got=repr(shape))
        out.append(n)
    return tuple(out)


def _whole(size: Any, shape: Any) -> int:
    """A size that is some other kind of integer."""
    try:
        return int(size.__index__())
    except AttributeError:
        raise ShapeError(
            f"a size must be an integer or a symbol, not {size!r}", got=repr(shape)
        ) from None


class Spec:
    """dtype and shape: what inference knows of a value."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: Any, dtype: Any = "float32") -> None:
        self.shape: Shape = as_shape(shape)
        self.dtype: str = as_dtype(dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}{format_shape(self.shape)}"

    def __repr__(self) -> str:
        return f"Spec({self})"

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and isinstance(other, Spec)
            and (self.dtype, self.shape) == (other.dtype, other.shape)
        )

    def __hash__(self) -> int:
        return hash((self.dtype, self.shape))


class Value(Spec):
    """A named value of a Block: name, dtype, shape and nothing else.

    Two Values are the same only if they are the same object. `x + y`, `x[1:]`, `x.mean()` and
    the like are attached by `ops/methods.py`, so that this floor knows no operator.
    """

    __slots__ = ("name",)

    def __init__(self, name: str, shape: Any, dtype: Any = "float32") -> None:
        super().__init__(shape, dtype)
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}: {self}>"

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __bool__(self) -> bool:
        raise ArgumentError(
            f"the truth of value '{self.name}' is not known while the Program is built",
            got=f"{self.name}: {self}",
            hint="use ops.cond, ops.where or ops.while_loop instead of if and while",
        )

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise ArgumentError(
            f"value '{self.name}' has no numbers while the Program is built",
            got=f"{self.name}: {self}",
            hint="use noria.ops functions on it, and fetch it from an Executor to see numbers",
        )

    if TYPE_CHECKING:  # attached by ops/methods.py

        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Any: ...
        def __radd__(self, other: Any) -> Any: ...
        def __sub__(self, other: Any) -> Any: ...
        def __rsub__(self, other: Any) -> Any: ...
        def __mul__(self, other: Any) -> Any: ...
        def __rmul__(self, other: Any) -> Any: ...
        def __truediv__(self, other: Any) -> Any: ...
        def __matmul__(self, other: Any) -> Any: ...
        def __neg__(self) -> Any: ...
        def __getitem__(self, key: Any) -> Any: ...


@dataclass(frozen=True, eq=False, slots=True)
class Operator:
    """One step. `inputs` holds None where an optional input is absent.

    operands: the inputs that are present
    source:  where the user wrote it; made_by: the pass or transform that made it, or ''.
    full_precision: it stays float32 under a lower precision (`noria.full_precision`)
    """

    type: str
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    blocks: Mapping[str, Block] = field(default_factory=dict)
    source: Source | None = None
    made_by: str = ""
    full_precision: bool = False
    operands: tuple[Value, ...] = field(init=False, repr=False)
    _symbols: frozenset[str] | None = field(init=False, repr=False, default=None)
    _told: frozenset[str] | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "operands", tuple([v for v in self.inputs if v is not None]))

    def where(self) -> str:
        """For error messages: op type and the user's line."""
        made = f", made by {self.made_by}" if self.made_by else ""
        return f"{self.type} at {self.source}{made}" if self.source else f"{self.type}{made}"

    def with_inputs(self, replaced: Mapping[Value, Value]) -> Operator:
        """The operator with inputs replaced, or itself when none is concerned."""
        if replaced.keys().isdisjoint(self.operands):
            return self
        inputs = tuple(None if v is None else replaced.get(v, v) for v in self.inputs)
        return replace(self, inputs=inputs)


@dataclass(eq=False, slots=True, weakref_slot=True)
class Block:
    """A closed function: everything an operator uses is an input or defined before it."""

    inputs: list[Value] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)

    def copy(self) -> Block:
        return Block(list(self.inputs), list(self.operators), list(self.outputs))


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """A value that outlives a step: a parameter, a running statistic, a counter.

    init: the op that makes the first value and its attributes, e.g. ("fill", {"value": 0.0});
    trainable: gradients and optimisers look for it.
    """

    value: Value
    init: tuple[str, Mapping[str, Any]] = ("fill", {"value": 0.0})
    trainable: bool = False

    @property
    def name(self) -> str:
        return self.value.name


@dataclass(eq=False, slots=True)
class Program:
    """A whole computation.

    block:   the main block; its inputs are the feeds, its outputs those of `outputs`
    state:   name -> State; the state's value may be used by any operator of the main block
    outputs: name a user fetches -> Value
    updates: state name -> Value, all committed together when a step ends
    recomputed: values of one part each, not to be kept for the backward part; for the optimiser,
             and not saved with the Program
    """

    name: str = "program"
    block: Block = field(default_factory=Block)
    state: dict[str, State] = field(default_factory=dict)
    outputs: dict[str, Value] = field(default_factory=dict)
    updates: dict[str, Value] = field(default_factory=dict)
    recomputed: list[frozenset[Value]] = field(default_factory=list)

    @property
    def inputs(self) -> dict[str, Value]:
        """Feeds by name."""
        return {v.name: v for v in self.block.inputs}

    @property
    def operators(self) -> list[Operator]:
        """Operators of the main block, in a valid order."""
        return self.block.operators

    def copy(self) -> Program:
        tables = dict(self.state), dict(self.outputs), dict(self.updates)
        return Program(self.name, self.block.copy(), *tables, list(self.recomputed))

    def roots(self) -> list[Value]:
        """What a step must produce: outputs and updates."""
        return [*self.outputs.values(), *self.updates.values()]

    def output(self, name: str) -> Value:
        """The output of that name. Raises MissingError."""
        if name not in self.outputs:
            raise MissingError(
                f"the Program has no output '{name}'", hint=nearest(name, self.outputs)
            )
        return self.outputs[name]

    def parameters(self) -> dict[str, State]:
        """Trainable state by name."""
        return {n: s for n, s in self.state.items() if s.trainable}

    def replaced(self, operators: Iterable[Operator], values: Mapping[Value, Value]) -> Program:
        """A Program with new operators, where outputs and updates follow `values`.

        Operators are taken as they are; rename their inputs with `Operator.with_inputs` first.
        """
        out = self.copy()
        out.block.operators = list(operators)
        out.outputs = {k: values.get(v, v) for k, v in self.outputs.items()}
        out.updates = {k: values.get(v, v) for k, v in self.updates.items()}
        out.block.outputs = list(out.outputs.values())
        return out


def walk(block: Block) -> Iterator[Operator]:
    """All operators, those of nested blocks included, outer before inner."""
    for operator in block.operators:
        yield operator
        for inner in operator.blocks.values():
            yield from walk(inner)


def needed(block: Block, roots: Sequence[Value], keep: Any = None) -> list[Operator]:
    """The operators that `roots` depend on, in order.

    A size that only an operator tells when it runs, as the number of elements it finds, is
    something to depend on too.
    keep: optional function Operator -> bool for operators kept whatever happens (ordered effects).
    """
    wanted = set(roots)
    sizes: set[str] = set().union(*[symbols_of(v.shape) for v in wanted])
    out: list[Operator] = []
    for operator in reversed(block.operators):
        tells = bool(sizes) and not sizes.isdisjoint(symbols_told(operator))
        asked = tells or any(v in wanted for v in operator.outputs)
        if asked or (keep is not None and keep(operator)):
            wanted.update(operator.operands)
            sizes |= symbols_used(operator)
            out.append(operator)
    return out[::-1]


def symbols_used(operator: Operator) -> frozenset[str]:
    """Symbols of sizes that must be known when the operator runs."""
    found = operator._symbols
    if found is None:  # found once, since an Operator does not change
        found = _symbols_used(operator)
        object.__setattr__(operator, "_symbols", found)
    return found


def _symbols_used(operator: Operator) -> frozenset[str]:
    found: frozenset[str] = frozenset().union(*[symbols_of(v.shape) for v in operator.operands])
    for value in operator.attrs.values():
        if type(value) in (Dim, tuple):
            found |= _symbols_in(value)
    for block in operator.blocks.values():
        found = found.union(*map(symbols_used, block.operators))
    return found


def symbols_told(operator: Operator) -> frozenset[str]:
    """Symbols of sizes that nobody knows before the operator has run."""
    told = operator._told
    if told is None:
        found: frozenset[str] = frozenset().union(*[symbols_of(v.shape) for v in operator.outputs])
        told = found - symbols_used(operator) if found else found
        object.__setattr__(operator, "_told", told)
    return told


def _symbols_in(value: Any) -> frozenset[str]:
    if isinstance(value, Dim):
        return symbols_of(value)
    return frozenset().union(*map(_symbols_in, value)) if isinstance(value, tuple) else frozenset()
