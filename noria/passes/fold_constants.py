"""What depends on constants alone is computed now."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from noria.core.dims import Dim, symbols_of
from noria.core.dtypes import to_numpy
from noria.core.errors import NoriaError, ProgramError
from noria.ir.interpret import run_operator
from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.fused import ELEMENTWISE
from noria.passes.liveness import live
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

MAX_ELEMENTS = 1 << 14  # of what is put into the Program, and of what is looked at for it
MADE_BY = "fold_constants"
CONSTANTS = frozenset(("fill", "constant"))
# Ops that give the same number everywhere when their input does, whatever the shapes.
ARRANGING = frozenset(("reshape", "flatten", "squeeze", "unsqueeze", "transpose", "broadcast_to"))
ARRANGING |= {"tile", "identity", "stop_gradient"}


def fold_constants(program: Program) -> Program:
    """An operator on `fill` and `constant` alone becomes one of these.

    One number everywhere stays a `fill`, also where sizes are symbolic; anything else is computed
    if it has at most MAX_ELEMENTS elements. Random and ordered operators, control flow, and what
    fails (it will fail again at run time, with its place) are left alone.

    Given:
        program p {
          input x: float32[N, 2]
          fill: float32[] = fill(shape=(), value=3.0)
          fill_1: float32[] = fill(shape=(), value=4.0)
          mul: float32[] = mul(fill, fill_1)
          broadcast_to: float32[N, 2] = broadcast_to(mul, shape=[N, 2])
          constant: float32[2] = constant(value=array(float32[2], 1.0, 2.0))
          neg: float32[2] = neg(constant)
          add: float32[N, 2] = add(x, broadcast_to)
          add_1: float32[N, 2] = add(add, neg)
          output y = add_1
        }
    Result:
        program p {
          input x: float32[N, 2]
          fill: float32[N, 2] = fill(shape=[N, 2], value=12.0)
          constant: float32[2] = constant(value=array(float32[2], -1.0, -2.0))
          add: float32[N, 2] = add(x, fill)
          add_1: float32[N, 2] = add(add, constant)
          output y = add_1
        }
    """
    report = Report(MADE_BY)
    out = program.copy()
    out.block.operators = _folded_block(program.block, program.roots(), report)
    publish(report)
    return out


def _folded_block(block: Block, roots: Sequence[Value], report: Report) -> list[Operator]:
    """The block's operators, folded, and without the constants that nothing uses any more."""
    known: dict[Value, Operator] = {}
    out: list[Operator] = []
    before = len(report.fired)
    for operator in block.operators:
        operator = map_blocks(operator, lambda inner: _folded_inner(inner, report))
        made = _folded(operator, known, report)
        known.update((v, o) for o in made if o.type in CONSTANTS for v in o.outputs)
        out.extend(made)
    return live(Block(block.inputs, out), roots) if len(report.fired) > before else out


def _folded_inner(block: Block, report: Report) -> Block:
    operators = _folded_block(block, block.outputs, report)
    same = operators == block.operators
    return block if same else Block(list(block.inputs), operators, list(block.outputs))


def _folded(operator: Operator, known: Mapping[Value, Operator], report: Report) -> list[Operator]:
    """The operator, or for each of its outputs a constant."""
    if operator.type in CONSTANTS or operator.blocks or lookup(operator.type).effect != "pure":
        return [operator]
    if any(v not in known for v in operator.operands):
        return [operator]
    try:
        results = _results(operator, [None if v is None else known[v] for v in operator.inputs])
    except NoriaError as error:
        report.declined.append((operator.where(), error.what))
        return [operator]
    if results is None:
        return [operator]
    report.fired.append(operator.where())
    return [_constant(operator, v, a) for v, a in zip(operator.outputs, results, strict=True)]


def _results(operator: Operator, makers: Sequence[Operator | None]) -> Sequence[np.ndarray] | None:
    """What the operator gives; one number stands for an array that is the same everywhere.

    None where that depends on symbolic sizes. Raises NoriaError where it fails or is too much.
    """
    given = [m for m in makers if m is not None]
    if given and all(m.type == "fill" for m in given):
        numbers = [None if m is None else _array(m, ()) for m in makers]
        if operator.type in ARRANGING:
            return [np.asarray(numbers[0])]
        if operator.type in ELEMENTWISE:
            out = operator.outputs[0]
            scalar = replace(operator, outputs=(Value(out.name, (), out.dtype),))
            return _run(scalar, numbers)
    touched = (*operator.operands, *operator.outputs)
    if any(symbols_of(v.shape) for v in touched) or _has_sizes(operator.attrs.values()):
        return None
    for v in touched:
        if math.prod(map(int, v.shape)) > MAX_ELEMENTS:
            raise ProgramError(f"{v.name} has more than {MAX_ELEMENTS} elements")
    return _run(operator, [None if m is None else _array(m, m.outputs[0].shape) for m in makers])


def _run(operator: Operator, arrays: Sequence[np.ndarray | None]) -> Sequence[np.ndarray]:
    with np.errstate(all="ignore"):
        return run_operator(operator, arrays, {})


def _has_sizes(attrs: Iterable[Any]) -> bool:
    """Whether a symbolic size is among the attributes."""
    return any(isinstance(a, Dim) or (isinstance(a, tuple) and _has_sizes(a)) for a in attrs)


def _array(maker: Operator, shape: Any) -> np.ndarray:
    """What a `fill` (in that shape) or `constant` holds."""
    if maker.type == "constant":
        return maker.attrs["value"]
    return np.full(shape, maker.attrs["value"], to_numpy(maker.outputs[0].dtype))


def _constant(operator: Operator, out: Value, array: np.ndarray) -> Operator:
    """The operator's output as a `fill` if it is the same everywhere, else as a `constant`."""
    array = np.array(array, to_numpy(out.dtype))
    flat = array.reshape(-1)
    raw = flat.view(np.uint8).reshape(flat.size, array.itemsize)  # tells 0.0 from -0.0
    if (raw == raw[:1]).all():
        number = flat[0].item() if flat.size else 0
        number = number if isinstance(number, (bool, int, float)) else float(number)
        attrs: dict[str, Any] = {"shape": out.shape, "value": number, "dtype": out.dtype}
        return Operator("fill", (), (out,), attrs, {}, operator.source, MADE_BY)
    array.setflags(write=False)
    return Operator("constant", (), (out,), {"value": array}, {}, operator.source, MADE_BY)
