"""Where the gradients of a residual block's output meet: their sum, masked, by the convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from noria.ir.emit import Names, names_of
from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.batch_norm import batch_norm_grad
from noria.ops.masked_grad import masked_input_grad
from noria.ops.window import per_axis
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "fuse_masked_grads"
WHOLE = 64  # channels, of which a convolution of one tap that has such gives them at once


def fuse_masked_grads(program: Program) -> Program:
    """A convolution of one tap whose gradient a batch_norm_relu_grad adds to another one makes the
    sum itself, 0 where the ReLU's output was: `masked_input_grad`.

    The sum is then in memory once, for batch norm's gradient, which reads it twice, and for the
    residual. Before, batch norm's gradient read both parts and the mask, and wrote the sum.

    Given:
        program p {
          input g: bfloat16[N, 64, 4, 4]
          input w: bfloat16[64, 64, 1, 1]
          input more: bfloat16[N, 64, 4, 4]
          input x: bfloat16[N, 64, 4, 4]
          input scale: float32[64]
          input m: float32[64]
          input s: float32[64]
          input mask: uint8[N, 8, 4, 4]
          part: bfloat16[N, 64, 4, 4] = conv2d_input_grad(g, w, sizes=(4, 4))
          gx, gs, gb, gr: bfloat16[N, 64, 4, 4], float32[64], float32[64], bfloat16[N, 64, 4, 4] = batch_norm_relu_grad(x, scale, m, s, mask, more, part, residual=true)
          output gx = gx
          output gs = gs
          output gb = gb
          output gr = gr
        }
    Result:
        program p {
          input g: bfloat16[N, 64, 4, 4]
          input w: bfloat16[64, 64, 1, 1]
          input more: bfloat16[N, 64, 4, 4]
          input x: bfloat16[N, 64, 4, 4]
          input scale: float32[64]
          input m: float32[64]
          input s: float32[64]
          input mask: uint8[N, 8, 4, 4]
          gr: bfloat16[N, 64, 4, 4] = masked_input_grad(g, w, more, mask, sizes=(4, 4))
          gx, gs, gb: bfloat16[N, 64, 4, 4], float32[64], float32[64] = batch_norm_grad(x, scale, m, s, gr)
          output gx = gx
          output gs = gs
          output gb = gb
          output gr = gr
        }
    """  # noqa: E501
    report = Report(NAME)
    out = program.copy()
    out.block.operators = _Masked(report, names_of(program)).of(program.block, program.roots())
    publish(report)
    return out


class _Masked:
    """Goes through blocks. names: of the Program, for sums that had none."""

    def __init__(self, report: Report, names: Names) -> None:
        self.report, self.names = report, names

    def of(self, block: Block, roots: Sequence[Value]) -> list[Operator]:
        operators = [map_blocks(op, self.inside) for op in block.operators]
        index = Index(Block(block.inputs, operators), roots)
        new: dict[Operator, list[Operator]] = {}
        for op in operators:
            conv = self.convolution(op, index)
            if conv is not None:
                self.report.fired.append(op.where())
                new |= {conv: [], op: self.apart(op, conv)}
        return [made for op in operators for made in new.get(op, [op])]

    def inside(self, block: Block) -> Block:
        operators = self.of(block, block.outputs)
        same = operators == block.operators
        return block if same else Block(list(block.inputs), operators, list(block.outputs))

    def convolution(self, op: Operator, index: Index) -> Operator | None:
        """The one that can give the sum which a batch norm's gradient takes."""
        if op.type != "batch_norm_relu_grad" or len(op.operands) < 7:
            return None
        if op.operands[4].dtype != "uint8" or op.attrs["axis"] != 1:
            return None
        makers = [index.producer.get(v) for v in op.operands[5:]]
        convs = [m for m in makers if m is not None and m.type == "conv2d_input_grad"]
        reasons = [_refusal(m, index) for m in convs]
        for conv, reason in zip(convs, reasons, strict=True):
            if reason is None:
                return conv
        self.report.declined += [(op.where(), r) for r in reasons if r is not None]
        return None

    def apart(self, op: Operator, conv: Operator) -> list[Operator]:
        """What takes the place of batch norm's gradient."""
        x, *vectors, mask, first, second = op.operands
        (part,) = conv.outputs
        more = second if first is part else first
        total = op.outputs[3] if op.attrs["residual"] else self.named(part)
        attrs = masked_input_grad.bind_attrs(conv.attrs)
        inputs = (*conv.operands, more, mask)
        kind, how = masked_input_grad.name, {"attrs": attrs, "made_by": NAME}
        made = replace(conv, type=kind, inputs=inputs, outputs=(total,), **how)
        kind, how = batch_norm_grad.name, {"attrs": {"axis": 1}, "made_by": NAME}
        inputs = (x, *vectors, total)
        return [made, replace(op, type=kind, inputs=inputs, outputs=op.outputs[:3], **how)]

    def named(self, part: Value) -> Value:
        return Value(self.names.fresh(f"{part.name}.masked"), part.shape, part.dtype)


def _refusal(conv: Operator, index: Index) -> str | None:
    grad, weight = conv.operands
    if index.use_count(conv.outputs[0]) > 1:
        return "the convolution's gradient is used elsewhere"
    if {grad.dtype, weight.dtype, conv.outputs[0].dtype} != {"bfloat16"}:
        return "not all is bfloat16"
    outs, ins, *kernel = weight.shape
    if any(k != 1 for k in kernel) or conv.attrs["groups"] != 1:
        return "more than one tap, or grouped"
    if set(per_axis(conv.attrs["stride"], 2, "stride")) != {1}:
        return "strided"
    if any(not isinstance(c, int) or c % WHOLE for c in (outs, ins)):
        return f"channels are no multiples of {WHOLE}"
    return None
