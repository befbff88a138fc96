"""Convolutions around a depthwise one become one operator."""

from __future__ import annotations

from math import prod

from noria.core.flags import flags
from noria.core.machine import caches
from noria.ir.index import Index
from noria.ir.program import Operator, Program, Value
from noria.ops.fused_convs import CONVOLUTIONS
from noria.ops.window import Windows, slide
from noria.passes.liveness import fixed_values, unchanged_state
from noria.passes.nested import enclosed
from noria.passes.report import Report, publish

NAME = "fuse_convs"
DTYPE, BYTES = "float32", 4
FEW = 4  # channels of an image that is read plane by plane
ACTIVATIONS = (None, "relu", "relu6")  # what a tile does on its way


def fuse_convs(program: Program) -> Program:
    """A depthwise convolution, the one of one tap behind it, and the one before it, become one
    `fused_convs`, where what is between them is larger than the second cache: a kernel can go
    through all of them for some rows of the image at a time, so that the wide values never leave
    that cache (the inverted residual block of Sandler et al., 2018).

    All sizes but the batch's must be known, and weights must never change.

    Given:
        program p {
          input x: float32[N, 16, 256, 256]
          state u: float32[96, 16, 1, 1] = fill(value=0.0)
          state d: float32[96, 1, 3, 3] = fill(value=0.0)
          state w: float32[24, 96, 1, 1] = fill(value=0.0)
          up: float32[N, 96, 256, 256] = fused_conv2d(x, u, activation="relu6")
          each: float32[N, 96, 256, 256] = fused_conv2d(up, d, padding=1, groups=96)
          down: float32[N, 24, 256, 256] = conv2d(each, w)
          output y = down
        }
    Result:
        program p {
          input x: float32[N, 16, 256, 256]
          state u: float32[96, 16, 1, 1] = fill(value=0.0)
          state d: float32[96, 1, 3, 3] = fill(value=0.0)
          state w: float32[24, 96, 1, 1] = fill(value=0.0)
          down: float32[N, 24, 256, 256] = fused_convs(x, u, d, w) {
            body(x: float32[N, 16, 256, 256], u: float32[96, 16, 1, 1], d: float32[96, 1, 3, 3],
                 w: float32[24, 96, 1, 1]) {
              up: float32[N, 96, 256, 256] = fused_conv2d(x, u, activation="relu6")
              each: float32[N, 96, 256, 256] = fused_conv2d(up, d, padding=1, groups=96)
              down: float32[N, 24, 256, 256] = conv2d(each, w)
              return down
            }
          }
          output y = down
        }
    """
    report = Report(NAME)
    search = _Search(program, report)
    gone: set[Operator] = set()
    new: dict[Operator, Operator] = {}
    for operator in program.operators:
        chain = search.chain(operator)
        if chain:
            gone.update(chain[:-1])
            new[chain[-1]] = enclosed(chain, "fused_convs", NAME, chain[-1].outputs)
            report.fired.append(f"{operator.where()}: {len(chain)} convolutions")
    publish(report)
    if not new:
        return program
    out = program.copy()
    out.block.operators = [new.get(op, op) for op in program.operators if op not in gone]
    return out


class _Search:
    """Looks for what belongs together around a depthwise convolution."""

    def __init__(self, program: Program, report: Report) -> None:
        self.index = Index(program.block, program.roots())
        self.fixed = fixed_values(program.operators, unchanged_state(program))
        self.report = report

    def chain(self, middle: Operator) -> list[Operator]:
        """The convolutions around a depthwise one, two or three; none where it stays alone."""
        if middle.type not in CONVOLUTIONS or middle.attrs["groups"] == 1:
            return []
        reason = self._obstacle(middle) or _not_depthwise(middle)
        if reason:
            self.report.declined.append((middle.where(), reason))
            return []
        last = self._behind(middle)
        if last is None:
            return []
        first = self.index.producer.get(middle.operands[0])
        before = [first] if first is not None and self._may_begin(first) else []
        chain = [*before, middle, last]
        wide = max(_nbytes(op.outputs[0]) for op in chain[:-1])
        if wide <= caches().second:
            text = f"{wide} bytes between them stay in the cache"
            self.report.declined.append((middle.where(), text))
            return []
        return chain

    def _obstacle(self, op: Operator) -> str:
        """Why a convolution cannot be in a chain, whichever it is; '' if it can."""
        x, weight = op.operands[:2]
        if {v.dtype for v in (*op.operands, *op.outputs)} != {DTYPE} or flags.fpmath != "strict":
            return f"not all is {DTYPE}"
        if not all(isinstance(n, int) for n in (*x.shape[1:], *weight.shape)):
            return "its sizes are open"
        if weight not in self.fixed:
            return "its weight changes at each step"
        if op.attrs.get("activation") not in ACTIVATIONS:
            return f"its activation is {op.attrs['activation']}"
        windows = windows_of(op)
        beyond = any(max(p) >= k for p, k in zip(windows.pads, windows.kernel, strict=True))
        if beyond or windows.dilation != (1, 1):
            return "windows are dilated, or see nothing of the image"
        return ""

    def _behind(self, middle: Operator) -> Operator | None:
        """The convolution of one tap that alone reads what the depthwise one gives."""
        value = middle.outputs[0]
        users = self.index.users[value]
        if len(users) != 1 or self.index.use_count(value) != 1:
            reason = "what it gives is used by several"
        elif users[0].type not in CONVOLUTIONS or users[0].operands[0] is not value:
            reason = f"what it gives goes to {users[0].type}"
        else:
            reason = self._obstacle(users[0])
            if not reason and not _one_tap(users[0]):
                reason = "the convolution behind it has several taps"
        if not reason:
            return users[0]
        self.report.declined.append((middle.where(), reason))
        return None

    def _may_begin(self, op: Operator) -> bool:
        """Whether a convolution can be the first of a chain."""
        if op.type not in CONVOLUTIONS or self.index.use_count(op.outputs[0]) != 1:
            return False
        if self._obstacle(op) or op.attrs["groups"] != 1 or len(_residual(op)):
            return False
        image = op.operands[0]
        return _one_tap(op) or (image.shape[1] <= FEW and image not in self.index.producer)


def windows_of(op: Operator) -> Windows:
    """Of a convolution whose image has known sizes."""
    how = (op.attrs[name] for name in ("stride", "padding", "dilation"))
    kernel = [n for n in op.operands[1].shape[2:] if isinstance(n, int)]
    return slide(op.operands[0].shape[2:], kernel, *how)


def _residual(op: Operator) -> list[Value]:
    return [v for v in op.inputs[3:] if v is not None]


def _not_depthwise(op: Operator) -> str:
    weight, windows = op.operands[1], windows_of(op)
    if weight.shape[:2] != (op.attrs["groups"], 1) or weight.shape[3] != 3:
        return "not one filter of three columns for each channel"
    if windows.stride[1] > 2 or _residual(op):
        return "strides or a residual"
    return ""


def _one_tap(op: Operator) -> bool:
    windows = windows_of(op)
    plain = all(p == (0, 0) for p in windows.pads)
    return op.attrs["groups"] == 1 and windows.kernel == windows.stride == (1, 1) and plain


def _nbytes(value: Value) -> int:
    """Of one image."""
    return BYTES * prod(n for n in value.shape[1:] if isinstance(n, int))
