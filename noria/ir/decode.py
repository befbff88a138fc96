"""JSON data back to a Program (the form is told in `ir/encode.py`). Nothing read is believed.

Every field has one type, every name is looked up, every list is bounded: data from anywhere gives
a Program or a FormatError that says where. The rules of the IR are for `verify`, afterwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from reprlib import repr as short
from typing import Any

import numpy as np

from noria.core.dims import parse_dim, parse_shape
from noria.core.dtypes import ALL, itemsize
from noria.core.errors import FormatError, NoriaError, nearest
from noria.core.trace import Source
from noria.ir.encode import FORMAT, VERSION
from noria.ir.literals import MAX_DEPTH, frozen_array
from noria.ir.opdef import registry
from noria.ir.program import Block, Operator, Program, Spec, State, Value

MAX_OPERATORS = 1_000_000
MAX_BYTES = 2**62  # of one value

Scope = dict[str, Value]
TakeTensor = Callable[[str, Spec, str], np.ndarray]

_SPEC = re.compile(r"([a-z]+[0-9]*)(\[.*\])")
_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_KINDS = {dict: "an object", list: "a list", str: "a text", int: "an integer", bool: "true, false"}


def typed(value: Any, kind: type, where: str) -> Any:
    """The value, which must be exactly of that type; a text must be encodable."""
    if type(value) is not kind:
        got = f"{type(value).__name__} {short(value)}"
        raise FormatError("a value of another type", where=where, expected=_KINDS[kind], got=got)
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise FormatError("a text is not Unicode", where=where, got=ascii(value)) from None
    return value


class Fields:
    """A JSON object taken apart: each field once, of the right type, and none left over."""

    def __init__(self, data: Any, where: str) -> None:
        self.where = where
        self.left = dict(typed(data, dict, where))

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        """The field; the default if it is absent and there is one."""
        if key not in self.left:
            if default is None:
                raise FormatError(f"the field '{key}' is missing", where=self.where)
            return default
        return typed(self.left.pop(key), kind, f"{self.where}.{key}")

    def end(self) -> None:
        if self.left:
            raise FormatError(
                f"unknown field {short(min(self.left))}",
                where=self.where,
                hint="the file is damaged, or was changed by hand",
            )


def check_header(data: Any) -> None:
    """Raises FormatError unless the data is a Program of a version that can be read."""
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise FormatError(
            "this is not a noria Program", expected=f'"format": "{FORMAT}"', got=short(found)
        )
    version = typed(data.get("version"), int, "version")
    if version != VERSION:
        newer = "upgrade noria, or save the Program with this version"
        raise FormatError(
            f"the Program is of version {short(version)} of the format",
            expected=f"version {VERSION}",
            hint=newer if version > VERSION else "",
        )


def check_ops(data: Any) -> None:
    """Raises FormatError naming all the ops that are not known here, at once."""
    unknown = sorted({name for name in _op_names(data) if name not in registry})
    if unknown:
        raise FormatError(
            f"the Program uses {len(unknown)} unknown ops",
            expected="ops that are defined before the Program is loaded",
            got=", ".join(short(name) for name in unknown[:100]),
            hint="import the modules that define them, or upgrade noria",
        )


def _op_names(data: Any) -> Iterator[str]:
    """Names of ops wherever the data has them; data of a wrong kind is left to the decoder."""
    rest, seen = [data], 0
    while rest:
        block = rest.pop()
        if not isinstance(block, dict):
            continue
        states, operators = _items(block, "state"), _items(block, "operators")
        seen += len(operators)
        if seen > MAX_OPERATORS:
            raise FormatError(f"the Program has more than {MAX_OPERATORS} operators")
        for record in (*operators, *(s.get("init") for s in states)):
            if isinstance(record, dict) and isinstance(record.get("op"), str):
                yield record["op"]
        pairs = (pair for o in operators for pair in _items(o, "blocks", list))
        rest += (pair[1] for pair in pairs if len(pair) == 2)


def _items(record: dict[str, Any], key: str, kind: type = dict) -> list[Any]:
    """The elements of that type in a field that is a list."""
    found = record.get(key)
    return [r for r in found if type(r) is kind] if isinstance(found, list) else []


class Decoder:
    """Builds one Program. take_tensor(name, spec, where) gives a large constant."""

    def __init__(self, take_tensor: TakeTensor) -> None:
        self.take_tensor = take_tensor
        self.specs: dict[str, Spec] = {}

    def program(self, data: Any) -> tuple[Program, bool]:
        """(the Program, whether its state is saved beside it). Raises FormatError."""
        check_header(data)
        check_ops(data)
        fields = Fields(data, "program")
        del fields.left["format"], fields.left["version"]
        program = Program(fields.take("name", str))
        scope: Scope = {}
        program.block.inputs = self.declared(fields.take("inputs", list), scope, "inputs")
        for n, record in enumerate(fields.take("state", list)):
            state = self.state(record, scope, f"state[{n}]")
            program.state[state.name] = state
        operators = fields.take("operators", list)
        program.block.operators = self.operators(operators, scope, "operators", 0)
        program.outputs = self.results(fields.take("outputs", list), scope, "outputs")
        program.updates = self.results(fields.take("updates", list), scope, "updates")
        program.block.outputs = list(program.outputs.values())
        has_state = fields.take("has_state", bool)
        fields.end()
        return program, has_state

    def state(self, data: Any, scope: Scope, where: str) -> State:
        fields = Fields(data, where)
        name, spec = fields.take("name", str), fields.take("spec", str)
        value = self.define(name, spec, scope, where)
        init = Fields(fields.take("init", dict), f"{where}.init")
        op, attrs = init.take("op", str), self.attrs(init.take("attrs", dict), f"{where}.init")
        trainable = fields.take("trainable", bool)
        init.end()
        fields.end()
        return State(value, (op, attrs), trainable)

    def operators(self, data: list[Any], scope: Scope, where: str, depth: int) -> list[Operator]:
        return [self.operator(r, scope, f"{where}[{n}]", depth) for n, r in enumerate(data)]

    def operator(self, data: Any, scope: Scope, where: str, depth: int) -> Operator:
        fields = Fields(data, where)
        op = fields.take("op", str)
        names = fields.take("inputs", list)
        inputs = [None if name is None else use(name, scope, where) for name in names]
        inputs += [None] * (sum(not i.variadic for i in registry[op].inputs) - len(inputs))
        attrs = self.bound(op, self.attrs(fields.take("attrs", dict), where), where)
        blocks = self.blocks(fields.take("blocks", list, []), where, depth)
        outputs = self.declared(fields.take("outputs", list), scope, where)
        source = _source(fields.take("source", list, []), where)
        origin = source, fields.take("made_by", str, ""), fields.take("full_precision", bool, False)
        fields.end()
        return Operator(op, tuple(inputs), tuple(outputs), attrs, blocks, *origin)

    def bound(self, op: str, attrs: dict[str, Any], where: str) -> dict[str, Any]:
        """With the defaults of attributes that the op did not have when the file was written."""
        try:
            return registry[op].bind_attrs(attrs)
        except NoriaError as error:
            raise FormatError(error.what, where=where, hint=error.hint) from None

    def blocks(self, data: list[Any], where: str, depth: int) -> dict[str, Block]:
        if data and depth >= MAX_DEPTH:
            raise FormatError(f"more than {MAX_DEPTH} blocks inside each other", where=where)
        blocks: dict[str, Block] = {}
        for record in data:
            name, body = _pair(record, f"{where}.blocks")
            if typed(name, str, f"{where}.blocks") in blocks:
                raise FormatError(f"two blocks are called {short(name)}", where=where)
            blocks[name] = self.block(body, f"{where}.{short(name)}", depth + 1)
        return blocks

    def block(self, data: Any, where: str, depth: int) -> Block:
        fields = Fields(data, where)
        scope: Scope = {}
        inputs = self.declared(fields.take("inputs", list), scope, where)
        operators = self.operators(
            fields.take("operators", list), scope, f"{where}.operators", depth
        )
        outputs = [use(name, scope, where) for name in fields.take("outputs", list)]
        fields.end()
        return Block(inputs, operators, outputs)

    def results(self, data: list[Any], scope: Scope, where: str) -> dict[str, Value]:
        """Outputs or updates: name -> value."""
        out: dict[str, Value] = {}
        for record in data:
            name, value = _pair(record, where)
            if typed(name, str, where) in out:
                raise FormatError(f"{short(name)} is given twice", where=where)
            out[name] = use(value, scope, where)
        return out

    def declared(self, data: list[Any], scope: Scope, where: str) -> list[Value]:
        """Values defined by `[name, spec]` pairs."""
        pairs = (_pair(record, where) for record in data)
        return [self.define(name, spec, scope, where) for name, spec in pairs]

    def define(self, name: Any, spec: Any, scope: Scope, where: str) -> Value:
        if typed(name, str, where) in scope:
            raise FormatError(f"the value {short(name)} is defined twice", where=where)
        known = self.spec(spec, where)
        scope[name] = Value(name, known.shape, known.dtype)
        return scope[name]

    def spec(self, text: Any, where: str) -> Spec:
        """`float32[N, 784]`"""
        found = self.specs.get(typed(text, str, where))
        if found is None:
            found = self.specs[text] = _parsed_spec(text, where)
        return found

    def attrs(self, data: dict[str, Any], where: str) -> dict[str, Any]:
        return {typed(k, str, where): self.attr(v, f"{where}.{k[:60]}", 0) for k, v in data.items()}

    def attr(self, data: Any, where: str, depth: int) -> Any:
        if isinstance(data, list):
            if depth >= MAX_DEPTH:
                raise FormatError(f"more than {MAX_DEPTH} lists inside each other", where=where)
            return tuple(self.attr(v, where, depth + 1) for v in data)
        if isinstance(data, dict):
            return self.special(Fields(data, where), depth)
        return typed(data, str, where) if isinstance(data, str) else data

    def special(self, fields: Fields, depth: int) -> Any:
        """A value that JSON has no form for."""
        out: Any
        if "array" in fields.left:
            out = self.array(fields, depth)
        elif "dim" in fields.left:
            out = _parsed(parse_dim, fields.take("dim", str), fields.where)
        else:
            text = fields.take("float", str)
            if text not in _FLOATS:
                raise FormatError("not a number", where=fields.where, got=short(text))
            out = _FLOATS[text]
        fields.end()
        return out

    def array(self, fields: Fields, depth: int) -> np.ndarray:
        where, spec = fields.where, self.spec(fields.take("array", str), fields.where)
        if "tensor" in fields.left:
            array = self.take_tensor(fields.take("tensor", str), spec, where)
            array.setflags(write=False)
            return array
        items = [self.attr(v, where, depth) for v in fields.take("data", list)]
        try:
            return frozen_array(items, spec)
        except (ValueError, TypeError, OverflowError) as error:
            raise FormatError("bad array", where=where, got=str(error)) from None


def use(name: Any, scope: Scope, where: str) -> Value:
    """The value of that name in the block."""
    if typed(name, str, where) not in scope:
        raise FormatError(
            f"the value {short(name)} is not defined before it is used",
            where=where,
            hint=nearest(name[:60], scope),
        )
    return scope[name]


def _pair(data: Any, where: str) -> tuple[Any, Any]:
    if len(typed(data, list, where)) != 2:
        raise FormatError("a pair is needed", where=where, got=short(data))
    return data[0], data[1]


def _source(data: list[Any], where: str) -> Source | None:
    if not data:
        return None
    if len(data) != 3:
        raise FormatError("a source is [file, line, function]", where=where, got=short(data))
    place = f"{where}.source"
    file, line, function = data
    return Source(typed(file, str, place), typed(line, int, place), typed(function, str, place))


def _parsed_spec(text: str, where: str) -> Spec:
    found = _SPEC.fullmatch(text)
    if found is None or found[1] not in ALL:
        raise FormatError(
            "not a dtype and shape", where=where, expected="float32[N, 784]", got=short(text)
        )
    shape = _parsed(parse_shape, found[2], where)
    known = [d for d in shape if isinstance(d, int)]
    if any(d < 0 for d in known) or math.prod(known) * itemsize(found[1]) > MAX_BYTES:
        raise FormatError("sizes are out of range", where=where, got=short(text))
    return Spec(shape, found[1])


def _parsed(parse: Callable[[str], Any], text: str, where: str) -> Any:
    try:
        return parse(text)
    except NoriaError as error:
        raise FormatError(
            error.what, where=where, expected=error.expected, got=error.got, hint=error.hint
        ) from None
