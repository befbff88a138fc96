"""A Program as text, and back. What prints reads back as the same Program, and prints the same.

    program mnist {
      input x: float32[N, 784]
      state fc.weight: float32[10, 784] = uniform(low=-0.1, high=0.1) trainable
      matmul: float32[N, 10] = matmul(x, fc.weight, transpose_y=true)    # model.py:12
      cond: float32[N, 10] = cond(p, matmul) {    # model.py:13, by grad
        then(y: float32[N, 10]) {
          relu: float32[N, 10] = relu(y)
          return relu
        }
      }
      output loss = cond
      update fc.weight = sgd_update
    }

`_` stands for an absent optional input. Attributes that have their default are left out. An
operator without outputs is printed without `name: spec =`. Comments tell where an operator comes
from; other comments are ignored. Attribute values: see `ir/literals.py`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from noria.core.errors import NoriaError, nearest
from noria.core.trace import Source
from noria.ir.literals import (
    MAX_DEPTH,
    MAX_INLINE,
    Scanner,
    digest,
    name_text,
    spec_text,
    value_text,
)
from noria.ir.opdef import OpDef, registry
from noria.ir.program import Block, Operator, Program, Spec, State, Value, walk

_ORIGIN = re.compile(
    r"(?:(?P<file>.+):(?P<line>[0-9]{1,9}))?(?:(?:^|, )by (?P<by>.+?))?"
    r"(?P<full>(?:^|, )stays float32)?"
)

# ---- printing ----------------------------------------------------------------------------------


def format_program(program: Program, sources: bool = True) -> str:
    """The Program as text that `parse_program` reads.

    sources: add the comments that tell where each operator comes from.
    """
    return "\n".join(program_lines(program, sources=sources)) + "\n"


def value_name(value: Value) -> str:
    return name_text(value.name)


def program_lines(
    program: Program, name: Callable[[Value], str] = value_name, sources: bool = False
) -> Iterator[str]:
    """The lines of the text, values named by `name`."""
    yield f"program {name_text(program.name)} {{"
    for value in program.block.inputs:
        yield f"  input {name(value)}: {spec_text(value)}"
    for state in program.state.values():
        init, attrs = state.init
        given = ", ".join(f"{name_text(k)}={value_text(v)}" for k, v in attrs.items())
        made = f"{name_text(init)}({given})" + (" trainable" if state.trainable else "")
        yield f"  state {name(state.value)}: {spec_text(state.value)} = {made}"
    yield from _operators_lines(program.block.operators, name, sources, "  ")
    for key, value in program.outputs.items():
        yield f"  output {name_text(key)} = {name(value)}"
    for key, value in program.updates.items():
        yield f"  update {name_text(key)} = {name(value)}"
    yield "}"


def block_lines(
    title: str, block: Block, name: Callable[[Value], str], sources: bool, indent: str
) -> Iterator[str]:
    """A nested block: `then(x: float32[N]) { ... }`."""
    params = ", ".join(f"{name(v)}: {spec_text(v)}" for v in block.inputs)
    yield f"{indent}{name_text(title)}({params}) {{"
    yield from _operators_lines(block.operators, name, sources, indent + "  ")
    results = ", ".join(map(name, block.outputs))
    yield f"{indent}  return {results}".rstrip()
    yield f"{indent}}}"


def _operators_lines(
    operators: Sequence[Operator], name: Callable[[Value], str], sources: bool, indent: str
) -> Iterator[str]:
    for operator in operators:
        yield from operator_lines(operator, name, sources, indent)


def operator_lines(
    operator: Operator, name: Callable[[Value], str], sources: bool, indent: str
) -> Iterator[str]:
    """One line, or several when the operator has nested blocks."""
    inputs = list(operator.inputs)
    while inputs and inputs[-1] is None:
        inputs.pop()
    arguments = ["_" if v is None else name(v) for v in inputs]
    arguments += _attrs_text(operator.type, operator.attrs)
    line = f"{indent}{name_text(operator.type)}({', '.join(arguments)})"
    if operator.outputs:
        names = ", ".join(map(name, operator.outputs))
        specs = ", ".join(map(spec_text, operator.outputs))
        line = f"{indent}{names}: {specs} = {line.lstrip(' ')}"
    if operator.blocks:
        line += " {"
    yield line + (_origin_text(operator) if sources else "")
    if operator.blocks:
        for title, block in operator.blocks.items():
            yield from block_lines(title, block, name, sources, indent + "  ")
        yield f"{indent}}}"


def _attrs_text(op: str, attrs: Mapping[str, Any]) -> list[str]:
    """`name=value` for each attribute that differs from its default, in the order of the schema."""
    definition = registry.get(op)
    defaults = _defaults(definition) if definition else {}
    ordered = [k for k in defaults if k in attrs]
    ordered += sorted(attrs.keys() - defaults.keys())
    texts = {k: value_text(attrs[k]) for k in ordered}
    return [f"{name_text(k)}={t}" for k, t in texts.items() if t != defaults.get(k)]


@cache
def _defaults(definition: OpDef) -> dict[str, str | None]:
    """Attribute -> text of its default, None where it has none."""
    needed = {k: None for k, v in definition.attrs.items() if v is inspect.Parameter.empty}
    full = definition.bind_attrs(needed)
    return {k: None if k in needed else value_text(v) for k, v in full.items()}


def _origin_text(operator: Operator) -> str:
    origin = [str(operator.source)] if operator.source else []
    origin += [f"by {operator.made_by}"] if operator.made_by else []
    origin += ["stays float32"] if operator.full_precision else []
    return f"    # {' '.join(', '.join(origin).split())}" if origin else ""


def large_constants(program: Program) -> dict[str, np.ndarray]:
    """SHA-256 -> array, for the constants whose numbers the text leaves out."""
    values = (a for operator in walk(program.block) for a in operator.attrs.values())
    arrays = (a for a in values if isinstance(a, np.ndarray) and a.size > MAX_INLINE)
    return {digest(a): a for a in arrays}


# ---- parsing -----------------------------------------------------------------------------------


def parse_program(text: str, constants: Mapping[str, np.ndarray] | None = None) -> Program:
    """The Program that prints as `text`. Its types are not inferred again: see `verify`.

    constants: `large_constants` of the Program printed, if it has any.
    Raises FormatError, with line and column.
    """
    return _Parser(text, constants).program()


class _Parser(Scanner):
    """Recursive descent: one method a construct, one table of names a block."""

    def program(self) -> Program:
        self._word("program")
        program = Program(self.name())
        scope: dict[str, Value] = {}
        self.expect("{")
        while not self.accept("}"):
            start = self.at
            kind = self.keyword("input", "state", "output", "update")
            if kind == "input":
                program.block.inputs.append(self.declared(scope))
            elif kind == "state":
                state = self.state(scope)
                program.state[state.name] = state
            elif kind:
                self.result(kind, program, scope, start)
            else:
                program.block.operators.append(self.operator(scope, 0))
        if self.at < len(self.text):
            raise self.unexpected("the end of the text")
        program.block.outputs = list(program.outputs.values())
        return program

    def _word(self, word: str) -> None:
        if not self.keyword(word):
            raise self.unexpected(f"'{word}'")

    def define(self, name: str, spec: Spec, scope: dict[str, Value], at: int) -> Value:
        if name in scope:
            raise self.error(f"'{name}' is defined twice", at)
        scope[name] = Value(name, spec.shape, spec.dtype)
        return scope[name]

    def use(self, scope: dict[str, Value]) -> Value:
        at = self.at
        return self.lookup(self.name(), scope, at)

    def lookup(self, name: str, scope: dict[str, Value], at: int) -> Value:
        if name not in scope:
            raise self.error(f"'{name}' is not defined before", at, hint=nearest(name, scope))
        return scope[name]

    def declared(self, scope: dict[str, Value]) -> Value:
        """`x: float32[N]`"""
        at, name = self.at, self.name()
        self.expect(":")
        return self.define(name, self.spec(), scope, at)

    def state(self, scope: dict[str, Value]) -> State:
        value = self.declared(scope)
        self.expect("=")
        init = self.name()
        self.expect("(")
        inputs, attrs = self.arguments(scope)
        if inputs:
            raise self.unexpected("an initialiser without inputs")
        self.expect(")")
        return State(value, (init, attrs), bool(self.keyword("trainable")))

    def result(self, kind: str, program: Program, scope: dict[str, Value], at: int) -> None:
        """`output loss = x` or `update w = x`"""
        name = self.name()
        self.expect("=")
        table = program.outputs if kind == "output" else program.updates
        if name in table:
            raise self.error(f"{kind} '{name}' is given twice", at)
        if kind == "update" and name not in program.state:
            raise self.error(f"'{name}' is not a state", at, hint=nearest(name, program.state))
        table[name] = self.use(scope)

    def operator(self, scope: dict[str, Value], depth: int) -> Operator:
        at = self.at
        names = [self.name()]
        while self.accept(","):
            names.append(self.name())
        specs, op = self._typed(names)
        self.expect("(")
        inputs, attrs = self.arguments(scope)
        blocks: dict[str, Block] = {}
        origin = self.comment_after(")")
        if self.text.startswith("{", self.at):
            origin = self.comment_after("{")
            while not self.accept("}"):
                self.block(blocks, depth + 1)
        operands, full = self.bound(op, inputs, attrs, at)
        outputs = [self.define(n, s, scope, at) for n, s in zip(names, specs, strict=True)]
        return Operator(op, operands, tuple(outputs), full, blocks, *_origin(origin))

    def _typed(self, names: list[str]) -> tuple[list[Spec], str]:
        """(a spec for each name, the op); a single name before `(` is the op itself."""
        if len(names) == 1 and self.text.startswith("(", self.at):
            return [], names.pop()
        self.expect(":")
        specs = [self.spec()]
        while self.accept(","):
            specs.append(self.spec())
        if len(specs) != len(names):
            raise self.error(f"{len(names)} outputs have {len(specs)} specs")
        self.expect("=")
        return specs, self.name()

    def arguments(self, scope: dict[str, Value]) -> tuple[list[Value | None], dict[str, Any]]:
        """Inputs, then attributes, up to the closing bracket, which is left."""
        inputs: list[Value | None] = []
        attrs: dict[str, Any] = {}
        while not self.text.startswith(")", self.at):
            self.argument(inputs, attrs, scope)
            if not self.accept(","):
                break
        return inputs, attrs

    def argument(
        self, inputs: list[Value | None], attrs: dict[str, Any], scope: dict[str, Value]
    ) -> None:
        at = self.at
        name = self.keyword("_") or self.name()
        if self.accept("="):
            if name in attrs:
                raise self.error(f"attribute '{name}' is given twice", at)
            attrs[name] = self.value()
        elif attrs:
            raise self.error("inputs come before attributes", at)
        else:
            bare = self.text.startswith("_", at) and name == "_"
            inputs.append(None if bare else self.lookup(name, scope, at))

    def bound(
        self, op: str, inputs: list[Value | None], attrs: dict[str, Any], at: int
    ) -> tuple[tuple[Value | None, ...], dict[str, Any]]:
        """Inputs with the absent ones at the end, attributes with their defaults."""
        definition = registry.get(op)
        if definition is None:
            raise self.error(f"unknown op '{op}'", at, hint=nearest(op, registry))
        try:
            full = definition.bind_attrs(attrs)
        except NoriaError as error:
            raise self.error(error.what, at, hint=error.hint) from None
        fixed = sum(not i.variadic for i in definition.inputs)
        return (*inputs, *[None] * (fixed - len(inputs))), full

    def block(self, blocks: dict[str, Block], depth: int) -> None:
        """`then(x: float32[N]) { ... return y }`"""
        at, title = self.at, self.name()
        if title in blocks:
            raise self.error(f"block '{title}' is given twice", at)
        if depth > MAX_DEPTH:
            raise self.error(f"more than {MAX_DEPTH} blocks inside each other", at)
        scope: dict[str, Value] = {}
        block = blocks[title] = Block()
        self.expect("(")
        while not self.accept(")"):
            block.inputs.append(self.declared(scope))
            if not self.accept(","):
                self.expect(")")
                break
        self.expect("{")
        while not self.keyword("return"):
            block.operators.append(self.operator(scope, depth))
        while not self.accept("}"):
            block.outputs.append(self.use(scope))
            if not self.accept(","):
                self.expect("}")
                break


def _origin(comment: str | None) -> tuple[Source | None, str, bool]:
    """(source, made_by, full_precision) as a comment tells them; one that says something else is
    ignored."""
    found = _ORIGIN.fullmatch(comment or "")
    if found is None:
        return None, "", False
    source = Source(found["file"], int(found["line"]), "") if found["file"] else None
    return source, found["by"] or "", found["full"] is not None


# ---- str() -------------------------------------------------------------------------------------


def _operator_text(operator: Operator) -> str:
    return "\n".join(operator_lines(operator, value_name, sources=True, indent=""))


def _block_text(block: Block) -> str:
    return "\n".join(block_lines("block", block, value_name, sources=True, indent=""))


Program.__str__ = format_program  # type: ignore[assignment]
Operator.__str__ = _operator_text  # type: ignore[assignment]
Block.__str__ = _block_text  # type: ignore[assignment]
