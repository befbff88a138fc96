"""Two batch norms whose results are added have one gradient: read once for both."""

from __future__ import annotations

from collections.abc import Sequence

from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.norm_pair import batch_norm_pair_grad
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "fuse_norm_pairs"


def fuse_norm_pairs(program: Program) -> Program:
    """Two batch_norm_grad of one gradient become `batch_norm_pair_grad`, as behind the block of a
    residual network whose branch has a batch norm too; so does a batch_norm_relu_grad that gives
    its masked gradient to nothing but the second one.

    Given:
        program p {
          input x: float32[N, 4, 3, 3]
          input x2: float32[N, 4, 3, 3]
          input scale: float32[4]
          input m: float32[4]
          input s: float32[4]
          input m2: float32[4]
          input s2: float32[4]
          input out: float32[N, 4, 3, 3]
          input g: float32[N, 4, 3, 3]
          gx, gs, gb, gr: float32[N, 4, 3, 3], float32[4], float32[4], float32[N, 4, 3, 3] = batch_norm_relu_grad(x, scale, m, s, out, g, residual=true)
          gx2, gs2, gb2: float32[N, 4, 3, 3], float32[4], float32[4] = batch_norm_grad(x2, scale, m2, s2, gr)
          output gx = gx
          output gs = gs
          output gb = gb
          output gx2 = gx2
          output gs2 = gs2
          output gb2 = gb2
        }
    Result:
        program p {
          input x: float32[N, 4, 3, 3]
          input x2: float32[N, 4, 3, 3]
          input scale: float32[4]
          input m: float32[4]
          input s: float32[4]
          input m2: float32[4]
          input s2: float32[4]
          input out: float32[N, 4, 3, 3]
          input g: float32[N, 4, 3, 3]
          gx, gs, gb, gx2, gs2, gb2: float32[N, 4, 3, 3], float32[4], float32[4], float32[N, 4, 3, 3], float32[4], float32[4] = batch_norm_pair_grad(x, scale, m, s, x2, scale, m2, s2, g, out)
          output gx = gx
          output gs = gs
          output gb = gb
          output gx2 = gx2
          output gs2 = gs2
          output gb2 = gb2
        }
    """  # noqa: E501
    report = Report(NAME)
    out = program.copy()
    out.block.operators = _paired(program.block, program.roots(), report)
    publish(report)
    return out


def _paired(block: Block, roots: Sequence[Value], report: Report) -> list[Operator]:
    operators = [map_blocks(op, lambda inner: _inner(inner, report)) for op in block.operators]
    index = Index(Block(block.inputs, operators), roots)
    made: dict[Operator, Operator] = {}
    gone: set[Operator] = set()
    for op in operators:
        second = None if op in gone else _second(op, index, gone, report)
        if second is not None:
            report.fired.append(op.where())
            made[op] = _pair(op, second)
            gone.add(second)
    return [made.get(op, op) for op in operators if op not in gone]


def _inner(block: Block, report: Report) -> Block:
    operators = _paired(block, block.outputs, report)
    same = operators == block.operators
    return block if same else Block(list(block.inputs), operators, list(block.outputs))


def _second(op: Operator, index: Index, gone: set[Operator], report: Report) -> Operator | None:
    """The batch_norm_grad that takes the gradient which this one takes too."""
    if op.type == "batch_norm_grad":
        total, alone = op.operands[4], False
    elif op.type == "batch_norm_relu_grad" and op.attrs["residual"]:
        total, alone = op.outputs[3], True
    else:
        return None
    place = index.position
    for user in index.users[total]:
        if user.type != "batch_norm_grad" or user in gone or place[user] <= place[op]:
            continue
        reason = _refusal(op, user, total, index)
        if reason is None and alone and index.use_count(total) > 1:
            reason = "the masked gradient is used elsewhere"
        if reason is None:
            return user
        report.declined.append((op.where(), reason))
    return None


def _refusal(op: Operator, other: Operator, total: Value, index: Index) -> str | None:
    x, x2 = op.operands[0], other.operands[0]
    if other.operands[4] is not total:
        return "the gradient is used otherwise"
    if (x.shape, x.dtype) != (x2.shape, x2.dtype):
        return "their inputs have different shapes or dtypes"
    if op.attrs["axis"] % x.ndim != other.attrs["axis"] % x.ndim:
        return "their channels are different axes"
    makers = [index.producer.get(v) for v in other.operands[:4]]
    if any(m is not None and index.position[m] >= index.position[op] for m in makers):
        return "what the second one takes is made later"
    return None


def _pair(op: Operator, other: Operator) -> Operator:
    gradients: tuple[Value | None, ...] = (op.operands[4], None, None)
    if op.type == "batch_norm_relu_grad":
        out, grad, more = op.inputs[4:]
        gradients = (grad, out, more)
    inputs = (*op.operands[:4], *other.operands[:4], *gradients)
    outputs = (*op.outputs[:3], *other.outputs)
    attrs = {"axis": op.attrs["axis"]}
    return Operator(batch_norm_pair_grad.name, inputs, outputs, attrs, {}, op.source, NAME)
