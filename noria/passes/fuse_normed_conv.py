"""Convolutions that normalise while they read, in the place of a batch norm's second pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from noria.core.flags import flags
from noria.ir.emit import Names, names_of
from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.normed_conv import (
    batch_norm_factors,
    normed_conv2d,
    normed_conv2d_weight_grad,
)
from noria.ops.window import per_axis
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "fuse_normed_conv"
TAPS = 3
WHOLE, LEAST = 16, 32  # channels, which fill vectors
MOST_OF_HALVES = 256  # channels of halves up to which 3x3 convolutions go through Winograd's tiles
_READERS = {"conv2d": normed_conv2d, "conv2d_weight_grad": normed_conv2d_weight_grad}


def fuse_normed_conv(program: Program) -> Program:
    """Where only a 3x3 convolution and its gradient by the weight read what a batch_norm_relu
    gives, they normalise x themselves, and batch norm makes its statistics pass only: what it would
    have written is neither written nor kept for the backward part. Its own gradient does without
    the mask, by the same numbers.

    Such convolutions copy what they read to tiles (Winograd's) that are transformed; so to
    normalise costs a few instructions there. With NORIA_WINOGRAD=0 all stays as it is.

    Given:
        program p {
          input x: float32[N, 32, 4, 4]
          input w: float32[32, 32, 3, 3]
          input g: float32[N, 32, 4, 4]
          input scale: float32[32]
          input bias: float32[32]
          input mean: float32[32]
          input var: float32[32]
          y, m, s, m2, v2, mask: float32[N, 32, 4, 4], float32[32], float32[32], float32[32], float32[32], uint8[N, 4, 4, 4] = batch_norm_relu(x, scale, bias, mean, var, mask=true)
          out: float32[N, 32, 4, 4] = conv2d(y, w, padding=1)
          gw: float32[32, 32, 3, 3] = conv2d_weight_grad(y, g, kernel=(3, 3), padding=1)
          gy: float32[N, 32, 4, 4] = conv2d_input_grad(g, w, sizes=(4, 4), padding=1)
          gx, gs, gb: float32[N, 32, 4, 4], float32[32], float32[32] = batch_norm_relu_grad(x, scale, m, s, mask, gy)
          output out = out
          output gw = gw
          output gx = gx
          output gs = gs
          output gb = gb
        }
    Result:
        program p {
          input x: float32[N, 32, 4, 4]
          input w: float32[32, 32, 3, 3]
          input g: float32[N, 32, 4, 4]
          input scale: float32[32]
          input bias: float32[32]
          input mean: float32[32]
          input var: float32[32]
          "y.factors", m, s, m2, v2: float32[2, 32], float32[32], float32[32], float32[32], float32[32] = batch_norm_factors(x, scale, bias, mean, var)
          out: float32[N, 32, 4, 4] = normed_conv2d(x, w, m, "y.factors", padding=1)
          gw: float32[32, 32, 3, 3] = normed_conv2d_weight_grad(x, g, m, "y.factors", kernel=(3, 3), padding=1)
          gy: float32[N, 32, 4, 4] = conv2d_input_grad(g, w, sizes=(4, 4), padding=1)
          gx, gs, gb: float32[N, 32, 4, 4], float32[32], float32[32] = batch_norm_relu_grad(x, scale, m, s, "y.factors", gy)
          output out = out
          output gw = gw
          output gx = gx
          output gs = gs
          output gb = gb
        }
    """  # noqa: E501
    report = Report(NAME)
    out = program.copy()
    if flags.winograd:
        found = _Normed(report, names_of(program)).of(program.block, program.roots())
        out.block.operators = found
    publish(report)
    return out


class _Normed:
    """Goes through blocks. names: of the Program, for factors."""

    def __init__(self, report: Report, names: Names) -> None:
        self.report, self.names = report, names

    def of(self, block: Block, roots: Sequence[Value]) -> list[Operator]:
        operators = [map_blocks(op, self.inside) for op in block.operators]
        index = Index(Block(block.inputs, operators), roots)
        new: dict[Operator, Operator] = {}
        for op in operators:
            if op.type != "batch_norm_relu" or not _read_by_convolutions(op, index):
                continue
            reason = _refusal(op, index)
            if reason is None:
                self.report.fired.append(op.where())
                new |= self.normed(op, index)
            else:
                self.report.declined.append((op.where(), reason))
        return [new.get(op, op) for op in operators]

    def inside(self, block: Block) -> Block:
        operators = self.of(block, block.outputs)
        same = operators == block.operators
        return block if same else Block(list(block.inputs), operators, list(block.outputs))

    def normed(self, op: Operator, index: Index) -> dict[Operator, Operator]:
        """Batch norm and all that reads what it gave -> what takes their places."""
        out, mean, inv_std, *moved = op.outputs[:5]
        x = op.operands[0]
        name = self.names.fresh(f"{out.name}.factors")
        factors = Value(name, (2, x.shape[1]), mean.dtype)
        attrs = batch_norm_factors.bind_attrs({k: op.attrs[k] for k in ("momentum", "epsilon")})
        outputs = (factors, mean, inv_std, *moved)
        made = replace(op, inputs=op.inputs[:5], outputs=outputs, attrs=attrs, made_by=NAME)
        new = {op: replace(made, type=batch_norm_factors.name)}
        for conv in index.users[out]:
            inputs = (x, conv.operands[1], mean, factors, *conv.inputs[2:])
            kind = _READERS[conv.type].name
            new[conv] = replace(conv, type=kind, inputs=inputs, made_by=NAME)
        for mask in op.outputs[5:]:
            for back in index.users[mask]:
                inputs = (*back.inputs[:4], factors, *back.inputs[5:])
                new[back] = replace(back, inputs=inputs, made_by=NAME)
        return new


def _read_by_convolutions(op: Operator, index: Index) -> bool:
    users = index.users[op.outputs[0]]
    return bool(users) and all(u.type in _READERS for u in users)


def _refusal(op: Operator, index: Index) -> str | None:
    out, x, users = op.outputs[0], op.operands[0], index.users[op.outputs[0]]
    if len(op.operands) > 5 or op.attrs["axis"] != 1:
        return "a residual is added, or channels are not axis 1"
    if index.use_count(out) > len(users):
        return "it is an output, or read twice by one operator"
    if len({u.type for u in users}) < len(users):
        return "several convolutions read it"
    for mask in op.outputs[5:]:
        if index.use_count(mask) > len(index.users[mask]):
            return "its mask is an output"
        if not all(_is_own_gradient(u, op) for u in index.users[mask]):
            return "its mask is used elsewhere"
    if any(u.operands[0] is not out for u in users):
        return "it is no image of a convolution"
    return next(filter(None, (_refused_window(u, x.dtype) for u in users)), None)


def _is_own_gradient(op: Operator, forward: Operator) -> bool:
    """Is it the gradient of this batch norm, with its statistics, and of nothing else?"""
    if op.type != "batch_norm_relu_grad" or op.attrs["axis"] != 1:
        return False
    if op.attrs["residual"] or len(op.operands) > 6:
        return False
    own = op.operands[0] is forward.operands[0] and op.operands[2] is forward.outputs[1]
    return own and op.operands[4] is forward.outputs[5]


def _refused_window(conv: Operator, dtype: str) -> str | None:
    """What Winograd's tiles do not take."""
    image, other = conv.operands[:2]
    if {image.dtype, other.dtype} != {dtype} or dtype not in ("float32", "bfloat16"):
        return "not all is float32 or bfloat16"
    by_weight = conv.type == "conv2d_weight_grad"
    outs = other.shape[1] if by_weight else other.shape[0]
    kernel = per_axis(conv.attrs["kernel"], 2, "") if by_weight else other.shape[2:]
    if kernel != (TAPS, TAPS) or conv.attrs["groups"] != 1:
        return f"not {TAPS}x{TAPS}, or grouped"
    if {*per_axis(conv.attrs["stride"], 2, ""), *per_axis(conv.attrs["dilation"], 2, "")} != {1}:
        return "strided or dilated"
    channels = (image.shape[1], outs)
    if any(not isinstance(c, int) or c % WHOLE or c < LEAST for c in channels):
        return f"channels are no multiples of {WHOLE}, {LEAST} or more"
    if dtype != "float32" and max(channels) > MOST_OF_HALVES:
        return f"halves of more than {MOST_OF_HALVES} channels are multiplied directly"
    return None
