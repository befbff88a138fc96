"""A Fluid program read into a noria Program.

    program = read_program(message)         # feeds become inputs, persistable variables state

A ragged feed `x` has further inputs `x.row_splits`, `x.row_splits.1` ..., outermost level first,
and so has a ragged result further outputs. Persistable variables that no operator assigns to are
parameters; those that one assigns to are state that each step updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noria.convert.fluid import library as _library  # noqa: F401  (registers all handlers)
from noria.convert.fluid.desc import (
    FEEDS,
    FETCHES,
    LOD_TENSOR,
    BlockOf,
    Step,
    Variable,
    blocks_of,
)
from noria.convert.fluid.handlers import Frame, Lod, Op, dtype_of, fluid_op
from noria.convert.fluid.scope import Scope
from noria.convert.known import Known
from noria.core.dims import prove_equal, symbol
from noria.core.dtypes import as_dtype, is_float
from noria.core.errors import FormatError, NoriaError, ProgramError
from noria.ir.emit import Builder, building
from noria.ir.program import Program, Value

PRINCIPAL = ("X", "Input", "Ids")  # whose rows a result has, before any other input


def read_program(
    message: Any,
    *,
    state: Mapping[str, np.ndarray] | None = None,
    constants: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    outputs: Sequence[str] | None = None,
    name: str = "fluid",
    where: str = "",
) -> Program:
    """The Program of a ProgramDesc (a message of `protos/fluid.proto`).

    state:     numbers of persistable variables, where known: what a shape depends on is read there
    constants: feeds that are fixed now: name -> array, or a `Lod` of arrays
    shapes:    of inputs, for sizes the file leaves open: name -> sizes, a string is a symbol
    outputs:   variables to return, default what the program fetches
    Raises UnsupportedOperators naming all operators nobody converts, NeedsConstant where a feed
    must be given in `constants`, FormatError for what cannot be a program.
    """
    blocks = blocks_of(message, where)
    used = [s for b in blocks for s in b.steps if s.type not in ("feed", "fetch")]
    fluid_op.require([("", s.type, 1, s.where) for s in used])
    reader = Reader(blocks, state or {}, constants or {}, shapes or {})
    return reader.program(name if name.isidentifier() else "fluid", outputs)


class Reader:
    """One conversion."""

    def __init__(
        self,
        blocks: list[BlockOf],
        state: Mapping[str, np.ndarray],
        constants: Mapping[str, Any],
        shapes: Mapping[str, Sequence[Any]],
    ) -> None:
        self.blocks, self.constants, self.shapes = blocks, constants, shapes
        self.numbers = state
        self.variables: dict[str, Variable] = {}
        for block in reversed(blocks):  # those of the outer block win
            self.variables.update(block.variables)
        self.written = {
            n for b in blocks for s in b.steps for names in s.outputs.values() for n in names
        }
        fixed = {n: a for n, a in state.items() if n not in self.written}
        self.known = Known(fixed)
        self.symbols: set[str] = set()
        self.read: set[str] = set()

    def program(self, name: str, outputs: Sequence[str] | None) -> Program:
        """The whole Program."""
        program = Program(name)
        main = self.blocks[0]
        feeds, fetches = _feeds(main), _fetches(main)
        self.read = self._read([*fetches, *(outputs or ())])
        with Builder(program) as builder:
            scope = Scope()
            for feed in feeds or self._unassigned(main):
                self._feed(builder, scope, feed)
            for variable in self._persistable():
                self._state(builder, scope, variable)
            before = {n: h.values for n, h in scope.held.items() if n in program.state}
            self.run_block(main, scope)
            for wanted in fetches if outputs is None else outputs:
                self._fetch(builder, program, wanted, scope.get(wanted, "the results"))
            for n, old in before.items():
                new = scope.held[n].values
                if new is not old:
                    builder.update(n, builder.capture(_as_value(new)))
        program.block.outputs = list(program.outputs.values())
        return program

    # ---- what goes in and out ------------------------------------------------------------------

    def _unassigned(self, block: BlockOf) -> list[str]:
        """Variables that are used before they are assigned: the feeds of a program without any."""
        assigned: set[str] = {v.name for v in self._persistable()}
        found: dict[str, None] = {}
        for step in block.steps:
            for names in step.inputs.values():
                found.update((n, None) for n in names if n not in assigned)
            assigned.update(n for names in step.outputs.values() for n in names)
        return [n for n in found if n in self.variables and self.variables[n].kind == LOD_TENSOR]

    def _read(self, wanted: Sequence[str]) -> set[str]:
        """Variables somebody reads: results that nobody reads need not be computed."""
        steps = [s for b in self.blocks for s in b.steps]
        found = {n for s in steps for names in s.inputs.values() for n in names}
        named = {n for s in steps for v in s.attrs.values() if isinstance(v, tuple) for n in v}
        kept = {v.name for v in self._persistable()}
        return found | kept | {n for n in named if isinstance(n, str)} | set(wanted)

    def _persistable(self) -> list[Variable]:
        kinds = (FEEDS, FETCHES)
        every = (v for v in self.variables.values() if v.persistable and v.kind not in kinds)
        return sorted((v for v in every if v.kind == LOD_TENSOR), key=lambda v: v.name)

    def _feed(self, builder: Builder, scope: Scope, name: str) -> None:
        given = self.constants.get(name)
        if given is not None:
            scope.set(name, given if isinstance(given, Lod) else np.asarray(given))
            return
        variable = self.variables.get(name)
        if variable is None or variable.dims is None:
            raise FormatError(f"the program feeds '{name}', which it does not declare")
        shape = self._shape(name, variable)
        value = builder.input(name, shape, dtype_of(variable.dtype))
        splits = []
        for level in range(variable.levels):
            rows = self.fresh("N") if level == 0 else self.fresh(f"N{level}")
            label = f"{name}.row_splits" + (f".{level}" if level else "")
            splits.append(builder.input(label, (symbol(rows) + 1,), "int64"))
        scope.set(name, Lod(value, tuple(splits)))

    def _shape(self, name: str, variable: Variable) -> tuple[Any, ...]:
        given = self.shapes.get(name)
        if given is not None:
            return tuple(symbol(d) if isinstance(d, str) else d for d in given)
        first = "T" if variable.levels else "B"
        labels = (first, *"DHWEFGIJKLM")
        return tuple(
            symbol(self.fresh(labels[min(i, len(labels) - 1)])) if d < 0 else d
            for i, d in enumerate(variable.dims or ())
        )

    def _state(self, builder: Builder, scope: Scope, variable: Variable) -> None:
        name = variable.name
        if scope.find(name) is not None:
            return
        array = self.numbers.get(name)
        if array is not None:
            shape, dtype = tuple(array.shape), as_dtype(array.dtype)
        elif variable.dims is not None and all(d >= 0 for d in variable.dims):
            shape, dtype = variable.dims, dtype_of(variable.dtype)
        else:
            raise FormatError(
                f"persistable variable '{name}' has an open size", got=str(variable.dims)
            )
        learned = name not in self.written and is_float(dtype)
        scope.set(name, builder.state(name, shape, dtype, trainable=learned))

    def _fetch(self, builder: Builder, program: Program, name: str, held: Any) -> None:
        if not isinstance(held, Lod):
            raise ProgramError(
                f"the result '{name}' is no array",
                got=type(held).__name__,
                hint="fetch another one",
            )
        program.outputs[name] = builder.capture(_as_value(held.values))
        for level, splits in enumerate(held.splits):
            label = f"{name}.row_splits" + (f".{level}" if level else "")
            program.outputs[label] = builder.capture(_as_value(splits))

    def fresh(self, base: str) -> str:
        """A symbol's name nobody has yet."""
        stem = "".join(c if c.isalnum() or c == "_" else "_" for c in base) or "n"
        stem = stem if not stem[0].isdigit() else f"n{stem}"
        name, k = stem, 0
        while name in self.symbols or name in ("max", "min"):
            k += 1
            name = f"{stem}_{k}"
        self.symbols.add(name)
        return name

    # ---- operators -----------------------------------------------------------------------------

    def run_block(self, block: BlockOf, scope: Scope) -> None:
        """Emits a block's operators on what the scope holds."""
        frame = Frame(self.known, self.fresh, self._run_inner, scope, self)
        for step in block.steps:
            if step.type in ("feed", "fetch"):
                continue
            try:
                self._step(step, scope, frame)
            except NoriaError as error:
                error.where = f"{step.where}: {error.where}" if error.where else step.where
                raise
            except _CONFUSED as error:
                raise ProgramError(
                    f"this {step.type} makes no sense: {error}",
                    where=step.where,
                    got=", ".join(f"{k}={v!r}"[:60] for k, v in step.attrs.items())[:500],
                ) from error

    def _run_inner(self, index: int, scope: Scope) -> None:
        self.run_block(self.blocks[index], scope)

    def _step(self, step: Step, scope: Scope, frame: Frame) -> None:
        inputs = {slot: [(n, scope.find(n)) for n in names] for slot, names in step.inputs.items()}
        if step.type not in MAY_BE_UNSET:
            for slot, pairs in inputs.items():
                inputs[slot] = [(n, scope.get(n, step.where)) for n, _ in pairs]
        outputs = {s: names for s, names in step.outputs.items() if not self.read.isdisjoint(names)}
        op = Op(step.type, inputs, outputs, step.attrs, frame, step.where)
        handler = fluid_op.find(step.type)
        assert handler is not None
        bind_results(op, handler(op), scope)


MAY_BE_UNSET = {"while", "conditional_block", "conditional_block_infer", "recurrent"}
_CONFUSED = (TypeError, ValueError, KeyError, IndexError, ArithmeticError, AttributeError,
             AssertionError, MemoryError)  # fmt: skip


def bind_results(op: Op, results: Mapping[str, Any] | None, scope: Scope) -> None:
    """Assigns what a handler gave to the names the operator asks for."""
    results = results or {}
    for slot in results:
        if not isinstance(slot, str):
            raise ProgramError(f"the handler of {op.type} returned no slots", got=repr(slot))
    for slot, names in op.outputs.items():
        if slot not in results or results[slot] is None:
            continue
        given = results[slot]
        values = list(given) if isinstance(given, (list, tuple)) else [given]
        if len(values) < len(names):
            raise ProgramError(
                f"{op.type} gives fewer values than asked for",
                expected=f"{len(names)} for '{slot}'",
                got=str(len(values)),
            )
        for name, value in zip(names, values, strict=False):
            if value is not None:
                scope.set(name, with_rows(op, value))


def with_rows(op: Op, value: Any) -> Any:
    """A plain value gets the rows of the principal ragged input if it has as many steps."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return value
    if value.shape:
        for held in _principal(op):
            splits = held.splits
            if splits and prove_equal(held.values.shape[0], value.shape[0]) is True:
                return Lod(value, splits)
    return Lod(value)


def _principal(op: Op) -> list[Lod]:
    slots = [s for s in PRINCIPAL if s in op.bound] or list(op.bound)
    held = [h for s in slots for h in op.held(s)]
    return [h for h in held if isinstance(h, Lod)]


def _as_value(value: Any) -> Value:
    if isinstance(value, Value):
        return value
    return building().constant(np.asarray(value))


def _feeds(block: BlockOf) -> list[str]:
    steps = [s for s in block.steps if s.type == "feed"]
    return _by_column([(s.attrs.get("col", 0), s.outputs.get("Out", [])) for s in steps])


def _fetches(block: BlockOf) -> list[str]:
    steps = [s for s in block.steps if s.type == "fetch"]
    return _by_column([(s.attrs.get("col", 0), s.inputs.get("X", [])) for s in steps])


def _by_column(found: list[tuple[Any, list[str]]]) -> list[str]:
    for column, names in found:
        if not isinstance(column, int) or len(names) != 1:
            raise FormatError("a feed or fetch names one variable", got=f"{names}"[:200])
    return list(dict.fromkeys(names[0] for _, names in sorted(found)))
