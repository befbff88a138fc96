"""What handlers of several families share: axes, legacy broadcasting, layouts, pullbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noria.convert.caffe2.handlers import Node
from noria.core.dims import product
from noria.core.errors import ArgumentError
from noria.grad import gradients
from noria.ir.emit import building
from noria.ir.opdef import vocabulary as o
from noria.ops.common import axis_of


def numel(x: Any) -> Any:
    """How many numbers a value holds; may be symbolic."""
    return product(x.shape)


def as_like(op: Node, a: Any, b: Any) -> Any:
    """b as it stands beside a: trailing axes of size 1 where `broadcast` and `axis` say so."""
    if not op.attr("broadcast", 0) or len(b.shape) == 0 or numel(b) == 1:
        return b if numel(b) != 1 or not op.attr("broadcast", 0) else o.reshape(b, shape=())
    axis = op.attr("axis", -1)
    if op.has("axis_str"):
        axis = op.attr("order", "NCHW").index(op.attr("axis_str", ""))
    axis = len(a.shape) - len(b.shape) if axis == -1 else axis
    after = len(a.shape) - axis - len(b.shape)
    if axis < 0 or after < 0:
        raise ArgumentError(
            "the second input does not fit at this axis", expected=str(a), got=f"{b} at {axis}"
        )
    return behind(b, after)


def behind(x: Any, count: int) -> Any:
    """x with `count` further axes of size 1."""
    if count <= 0:
        return x
    return o.unsqueeze(x, axis=tuple(range(len(x.shape), len(x.shape) + count)))


def as_rows(op: Node, x: Any, axis: int | None = None) -> Any:
    """x as a matrix: the axes before `axis` (default the argument, 1) and those from it on."""
    at = op.attr("axis", 1) if axis is None else axis
    at = at + len(x.shape) if at < 0 else at
    if not 0 <= at <= len(x.shape):
        raise ArgumentError("axis is out of range", expected=f"0 to {len(x.shape)}", got=str(at))
    if len(x.shape) == 2 and at == 1:
        return x
    return o.reshape(x, shape=(product(x.shape[:at]), product(x.shape[at:])))


def channels_first(x: Any, last: bool) -> Any:
    """[N, ..., C] as [N, C, ...] where `last`, else x."""
    rank = len(x.shape)
    return o.transpose(x, perm=(0, rank - 1, *range(1, rank - 1))) if last and rank > 2 else x


def channels_last(x: Any, last: bool) -> Any:
    """[N, C, ...] as [N, ..., C] where `last`, else x."""
    rank = len(x.shape)
    return o.transpose(x, perm=(0, *range(2, rank), 1)) if last and rank > 2 else x


def per_channel(vector: Any, x: Any, last: bool) -> Any:
    """A vector [C] as it stands beside x: [C] or [C, 1, ...]."""
    return vector if last else behind(vector, len(x.shape) - 2)


def axis_arg(op: Node, x: Any, default: int, name: str = "axis") -> int:
    """A non-negative axis of x. Raises ArgumentError when it is out of range."""
    return axis_of(op.attr(name, default), len(x.shape))


def as_float(x: Any) -> Any:
    """x as float32 where it is no float already."""
    return x if x.dtype in ("float32", "float64") else o.cast(x, dtype="float32")


def scalar(x: Any) -> Any:
    """A value of one number as a scalar."""
    return x if len(x.shape) == 0 else o.reshape(x, shape=())


def pullback(
    fn: Callable[..., Any], inputs: Sequence[Any], grads: Sequence[Any], wrt: Sequence[int]
) -> list[Any]:
    """Gradients of fn(*inputs) in some of its inputs, given those of its outputs (None: none).

    Where an input has no part in the outputs its gradient is zeros.
    """
    since = len(building().block.operators)
    inputs = [None if v is None else o.identity(v) for v in inputs]
    outs = fn(*inputs)
    outs = outs if isinstance(outs, (tuple, list)) else (outs,)
    chosen = [(y, g) for y, g in zip(outs, grads, strict=False) if g is not None]
    shaped = [o.reshape(g, shape=y.shape) if g.shape != y.shape else g for y, g in chosen]
    wanted = [inputs[i] for i in wrt]
    found = gradients([y for y, _ in chosen], wanted, shaped, since=since)
    return [
        o.fill(shape=v.shape, value=0, dtype=v.dtype) if g is None else g
        for v, g in zip(wanted, found, strict=True)
    ]
