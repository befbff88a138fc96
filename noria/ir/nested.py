"""Making the blocks of control-flow ops: closed, and all with the same inputs.

    then = Nested([x], ["x"])
    with then:
        then.block.outputs = [o.mul(then.inputs[0], w)]        # w: a value outside
    blocks, operands = close([then, ...], [x])                 # operands: [x, w]

And what inference and gradients of these ops share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from noria.core.dims import prove_equal, symbols_of
from noria.core.dtypes import as_dtype, is_float
from noria.core.errors import DTypeError, ProgramError, ShapeError
from noria.core.shapes import Check
from noria.ir.emit import Builder, building, inner_name
from noria.ir.opdef import lookup, note_checks
from noria.ir.program import Block, Operator, Spec, Value, needed


class Nested:
    """A block being made inside the one that is being built. Inside `with`, ops are emitted there.

    specs: of its inputs; names: what to call them
    """

    def __init__(self, specs: Sequence[Spec], names: Sequence[str]) -> None:
        self.outer = building()
        self.builder = Builder(self.outer.program, Block(), parent=self.outer)
        self.block = self.builder.block
        for spec, name in zip(specs, names, strict=True):
            self.input(spec, name)

    def __enter__(self) -> Nested:
        self.builder.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.builder.__exit__(*error)

    @property
    def inputs(self) -> list[Value]:
        """The inputs declared so far; captured values are not among them."""
        return self.block.inputs

    def input(self, spec: Spec, name: str) -> Value:
        """One more input."""
        return self.builder.input(inner_name(self.outer, name), spec.shape, spec.dtype)

    def check_sizes(self, names: Sequence[str]) -> None:
        """Raises ShapeError for an output whose size is known only inside (`nonzero`).

        names: of the outputs, for the message.
        """
        inside = [*self.inputs, *self.builder.captures.values()]
        known = frozenset().union(*(symbols_of(v.shape) for v in inside))
        for value, name in zip(self.block.outputs, names, strict=True):
            hidden = symbols_of(value.shape) - known
            if hidden and not hidden <= _symbols_outside(self.outer):
                raise ShapeError(
                    f"the size of {name} is known only inside the block",
                    expected="sizes known before the block runs",
                    got=Spec.__str__(value),
                    hint="return it padded to a known size, with a mask or a count",
                )


def _symbols_outside(builder: Builder | None) -> frozenset[str]:
    found: set[str] = set()
    while builder is not None:
        found.update(*(symbols_of(v.shape) for v in builder.known))
        builder = builder.parent
    return frozenset(found)


def value_of(leaf: Any, dtype: str | None = None) -> Value:
    """What a traced function returned, or was given, as a Value of the block being built.

    Numbers and arrays become constants, Python scalars of `dtype` if it is given. Raises
    DTypeError for what is no number.
    """
    leaf = resolved(leaf)
    if isinstance(leaf, Value):
        return building().capture(leaf)
    if np.asarray(leaf).dtype.kind in "OUSMm":
        raise DTypeError(
            "a value, an array or a number is needed, or tuples, lists and dicts of these",
            got=f"{type(leaf).__name__}: {str(leaf)[:60]}",
        )
    return building().constant(leaf, dtype if is_scalar(leaf) else None)


def resolved(leaf: Any) -> Any:
    """The Value (or array) that a stand-in for one, such as a parameter of a module, stands for."""
    resolve = getattr(type(leaf), "__noria_value__", None)
    return leaf if resolve is None else resolve(leaf)


def is_scalar(leaf: Any) -> bool:
    """Whether it is a Python number, which takes its dtype from what is beside it."""
    return type(leaf) in (bool, int, float)


def scalar_dtype(leaf: Any, beside: Any) -> str | None:
    """The dtype a Python scalar takes from what is in its place elsewhere, if that fits."""
    if not is_scalar(leaf):
        return None
    if is_scalar(beside):
        return "float32" if {type(leaf), type(beside)} == {int, float} else None
    beside = resolved(beside)
    dtype = beside.dtype if isinstance(beside, Spec) else as_dtype(np.asarray(beside).dtype)
    fits = is_float(dtype) or (isinstance(leaf, int) and dtype != "bool")
    return dtype if fits and not isinstance(leaf, bool) else None


def close(
    parts: Sequence[Nested], operands: Sequence[Value], fixed: int = 0
) -> tuple[list[Block], list[Value]]:
    """(the finished blocks, the operands of their op).

    operands: outer values of the inputs declared, in order. What any block captured becomes an
    input of all. Operators nothing depends on are left out, and so are inputs that no block
    uses, but for the first `fixed`.
    """
    captured = list(dict.fromkeys(v for p in parts for v in p.builder.captures))
    for part in parts:
        inner = part.builder.captures
        part.block.inputs.extend(inner[v] if v in inner else _unused(part, v) for v in captured)
        part.block.operators = needed(part.block, part.block.outputs, keep=has_effect)
    outer = [*operands, *captured]
    uses = [_used(part.block) for part in parts]
    kept = [
        i
        for i in range(len(outer))
        if i < fixed or any(p.block.inputs[i] in u for p, u in zip(parts, uses, strict=True))
    ]
    for part in parts:
        part.block.inputs = [part.block.inputs[i] for i in kept]
    return [part.block for part in parts], [outer[i] for i in kept]


def _unused(part: Nested, value: Value) -> Value:
    return Value(part.builder.names.fresh(value.name), value.shape, value.dtype)


def _used(block: Block) -> set[Value]:
    found = set(block.outputs)
    for operator in block.operators:
        found.update(operator.operands)
    return found


def has_effect(operator: Operator) -> bool:
    """Whether it, or an operator of its blocks, does something besides giving its outputs."""
    return lookup(operator.type).effect == "ordered" or any(
        has_effect(inner) for block in operator.blocks.values() for inner in block.operators
    )


# ---- what inference of a control-flow op checks -------------------------------------------------


def need_flag(value: Spec, what: str) -> None:
    """Raises DTypeError or ShapeError unless it is one bool."""
    if value.dtype != "bool":
        raise DTypeError(f"{what} must be a bool", got=str(value), hint="compare: x > 0")
    if value.shape != ():
        raise ShapeError(f"{what} must be a scalar", got=str(value), hint="reduce it first")


def require_spec(got: Spec, want: Spec, what: str) -> None:
    """Raises DTypeError or ShapeError, naming both, unless the specs are the same.

    Sizes that may or may not be equal are checked when they are bound.
    """
    texts = {"expected": Spec.__str__(want), "got": Spec.__str__(got)}
    if got.dtype != want.dtype:
        raise DTypeError(f"{what} has another dtype", **texts, hint="ops.cast one of them")
    pairs = list(zip(got.shape, want.shape, strict=False))
    if got.ndim != want.ndim or any(prove_equal(a, b) is False for a, b in pairs):
        raise ShapeError(f"{what} has another shape", **texts)
    note_checks([Check(a, b, what) for a, b in pairs if prove_equal(a, b) is None])


def need_inputs(block: Block, specs: Sequence[Spec], what: str) -> None:
    """Raises a NoriaError unless the block takes inputs of these specs."""
    if len(block.inputs) != len(specs):
        raise ProgramError(
            f"{what} takes another number of inputs",
            expected=str(len(specs)),
            got=str(len(block.inputs)),
        )
    for value, spec in zip(block.inputs, specs, strict=True):
        require_spec(value, spec, f"input '{value.name}' of {what}")


# ---- along which values gradients flow ----------------------------------------------------------


def leads_to(block: Block, goals: Iterable[Value]) -> set[Value]:
    """The float values that a goal depends on through floats."""
    found = {v for v in goals if is_float(v.dtype)}
    for operator in reversed(block.operators):
        if any(v in found for v in operator.outputs):
            found.update(v for v in operator.operands if is_float(v.dtype))
    return found


def follows_from(block: Block, sources: Iterable[Value]) -> set[Value]:
    """The float values that depend on a source through floats."""
    found = {v for v in sources if is_float(v.dtype)}
    for operator in block.operators:
        if any(v in found for v in operator.operands):
            found.update(v for v in operator.outputs if is_float(v.dtype))
    return found
