"""Building a Program: what appends operators to its blocks, declares feeds and state, names values.

A Builder appends to one Block of one Program. Builders nest for control flow: when an op inside
a nested block uses a value of an outer block, the value is captured, that is, it becomes an input
of the nested block and an operand of the control-flow op. So every Block is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.errors import ArgumentError, NoriaError, ProgramError
from noria.core.trace import Source, caller
from noria.ir.opdef import OpDef, lookup
from noria.ir.program import Block, Operator, Program, Spec, State, Value, walk

_current: ContextVar[Builder | None] = ContextVar("noria_builder", default=None)


def current() -> Builder | None:
    """The innermost active Builder, or None outside any."""
    return _current.get()


def building() -> Builder:
    """The innermost active Builder. Raises ProgramError outside any."""
    builder = _current.get()
    if builder is None:
        raise ProgramError(
            "no Program is being built here",
            hint="call it inside `with noria.Builder(program):` or a function given to noria.trace",
        )
    return builder


@contextmanager
def full_precision() -> Iterator[None]:
    """Operators emitted inside, and their gradients, stay float32 under a lower precision.

        with noria.full_precision():
            y = self.head(x)

    Called on arrays there is nothing to mark: what computes at once computes in the dtype given.
    """
    builder = current()
    if builder is None:
        yield
        return
    before, builder.full_precision = builder.full_precision, True
    try:
        yield
    finally:
        builder.full_precision = before


def loop_indices() -> list[Value]:
    """The iteration numbers (int64 scalars) of the loops around this place, outermost first.

    What must differ from one iteration to the next, a random key above all, depends on them.
    """
    here = building()
    found: list[Value] = []
    builder: Builder | None = here
    while builder is not None:
        if builder.loop_index is not None:
            found.append(here.capture(builder.loop_index()))
        builder = builder.parent
    return found[::-1]


class Names:
    """Unique names in one Program: `relu`, `relu_1`, `relu_2`, ..."""

    def __init__(self, taken: Sequence[str] = ()) -> None:
        self.taken = set(taken)
        self.next: dict[str, int] = {}

    def fresh(self, base: str) -> str:
        k = self.next.get(base, 0)
        name = base if k == 0 else f"{base}_{k}"
        while name in self.taken:
            k += 1
            name = f"{base}_{k}"
        self.next[base] = k + 1
        self.taken.add(name)
        return name

    def claim(self, name: str) -> str:
        """Take exactly this name. Raises ArgumentError if it is taken."""
        if name in self.taken:
            raise ArgumentError(f"the name '{name}' is already used in this Program")
        self.taken.add(name)
        return name


def names_of(program: Program) -> Names:
    taken = list(program.state)
    taken += [v.name for v in program.block.inputs]
    for operator in walk(program.block):
        taken += [v.name for v in operator.outputs]
        for block in operator.blocks.values():
            taken += [v.name for v in block.inputs]
    return Names(taken)


class Builder:
    """Appends operators to a Block. A context manager: inside it, ops on Values are emitted.

    program:  the Program being built (for nested blocks: the same one)
    captures: outer value -> inner input, for nested blocks
    made_by:  name of the pass or transform that emits, '' for the user
    source:   set while a rule emits on behalf of an existing operator
    full_precision: whether what is emitted stays float32 under a lower precision
    shortcuts: whether an op may return something instead of emitting (not in a pattern)
    loop_index: for the body of a loop: makes (once) the value that counts its iterations
    """

    shortcuts = True

    def __init__(
        self,
        program: Program,
        block: Block | None = None,
        parent: Builder | None = None,
        made_by: str = "",
    ) -> None:
        self.program = program
        self.block = program.block if block is None else block
        self.parent = parent
        self.names: Names = parent.names if parent else names_of(program)
        self._tokens: list[Any] = []  # a Builder may be entered again inside itself
        self.captures: dict[Value, Value] = {}
        self.made_by: str = made_by or (parent.made_by if parent else "")
        self.source: Source | None = parent.source if parent else None
        self.full_precision: bool = parent.full_precision if parent else False
        self.constants: dict[Any, Value] = {}
        self.owners: dict[str, object] = {}  # state name -> the Parameter that declared it
        self.loop_index: Callable[[], Value] | None = None
        self.known: set[Value] = set(self.block.inputs)
        self.known.update(v for o in self.block.operators for v in o.outputs)
        if parent is None:
            self.known.update(s.value for s in program.state.values())

    def __enter__(self) -> Builder:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._tokens.pop())

    # ---- declarations --------------------------------------------------------------------------

    def input(self, name: str, shape: Any, dtype: Any = "float32") -> Value:
        """Declare a feed (or an input of a nested block)."""
        value = Value(self.names.claim(name), shape, dtype)
        self.block.inputs.append(value)
        self.known.add(value)
        return value

    def state(
        self,
        name: str,
        shape: Any,
        dtype: Any = "float32",
        *,
        init: tuple[str, Mapping[str, Any]] = ("fill", {"value": 0.0}),
        trainable: bool = False,
        owner: object = None,
    ) -> Value:
        """Declare state, or get the state already declared under that name.

        owner: whose state it is; two owners cannot mean the same name by accident.
        Raises ArgumentError if it was declared with another shape or dtype, or by another owner.
        """
        if self.parent is not None:
            how = {"init": init, "trainable": trainable, "owner": owner}
            return self.capture(self.root.state(name, shape, dtype, **how))  # type: ignore[arg-type]
        old = self.program.state.get(name)
        if owner is not None and self.owners.setdefault(name, owner) is not owner:
            raise ArgumentError(
                f"two parameters are called '{name}' in this Program",
                hint='give each model a name of its own: model.named("generator")',
            )
        if old is not None:
            new = Spec(shape, dtype)
            if (old.value.shape, old.value.dtype) != (new.shape, new.dtype):
                raise ArgumentError(
                    f"state '{name}' was declared before with another spec",
                    expected=f"{old.value.dtype}{list(old.value.shape)}",
                    got=str(new),
                )
            return old.value
        value = Value(self.names.claim(name), shape, dtype)
        self.program.state[name] = State(value, (init[0], dict(init[1])), trainable)
        self.known.add(value)
        return value

    def update(self, state: Value | str, value: Value) -> None:
        """Commit `value` to the state when the step ends."""
        name = state if isinstance(state, str) else state.name
        if self.parent is not None:
            raise ProgramError(
                f"state '{name}' cannot be updated inside a nested block",
                hint="return the new value from the block and update the state outside",
            )
        old = self.program.state.get(name)
        if old is None:
            raise ProgramError(f"'{name}' is not a state of this Program")
        if (old.value.shape, old.value.dtype) != (value.shape, value.dtype):
            raise ProgramError(
                f"update of state '{name}' has another spec",
                expected=Spec.__str__(old.value),
                got=Spec.__str__(value),
            )
        self.program.updates[name] = value

    @property
    def root(self) -> Builder:
        """The Builder of the main block."""
        return self if self.parent is None else self.parent.root

    # ---- values --------------------------------------------------------------------------------

    def capture(self, value: Value) -> Value:
        """`value` as seen from this block."""
        if value in self.known:
            return value
        inner = self.captures.get(value)
        if inner is not None:
            return inner
        if self.parent is None:
            raise ProgramError(
                f"value '{value.name}' belongs to another Program or block",
                got=repr(value),
                hint="a value can be used only in the function that is being traced",
            )
        self.parent.capture(value)  # raises if no outer block has it
        inner = Value(self.names.fresh(value.name), value.shape, value.dtype)
        self.captures[value] = inner
        self.known.add(inner)
        return inner

    def constant(self, data: Any, dtype: str | None = None) -> Value:
        """A value holding given numbers: a scalar becomes `fill`, an array `constant`."""
        if isinstance(data, (bool, int, float, np.bool_, np.number)) or np.ndim(data) == 0:
            array = np.asarray(data)
            dtype = dtype or scalar_dtype(data)
            item = array.item() if array.dtype.kind != "V" else float(array)
            key = (repr(item), dtype)  # as text: 1, 1.0 and True differ, and so do 0.0 and -0.0
            if key not in self.constants:
                attrs = {"shape": (), "value": item, "dtype": dtype}
                self.constants[key] = self.emit(lookup("fill"), [], attrs)
            return self.constants[key]
        array = np.array(data, dtype=None if dtype is None else dtypes.to_numpy(dtype))
        dtypes.as_dtype(array.dtype)
        array.setflags(write=False)
        return self.emit(lookup("constant"), [], {"value": array})

    def emit(
        self,
        definition: OpDef,
        inputs: Sequence[Value | None],
        attrs: Mapping[str, Any],
        blocks: Mapping[str, Block] | None = None,
    ) -> Any:
        """Append one Operator; its output, or a tuple of outputs."""
        source = self.source or caller()
        try:
            full = definition.bind_attrs(attrs)
            seen = tuple(None if v is None else self.capture(v) for v in inputs)
            specs = definition.infer(seen, full, blocks)
        except NoriaError as error:
            raise error.at(f"{definition.name} at {source}") from None
        outs = tuple(
            Value(self.names.fresh(_base_name(definition, i)), s.shape, s.dtype)
            for i, s in enumerate(specs)
        )
        origin = source, self.made_by, self.full_precision
        self.block.operators.append(
            Operator(definition.name, seen, outs, full, dict(blocks or {}), *origin)
        )
        self.known.update(outs)
        return outs[0] if len(outs) == 1 else outs

    def append(self, operator: Operator) -> None:
        """Append an existing Operator whose inputs are known here (used by rewrites)."""
        self.block.operators.append(operator)
        self.known.update(operator.outputs)

    @contextmanager
    def on_behalf_of(self, operator: Operator, made_by: str) -> Iterator[None]:
        """While a rule emits for `operator`: its user line is kept, and that it stays float32."""
        old = self.source, self.made_by, self.full_precision
        self.source, self.made_by = operator.source or self.source, made_by
        self.full_precision = operator.full_precision
        try:
            yield
        finally:
            self.source, self.made_by, self.full_precision = old


def _base_name(definition: OpDef, index: int) -> str:
    """The first output is named after the op, the others after the op and themselves."""
    if index == 0 or index >= len(definition.outputs):
        return definition.name
    return f"{definition.name}.{definition.outputs[index]}"


def scalar_dtype(data: Any) -> str:
    """dtype of a scalar by itself: Python floats are float32, as the parameters of models are."""
    if isinstance(data, (bool, np.bool_)):
        return "bool"
    if isinstance(data, (np.generic, np.ndarray)):
        return dtypes.as_dtype(data.dtype)
    return "int64" if isinstance(data, int) else "float32"


def trace_block(
    fn: Callable[..., Any], specs: Sequence[Spec], names: Sequence[str]
) -> tuple[Block, list[Value], Any]:
    """Run `fn` on fresh values in a nested block of the Program being built.

    Returns (block, captures, result): the block's inputs are `specs` followed by the captures;
    captures are values of the enclosing block; `result` is what fn returned (inner values).
    The caller sets `block.outputs`.
    """
    outer = building()
    inner = Builder(outer.program, Block(), parent=outer)
    with inner:
        pairs = zip(names, specs, strict=True)
        inputs = [inner.input(inner_name(outer, n), s.shape, s.dtype) for n, s in pairs]
        result = fn(*inputs)
    captured = list(inner.captures)
    inner.block.inputs.extend(inner.captures.values())
    return inner.block, captured, result


def inline(block: Block, inputs: Sequence[Value]) -> list[Value]:
    """Emit copies of a block's operators here, on `inputs`; the copies of its outputs."""
    builder = building()
    seen: dict[Value, Value] = dict(zip(block.inputs, inputs, strict=True))
    for operator in block.operators:
        outs = tuple(Value(builder.names.fresh(v.name), v.shape, v.dtype) for v in operator.outputs)
        seen.update(zip(operator.outputs, outs, strict=True))
        args = tuple(None if v is None else seen[v] for v in operator.inputs)
        builder.append(replace(operator, inputs=args, outputs=outs))
    return [seen[v] for v in block.outputs]


def inner_name(outer: Builder, base: str) -> str:
    """A free name for a block's input (claimed by Builder.input)."""
    name = outer.names.fresh(base)
    outer.names.taken.discard(name)
    return name
