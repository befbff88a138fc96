"""Scaled dot-product attention: each query's weighted mean of values, weighted by how well the keys
fit it.

    out = softmax(scale * q @ k.T + mask) @ v                               (Vaswani et al., 2017)

The gradient computes the weights again from `log_sum`, the logarithm of what each softmax was
divided by, so the matrix of queries times keys need never lie in memory (Dao et al., 2022).

A query that may look at no key at all gives zeros, its log_sum is -inf, and it has no gradient.
What is masked has weight 0; a NaN or an infinity there may reach the result or not.

Layouts: "nhtd" is [N, heads, T, d], PyTorch's; "nthd" is [N, T, heads, d], which is what a linear
layer gives once its last axis is split, so that nothing has to be moved. `self_attention` takes
queries, keys and values as one product gives them, [N, T, 3, heads, d].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Shape, Spec
from noria.ops.attention_forms import (
    both_masks,
    position_mask,
    share_heads,
    spelled_attention,
)
from noria.ops.common import need_float, need_rank, require_equal, require_same_shape, shaped
from noria.ops.numeric import cast_like, rounded, single, wide_dtype, widen
from noria.ops.rules import by_decomposition

LAYOUTS = ("nhtd", "nthd")
SWAP = (0, 2, 1, 3)  # the one layout from the other


# ---- checks ------------------------------------------------------------------------------------


def _axes(layout: str) -> tuple[int, int]:
    """The axes of heads and of positions."""
    if layout not in LAYOUTS:
        raise ArgumentError("no such layout", expected=" or ".join(LAYOUTS), got=repr(layout))
    return (1, 2) if layout == "nhtd" else (2, 1)


def _specs(q: Spec, k: Spec, v: Spec, mask: Spec | None, layout: str) -> tuple[Spec, Spec]:
    """Specs of (out, log_sum). Raises for what does not fit."""
    heads, time = _axes(layout)
    need_float(q, k, v)
    for name, x in (("q", q), ("k", k), ("v", v)):
        need_rank(x, 4, what=name)
    for name, x in (("k", k), ("v", v)):
        require_equal(q.shape[0], x.shape[0], f"the batch sizes of q and {name}")
        require_equal(q.shape[heads], x.shape[heads], f"the heads of q and {name}")
    require_equal(q.shape[3], k.shape[3], "the last sizes of q and k")
    require_equal(k.shape[time], v.shape[time], "the positions of k and v")
    _check_mask(mask, (q.shape[0], q.shape[heads], q.shape[time], k.shape[time]))
    out = Spec((*q.shape[:3], v.shape[3]), q.dtype)
    return out, Spec((q.shape[0], q.shape[heads], q.shape[time]), wide_dtype(q.dtype))


def _check_mask(mask: Spec | None, scores: Shape) -> None:
    if mask is None:
        return
    if mask.dtype != "bool":
        need_float(mask)
    if mask.ndim > 4:
        raise ShapeError("a mask has 4 axes or fewer", got=str(mask))
    for size, full in zip(mask.shape[::-1], scores[::-1], strict=False):
        if size != 1:
            require_equal(full, size, "the sizes of [N, heads, queries, keys] and of the mask")


def _check_grad(out: Spec, log_sum: Spec, specs: tuple[Spec, Spec], grad: Spec) -> None:
    require_same_shape(specs[0], out, "out")
    require_same_shape(specs[1], log_sum, "log_sum")
    require_same_shape(specs[0], grad, "grad")


# ---- computing ---------------------------------------------------------------------------------


def _swapped(xp: Any, layout: str, *arrays: Any) -> tuple[Any, ...]:
    """Arrays of a layout as "nhtd", or the way back."""
    return arrays if layout == "nhtd" else tuple(xp.transpose(a, SWAP) for a in arrays)


def _scale(d: int, scale: float | None) -> float:
    return 1 / math.sqrt(max(d, 1)) if scale is None else scale


def _scores(xp: Any, q: Any, k: Any, mask: Any, causal: bool, scale: float | None) -> Any:
    """[N, heads, queries, keys], -inf where masked."""
    scores = xp.matmul(q, xp.swapaxes(k, -1, -2)) * _scale(q.shape[-1], scale)
    if causal:
        later = xp.arange(k.shape[2]) > xp.arange(q.shape[2])[:, None]
        scores = xp.where(later, -xp.inf, scores)
    if mask is None:
        return scores
    return xp.where(mask, scores, -xp.inf) if mask.dtype == bool else scores + mask


def _attend(
    xp: Any, arrays: Sequence[Any], mask: Any, causal: bool, scale: float | None, dtype: Any
) -> tuple[Any, Any]:
    """(out, log_sum) of (q, k, v) in layout "nhtd"; dtype: what weights are rounded to if it is a
    half, where they are multiplied."""
    q, k, v = arrays
    scores = _scores(xp, q, k, mask, causal, scale)
    top = xp.max(scores, axis=-1, keepdims=True, initial=-xp.inf)
    e = xp.exp(scores - xp.where(top == -xp.inf, 0, top))
    total = xp.sum(e, axis=-1, keepdims=True)
    nothing = total == 0
    divisor = xp.where(nothing, 1, total)
    log_sum = xp.where(nothing, -xp.inf, top + xp.log(divisor))
    return xp.matmul(rounded(e, dtype), v) / divisor, log_sum[..., 0].astype(q.dtype)


def _attend_grad(
    xp: Any, arrays: Sequence[Any], mask: Any, causal: bool, scale: float | None, dtype: Any
) -> tuple[Any, ...]:
    """Gradients in q, k, v from (q, k, v, out, log_sum, grad), all in layout "nhtd"; dtype: as of
    `_attend`, also for what comes back to the scores."""
    q, k, v, out, log_sum, g = arrays
    scores = _scores(xp, q, k, mask, causal, scale)
    shift = xp.where(log_sum == -xp.inf, 0, log_sum)
    weights = xp.exp(scores - shift[..., None])
    inner = xp.sum(g * out, axis=-1, keepdims=True)
    slope = weights * (xp.matmul(g, xp.swapaxes(v, -1, -2)) - inner) * _scale(q.shape[-1], scale)
    weights, slope = rounded(weights, dtype), rounded(slope, dtype)
    gv = xp.matmul(xp.swapaxes(weights, -1, -2), g)
    gk = xp.matmul(xp.swapaxes(slope, -1, -2), q)
    return xp.matmul(slope, k), gk, gv


def _operations(
    q: Sequence[int], keys: int, width: int, axes: tuple[int, int], causal: bool, again: float = 0
) -> float:
    """Of the two products and an exp for each score; only of the scores that are looked at.

    q: its shape; axes: of heads and positions; again: further products, as a share of the two
    """
    queries = q[axes[1]]
    scores = queries * keys
    if causal:  # query i sees min(i + 1, keys)
        seen = min(queries, keys)
        scores = seen * (seen + 1) // 2 + (queries - seen) * keys
    return q[0] * q[axes[0]] * scores * ((1 + again) * 2.0 * (q[3] + width) + 20)


# ---- in simpler ops ----------------------------------------------------------------------------


def _apart(layout: str, *values: Any) -> list[Any]:
    """Values of a layout as "nhtd", or the way back."""
    return [v if layout == "nhtd" else o.transpose(v, perm=SWAP) for v in values]


def _emit_scores(q: Any, k: Any, mask: Any, causal: bool, scale: float | None) -> Any:
    d = q.shape[-1]
    if scale is None and not isinstance(d, int):
        raise ArgumentError("the size of a head is not known", got=str(d), hint="give scale=...")
    scores = o.mul(o.matmul(q, k, transpose_y=True), _scale(d, scale))
    if causal:
        query, key = (o.arange(stop=x.shape[2]) for x in (q, k))
        scores = o.where(o.greater(key, o.unsqueeze(query, axis=1)), -math.inf, scores)
    if mask is None:
        return scores
    is_bool = str(mask.dtype) == "bool"
    return o.where(mask, scores, -math.inf) if is_bool else o.add(scores, mask)


def _emit_top(scores: Any) -> Any:
    """A number for each query, near its largest score: softmax does not depend on it."""
    if scores.shape[-1] == 0:
        return o.fill(shape=(*scores.shape[:-1], 1), value=0.0, dtype=scores.dtype)
    top = o.stop_gradient(o.reduce_max(scores, axis=-1, keepdims=True))
    return o.where(o.equal(top, -math.inf), 0.0, top)


def _emit_attend(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float | None) -> Any:
    scores = _emit_scores(q, k, mask, causal, scale)
    top = _emit_top(scores)
    e = o.exp(o.sub(scores, top))
    total = o.reduce_sum(e, axis=-1, keepdims=True)
    nothing = o.equal(total, 0.0)
    divisor = o.where(nothing, 1.0, total)
    log_sum = o.where(nothing, -math.inf, o.add(top, o.log(divisor)))
    return o.div(o.matmul(e, v), divisor), o.squeeze(log_sum, axis=-1)


def _emit_grads(values: Sequence[Any], mask: Any, causal: bool, scale: float | None) -> list[Any]:
    """As `_attend_grad`."""
    q, k, v, out, log_sum, g = values
    scores = _emit_scores(q, k, mask, causal, scale)
    shift = o.where(o.equal(log_sum, -math.inf), 0.0, log_sum)
    weights = o.exp(o.sub(scores, o.unsqueeze(shift, axis=-1)))
    inner = o.reduce_sum(o.mul(g, out), axis=-1, keepdims=True)
    slope = o.mul(weights, o.sub(o.matmul(g, v, transpose_y=True), inner))
    slope = o.mul(slope, _scale(q.shape[-1], scale))
    gk, gv = o.matmul(slope, q, transpose_x=True), o.matmul(weights, g, transpose_x=True)
    return [o.matmul(slope, k), gk, gv]


# ---- queries, keys and values apart ------------------------------------------------------------


@op(outputs=("out", "log_sum"), promote=(0, 1, 2))
def attention(q, k, v, mask=None, *, causal=False, scale=None, layout="nhtd"):
    """(softmax(scale * q @ k.T + mask) @ v, logarithm of each softmax's divisor).

    In layout "nhtd": q [N, heads, Tq, d], k [N, heads, Tk, d], v [N, heads, Tk, e]; out
    [N, heads, Tq, e]; in "nthd" axes 1 and 2 of all four are exchanged. log_sum: [N, heads, Tq],
    float32 for halves.
    mask: broadcasts to [N, heads, Tq, Tk]; bool: where a query may look; float: added.
    causal: a query looks at no key behind its own position.
    scale: None for 1 / sqrt(d).
    (Vaswani et al., 2017; Dao et al., 2022)
    """
    return _specs(q, k, v, mask, layout)


@attention.compute
def _(xp, q, k, v, mask, causal, scale, layout):
    arrays = _swapped(xp, layout, *map(widen, (q, k, v)))
    out, log_sum = _attend(xp, arrays, widen(mask), causal, scale, q.dtype)
    return _swapped(xp, layout, out.astype(q.dtype))[0], log_sum


@attention.work
def _(q, k, v, causal, layout):
    return _operations(q.shape, k.shape[_axes(layout)[1]], v.shape[3], _axes(layout), causal)


@attention.grad
def _(q, k, v, mask, out, log_sum, gs, op, vjp, wanted):
    if _needs_more(op, gs, wanted, 3):
        return by_decomposition(op, gs, vjp)
    gq, gk, gv = o.attention_grad(q, k, v, out, log_sum, gs[0], mask, **op.attrs)
    return {"q": gq, "k": gk, "v": gv}


def _needs_more(op: Operator, gs: Sequence[Any], wanted: Sequence[bool], place: int) -> bool:
    """Is the gradient op not enough: is log_sum used, or the gradient of the mask wanted?"""
    return gs[0] is None or gs[1] is not None or (len(wanted) > place and wanted[place])


@attention.decompose
def _(q, k, v, mask=None, *, causal=False, scale=None, layout="nhtd"):
    a, b, c = _apart(layout, *map(single, (q, k, v)))
    out, log_sum = _emit_attend(a, b, c, _single_mask(mask), causal, scale)
    return cast_like(_apart(layout, out)[0], q), log_sum


def _single_mask(mask: Any) -> Any:
    return None if mask is None else single(mask)


@op(outputs=("gq", "gk", "gv"))
def attention_grad(
    q, k, v, result, log_sum, grad, mask=None, *, causal=False, scale=None, layout="nhtd"
):
    """Gradients of `attention` in q, k and v, from that of its out.

    result, log_sum: what `attention` gives; grad: of the shape of result.
    """
    _check_grad(result, log_sum, _specs(q, k, v, mask, layout), grad)
    return q, k, v


@attention_grad.compute
def _(xp, q, k, v, result, log_sum, grad, mask, causal, scale, layout):
    a, b, c, y, g = _swapped(xp, layout, *map(widen, (q, k, v, result, grad)))
    arrays = a, b, c, y, log_sum, g
    grads = _attend_grad(xp, arrays, widen(mask), causal, scale, q.dtype)
    return _swapped(xp, layout, *(x.astype(q.dtype) for x in grads))


@attention_grad.work
def _(q, k, v, causal, layout):
    axes = _axes(layout)
    return _operations(q.shape, k.shape[axes[1]], v.shape[3], axes, causal, again=1.5)


@attention_grad.decompose
def _(q, k, v, result, log_sum, grad, mask=None, *, causal=False, scale=None, layout="nhtd"):
    a, b, c, y, g = _apart(layout, *map(single, (q, k, v, result, grad)))
    grads = _emit_grads((a, b, c, y, log_sum, g), _single_mask(mask), causal, scale)
    return tuple(cast_like(x, q) for x in _apart(layout, *grads))


@attention_grad.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)


# ---- all of one product ------------------------------------------------------------------------


def _packed_specs(qkv: Spec, mask: Spec | None) -> tuple[Spec, Spec]:
    """As `_specs`."""
    need_rank(qkv, 5, what="qkv")
    require_equal(3, qkv.shape[2], "3 and the third size of qkv")
    one = Spec((*qkv.shape[:2], *qkv.shape[3:]), qkv.dtype)
    return _specs(one, one, one, mask, "nthd")


def _parts(qkv: Any) -> list[Any]:
    """Queries, keys and values of an array, in layout "nthd"."""
    return [qkv[:, :, i] for i in range(3)]


def _emit_parts(qkv: Any) -> list[Any]:
    """The same of a Value, in layout "nhtd"."""
    parts = o.split(single(qkv), num=3, axis=2)
    return _apart("nthd", *(o.squeeze(p, axis=2) for p in parts))


@op(outputs=("out", "log_sum"))
def self_attention(qkv, mask=None, *, causal=False, scale=None):
    """`attention` of queries, keys and values that lie side by side, as one linear layer gives
    them: qkv [N, T, 3, heads, d]; out [N, T, heads, d], log_sum [N, heads, T]."""
    return _packed_specs(qkv, mask)


@self_attention.compute
def _(xp, qkv, mask, causal, scale):
    arrays = _swapped(xp, "nthd", *_parts(widen(qkv)))
    out, log_sum = _attend(xp, arrays, widen(mask), causal, scale, qkv.dtype)
    return xp.transpose(out, SWAP).astype(qkv.dtype), log_sum


@self_attention.work
def _(qkv, causal):
    n, t, _, heads, d = qkv.shape
    return _operations((n, heads, t, d), t, d, (1, 2), causal)


@self_attention.grad
def _(qkv, mask, out, log_sum, gs, op, vjp, wanted):
    if _needs_more(op, gs, wanted, 1):
        return by_decomposition(op, gs, vjp)
    return {"qkv": o.self_attention_grad(qkv, out, log_sum, gs[0], mask, **op.attrs)}


@self_attention.decompose
def _(qkv, mask=None, *, causal=False, scale=None):
    q, k, v = _emit_parts(qkv)
    out, log_sum = _emit_attend(q, k, v, _single_mask(mask), causal, scale)
    return cast_like(o.transpose(out, perm=SWAP), qkv), log_sum


@op
def self_attention_grad(qkv, result, log_sum, grad, mask=None, *, causal=False, scale=None):
    """Gradient of `self_attention` in qkv, from that of its out.

    result, log_sum: what `self_attention` gives; grad: of the shape of result.
    """
    _check_grad(result, log_sum, _packed_specs(qkv, mask), grad)
    return qkv


@self_attention_grad.compute
def _(xp, qkv, result, log_sum, grad, mask, causal, scale):
    q, k, v, y, g = _swapped(xp, "nthd", *_parts(widen(qkv)), widen(result), widen(grad))
    arrays = q, k, v, y, log_sum, g
    grads = _attend_grad(xp, arrays, widen(mask), causal, scale, qkv.dtype)
    return xp.stack(_swapped(xp, "nthd", *grads), axis=2).astype(qkv.dtype)


@self_attention_grad.work
def _(qkv, causal):
    n, t, _, heads, d = qkv.shape
    return _operations((n, heads, t, d), t, d, (1, 2), causal, again=1.5)


@self_attention_grad.decompose
def _(qkv, result, log_sum, grad, mask=None, *, causal=False, scale=None):
    y, g = _apart("nthd", single(result), single(grad))
    values = (*_emit_parts(qkv), y, log_sum, g)
    grads = _emit_grads(values, _single_mask(mask), causal, scale)
    apart = [o.unsqueeze(x, axis=2) for x in _apart("nthd", *grads)]
    return cast_like(o.concat(*apart, axis=2), qkv)


@self_attention_grad.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)


# ---- composed ----------------------------------------------------------------------------------


def scaled_dot_product_attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    window: tuple[int | None, int | None] | None = None,
    softcap: float | None = None,
) -> Any:
    """softmax(scale * q @ k.T + mask) @ v.  (Vaswani et al., 2017)

    q: [N, heads, Tq, d]; k: [N, heads, Tk, d]; v: [N, heads, Tk, e]; out: [N, heads, Tq, e].
    mask: broadcasts to [N, heads, Tq, Tk]; bool: where a query may look; float: added.
    causal: a query looks at no key behind its own position. scale: None for 1 / sqrt(d).
    enable_gqa: k and v have fewer heads, each for a group of neighbouring heads of q.
    window: how many keys before and behind its own position a query looks at, None for all.
    softcap: scores become softcap * tanh(scores / softcap) before the mask is added.
    A query that may look at no key gives zeros.
    Raises ShapeError, DTypeError.
    """
    q, k, v = map(shaped, (q, k, v))
    if enable_gqa:
        k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
    if window is not None or (softcap and causal):
        left, right = window or (None, None)
        places = position_mask(q.shape[2], k.shape[2], causal=causal, left=left, right=right)
        mask, causal = both_masks(mask, places), False
    if softcap:
        return spelled_attention(q, k, v, mask, scale=scale, softcap=softcap)[0]
    return o.attention(q, k, v, mask, causal=causal, scale=scale)[0]
