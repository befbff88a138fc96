"""The rules every Program keeps. A pass, a file or a hand-written text is checked against them.

- each value is defined once, before it is used, in the block that uses it (blocks are closed);
- names are unique within a block;
- operators are known ops, with the inputs, attributes and blocks of their schema;
- inference gives the dtypes and shapes that are recorded;
- a state is updated with a value of its own dtype and shape.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from noria.core.dims import Dim, prove_equal
from noria.core.errors import MissingError, NoriaError, ProgramError, nearest
from noria.core.pause import collector_paused
from noria.ir.literals import MAX_BITS, MAX_DEPTH, spec_text
from noria.ir.opdef import OpDef, collect_checks, lookup
from noria.ir.program import Block, Operator, Program, Spec, State, Value

MAX_NAME = 1000  # characters
_ALWAYS_PLAIN = (bool, float, str, Dim)


@collector_paused()
def verify(program: Program) -> None:
    """Raises ProgramError, with the place, unless the Program keeps every rule of the IR.

    Two symbolic sizes that may or may not be equal are let pass: they are compared when bound.
    """
    scope = _Scope(program.block)
    for name, state in program.state.items():
        scope.define(state.value, f"state '{name}'")
        _check_state(name, state)
    with collect_checks([]):
        _check_block(program.block, scope, 0)
    for name, value in program.outputs.items():
        scope.use(value, f"output '{name}'")
    for name, value in program.updates.items():
        _check_update(program, name, value, scope)


class _Scope:
    """The values defined so far in one block, by name."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.values: dict[str, Value] = {}

    def define(self, value: Value, where: str) -> None:
        old = self.values.setdefault(value.name, value)
        if old is not value:
            raise ProgramError(f"two values are called '{value.name}' in one block", where=where)
        if not 0 < len(value.name) <= MAX_NAME:
            raise ProgramError(
                "a name is empty or too long", where=where, expected=f"1 to {MAX_NAME} characters"
            )

    def define_new(self, value: Value, where: str) -> None:
        if self.values.get(value.name) is value:
            raise ProgramError(f"the value '{value.name}' is defined twice", where=where)
        self.define(value, where)

    def use(self, value: Value, where: str) -> None:
        if self.values.get(value.name) is not value:
            raise self._undefined(value, where)

    def _undefined(self, value: Value, where: str) -> ProgramError:
        makers = [o.where() for o in self.block.operators if value in o.outputs]
        if makers:
            got = f"it is made only later, by {makers[0]}"
        elif value.name in self.values:
            got = "another value has this name in the block"
        else:
            got = "no operator, input or state of the block has this name"
        return ProgramError(
            f"the value '{value.name}' is not defined before it is used",
            where=where,
            expected="an input or state, or the output of an earlier operator of the same block",
            got=got,
        )


def _check_state(name: str, state: State) -> None:
    where = f"state '{name}'"
    if state.value.name != name:
        raise ProgramError("a state has two names", where=where, got=f"'{state.value.name}'")
    init, attrs = state.init
    definition = _definition(init, f"initialiser of {where}")
    for key, value in attrs.items():
        if key not in definition.attrs:
            raise _unknown_attribute(definition, key, where)
        _check_plain(value, f"attribute '{key}' of {where}")


def _check_update(program: Program, name: str, value: Value, scope: _Scope) -> None:
    where = f"update of state '{name}'"
    if name not in program.state:
        hint = nearest(name, program.state)
        raise ProgramError(f"'{name}' is updated but is not a state", where=where, hint=hint)
    scope.use(value, where)
    declared = program.state[name].value
    if not _agree(declared, value):
        raise ProgramError(
            "a state is updated with a value of another kind",
            where=where,
            expected=spec_text(declared),
            got=f"{value.name}: {spec_text(value)}",
        )


def _check_block(block: Block, scope: _Scope, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ProgramError(f"more than {MAX_DEPTH} blocks are inside each other")
    for value in block.inputs:
        scope.define_new(value, f"input '{value.name}'")
    for operator in block.operators:
        try:
            _check_operator(operator, scope, depth)
        except NoriaError as error:
            error.at(operator.where())
            raise
    for value in block.outputs:
        scope.use(value, "block outputs")


def _check_operator(operator: Operator, scope: _Scope, depth: int) -> None:
    where = operator.where()
    definition = _definition(operator.type, where)
    for value in operator.operands:
        scope.use(value, where)
    _check_inputs(definition, operator)
    _check_attrs(definition, operator.attrs, where)
    _check_names_of_blocks(definition, operator)
    for block in operator.blocks.values():
        _check_block(block, _Scope(block), depth + 1)
    _check_outputs(operator, _inferred(definition, operator))
    for value in operator.outputs:
        scope.define_new(value, where)


def _definition(name: str, where: str) -> OpDef:
    try:
        return lookup(name)
    except MissingError as error:
        raise ProgramError(error.what, where=where, hint=error.hint) from None


def _check_inputs(definition: OpDef, operator: Operator) -> None:
    fixed = [i for i in definition.inputs if not i.variadic]
    given, rest = operator.inputs[: len(fixed)], operator.inputs[len(fixed) :]
    fits = len(given) == len(fixed) and (definition.variadic or not rest) and None not in rest
    if not fits or any(v is None and not i.optional for i, v in zip(fixed, given, strict=True)):
        raise ProgramError(
            f"{definition.name} has other inputs than its schema",
            where=operator.where(),
            expected=f"{definition.name}{definition.__signature__}",
            got=", ".join("_" if v is None else v.name for v in operator.inputs) or "no inputs",
        )


def _unknown_attribute(definition: OpDef, key: str, where: str) -> ProgramError:
    hint = nearest(key, definition.attrs)
    return ProgramError(f"{definition.name} has no attribute '{key}'", where=where, hint=hint)


def _check_attrs(definition: OpDef, attrs: Mapping[str, Any], where: str) -> None:
    for key, value in attrs.items():
        if key not in definition.attrs:
            raise _unknown_attribute(definition, key, where)
        if type(value) not in _ALWAYS_PLAIN:
            _check_plain(value, f"attribute '{key}' of {where}")
    missing = definition.attrs.keys() - attrs.keys()
    if missing:
        raise ProgramError(
            f"{definition.name} lacks the attribute '{min(missing)}'",
            where=where,
            hint="build operators with OpDef.bind_attrs, which fills in the defaults",
        )


def _check_plain(value: Any, where: str, depth: int = 0) -> None:
    """Raises ProgramError unless an attribute is plain data that prints and saves exactly."""
    kind = type(value)
    if kind is tuple:
        if depth >= MAX_DEPTH:
            raise ProgramError(f"more than {MAX_DEPTH} tuples are inside each other", where=where)
        for item in value:
            _check_plain(item, where, depth + 1)
    elif kind is int and value.bit_length() > MAX_BITS:
        raise ProgramError(f"an integer has more than {MAX_BITS} bits", where=where)
    elif value is not None and kind not in (bool, int, float, str, Dim, np.ndarray):
        raise ProgramError(
            "an attribute is not plain data",
            where=where,
            expected="bool, int, float, str, None, a size, an array, or a tuple of these",
            got=f"{kind.__name__}: {str(value)[:60]}",
        )


def _check_names_of_blocks(definition: OpDef, operator: Operator) -> None:
    if not definition.blocks and not operator.blocks:
        return
    parameters = definition.__signature__.parameters
    needed = {n for n in definition.blocks if parameters[n].default is inspect.Parameter.empty}
    if not needed <= operator.blocks.keys() <= set(definition.blocks):
        raise ProgramError(
            f"{definition.name} has other blocks than its schema",
            where=operator.where(),
            expected=", ".join(definition.blocks) or "no blocks",
            got=", ".join(operator.blocks) or "no blocks",
        )


def _inferred(definition: OpDef, operator: Operator) -> tuple[Spec, ...]:
    """What inference says. It is any op's own code, given data from anywhere: all is caught."""
    try:
        return definition.infer(operator.inputs, operator.attrs, operator.blocks)
    except NoriaError as error:
        raise ProgramError(
            f"{definition.name} does not fit: {error.what}",
            where=operator.where(),
            expected=error.expected,
            got=error.got,
            hint=error.hint,
        ) from error
    except Exception as error:
        raise ProgramError(
            f"{definition.name} cannot be inferred",
            where=operator.where(),
            got=f"{type(error).__name__}: {error}",
            hint="an input or attribute is of the wrong kind",
        ) from error


def _check_outputs(operator: Operator, specs: tuple[Spec, ...]) -> None:
    same_number = len(specs) == len(operator.outputs)
    if same_number and all(map(_agree, specs, operator.outputs)):
        return
    raise ProgramError(
        f"{operator.type} gives other outputs than recorded",
        where=operator.where(),
        expected=", ".join(map(spec_text, specs)) or "no outputs",
        got=", ".join(f"{v.name}: {spec_text(v)}" for v in operator.outputs) or "no outputs",
    )


def _agree(a: Spec, b: Spec) -> bool:
    """Same dtype, and shapes not known to differ."""
    if a.dtype != b.dtype or a.ndim != b.ndim:
        return False
    if a.shape == b.shape:
        return True
    try:
        return all(prove_equal(x, y) is not False for x, y in zip(a.shape, b.shape, strict=True))
    except NoriaError:  # too large an expression to decide
        return True
