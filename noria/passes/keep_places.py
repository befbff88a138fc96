"""A max-pooling whose gradient follows keeps which element each window took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from noria.ir.emit import Names, names_of
from noria.ir.index import Index
from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.max_places import MAX_ELEMENTS
from noria.ops.window import per_axis
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "keep_places"
_AXES = {f"max_pool{n}d": n for n in (1, 2)}


def keep_places(program: Program) -> Program:
    """max_pool and its gradients become `max_pool_places`, which also gives a byte for each window,
    and `max_pool_spread`, which reads that instead of what was pooled: a quarter of the bytes or
    less, and where nothing else needs it, the larger array need not live until then.

    Given:
        program p {
          input x: float32[N, 3, 4, 6]
          input g: float32[N, 3, 2, 3]
          p: float32[N, 3, 2, 3] = max_pool2d(x, kernel=2)
          gx: float32[N, 3, 4, 6] = max_pool2d_grad(x, p, g, kernel=2)
          output p = p
          output gx = gx
        }
    Result:
        program p {
          input x: float32[N, 3, 4, 6]
          input g: float32[N, 3, 2, 3]
          p, p.places: float32[N, 3, 2, 3], uint8[N, 3, 2, 3] = max_pool2d_places(x, kernel=2)
          gx: float32[N, 3, 4, 6] = max_pool2d_spread(g, p.places, sizes=(4, 6), kernel=2)
          output p = p
          output gx = gx
        }
    """
    report = Report(NAME)
    out = program.copy()
    out.block.operators = _Places(report, names_of(program)).of(program.block, program.roots())
    publish(report)
    return out


class _Places:
    """Goes through blocks. names: of the Program, for what is kept."""

    def __init__(self, report: Report, names: Names) -> None:
        self.report, self.names = report, names

    def of(self, block: Block, roots: Sequence[Value]) -> list[Operator]:
        operators = [map_blocks(op, self.inside) for op in block.operators]
        index = Index(Block(block.inputs, operators), roots)
        new: dict[Operator, Operator] = {}
        for op in operators:
            if op.type in _AXES:
                new |= self.replaced(op, index)
        return [new.get(op, op) for op in operators]

    def inside(self, block: Block) -> Block:
        operators = self.of(block, block.outputs)
        same = operators == block.operators
        return block if same else Block(list(block.inputs), operators, list(block.outputs))

    def replaced(self, op: Operator, index: Index) -> dict[Operator, Operator]:
        """What takes the place of a max-pooling and of its gradients."""
        (out,) = op.outputs
        grads = [u for u in index.users[out] if _is_gradient(u, op)]
        if not grads:
            return {}
        if prod(per_axis(op.attrs["kernel"], _AXES[op.type], "kernel")) > MAX_ELEMENTS:
            self.report.declined.append((op.where(), "a byte counts no windows so large"))
            return {}
        self.report.fired.append(op.where())
        places = Value(self.names.fresh(f"{out.name}.places"), out.shape, "uint8")
        kept = replace(op, type=f"{op.type}_places", outputs=(out, places), made_by=NAME)
        return {op: kept} | {grad: _spread(grad, op, places) for grad in grads}


def _is_gradient(user: Operator, op: Operator) -> bool:
    same = user.inputs[:2] == (*op.inputs, *op.outputs) and user.attrs == op.attrs
    return user.type == f"{op.type}_grad" and same


def _spread(grad: Operator, op: Operator, places: Value) -> Operator:
    name = f"{op.type}_spread"
    attrs = lookup(name).bind_attrs({**op.attrs, "sizes": grad.outputs[0].shape[2:]})
    return replace(grad, type=name, inputs=(grad.inputs[2], places), attrs=attrs, made_by=NAME)
