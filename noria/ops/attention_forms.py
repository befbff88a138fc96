"""Attention with what models add to it: grouped heads, windows, caches, capped scores, scores as
outputs; rotated positions; attention without a softmax, as a recurrence.

`attention` is the fast op; what it has no word for is put together here of ordinary operators.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

from noria.core.dims import Size
from noria.core.dtypes import is_float
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.join import stack
from noria.ops.loops import scan
from noria.ops.numeric import cast_like, single
from noria.ops.shape import repeat

# ---- heads -------------------------------------------------------------------------------------


def split_heads(x: Any, heads: int) -> Any:
    """[N, T, heads * d] -> [N, heads, T, d]."""
    n, t, width = x.shape
    if heads < 1 or (isinstance(width, int) and width % heads):
        raise ShapeError("heads must divide the last size", got=f"{width} and {heads} heads")
    return o.transpose(o.reshape(x, shape=(n, t, heads, width // heads)), perm=(0, 2, 1, 3))


def merge_heads(x: Any) -> Any:
    """[N, heads, T, d] -> [N, T, heads * d]."""
    n, heads, t, d = x.shape
    return o.reshape(o.transpose(x, perm=(0, 2, 1, 3)), shape=(n, t, heads * d))


def share_heads(x: Any, heads: Size) -> Any:
    """Keys or values [N, groups, T, d] for `heads` queries, of which neighbours share one:
    [N, heads, T, d].  (Ainslie et al., 2023)

    Raises ShapeError if heads is no multiple of groups.
    """
    groups = x.shape[1]
    if groups == heads:
        return x
    if not isinstance(groups, int) or not isinstance(heads, int) or groups < 1 or heads % groups:
        raise ShapeError(
            "the heads of queries must be a multiple of those of keys and values",
            got=f"{heads} and {groups}",
        )
    return repeat(x, heads // groups, axis=1)


# ---- masks -------------------------------------------------------------------------------------


def position_mask(
    queries: Size,
    keys: Size,
    *,
    offset: Any = 0,
    causal: bool = False,
    left: int | None = None,
    right: int | None = None,
) -> Any:
    """Where a query may look, by position: bool [queries, keys], or [N, 1, queries, keys].

    offset: position of the first query among the keys: a size, or integers [N]
    causal: at no key behind its own position; left, right: at so many keys before and behind it
    """
    place = o.unsqueeze(o.add(o.arange(stop=queries), _number(offset)), axis=-1)
    key, conditions = o.arange(stop=keys), []
    if causal:
        conditions.append(o.less_equal(key, place))
    if left is not None:
        conditions.append(o.greater_equal(key, o.sub(place, left)))
    if right is not None:
        conditions.append(o.less_equal(key, o.add(place, right)))
    if not conditions:
        return o.fill(shape=(queries, keys), value=True, dtype="bool")
    return reduce(o.logical_and, conditions)


def _number(offset: Any) -> Any:
    """An offset that broadcasts against [queries]: a scalar, or [N, 1, 1]."""
    if isinstance(offset, int):
        return offset
    if not hasattr(offset, "dtype"):
        return o.dim_value(dim=offset)
    return o.reshape(o.cast(offset, dtype="int64"), shape=(offset.shape[0], 1, 1))


def both_masks(a: Any, b: Any) -> Any:
    """What two masks forbid or add together; each may be None, bool or float."""
    if a is None or b is None:
        return b if a is None else a
    if _is_bool(a) and _is_bool(b):
        return o.logical_and(a, b)
    if _is_bool(a):
        return o.where(a, b, -math.inf)
    return o.where(b, a, -math.inf) if _is_bool(b) else o.add(a, b)


def _is_bool(mask: Any) -> bool:
    return not is_float(str(mask.dtype))


# ---- scores ------------------------------------------------------------------------------------


@dataclass
class Scores:
    """Of an attention with its steps spelled out, all [N, heads, queries, keys].

    raw: scale * q @ k.T; capped: by softcap; biased: with the mask; shares: their softmax
    """

    raw: Any
    capped: Any
    biased: Any
    shares: Any


def spelled_attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    dtype: str | None = None,
    change_scores: Callable[[Any], Any] | None = None,
    change_shares: Callable[[Any], Any] | None = None,
) -> tuple[Any, Scores]:
    """(out, scores) of attention, one operator a step. Shapes and masks are those of `attention`.

    softcap: scores become softcap * tanh(scores / softcap)  (Gemma team, 2024)
    dtype:   in which the softmax is computed
    change_scores, change_shares: functions of the scores with their mask, and of their softmax
    A query that may look at no key gives zeros.
    """
    root = math.sqrt(_scale(q.shape[-1], scale))
    raw = o.matmul(o.mul(q, root), o.mul(k, root), transpose_y=True)
    capped = raw if not softcap else o.mul(o.tanh(o.div(raw, softcap)), softcap)
    biased = capped
    if mask is not None:
        biased = o.where(mask, capped, -math.inf) if _is_bool(mask) else o.add(capped, mask)
    scores = biased if dtype is None else o.cast(biased, dtype=dtype)
    if change_scores is not None:
        scores = change_scores(scores)
    shares = softmax_or_zeros(scores)
    if change_shares is not None:
        shares = change_shares(shares)
    shares = o.cast(shares, dtype=str(v.dtype))
    return o.matmul(shares, v), Scores(raw, capped, biased, shares)


def _scale(d: Any, scale: float | None) -> float:
    if scale is not None:
        if scale < 0:
            raise ArgumentError("scale must not be negative", got=repr(scale))
        return scale
    if not isinstance(d, int):
        raise ArgumentError("the size of a head is not known", got=str(d), hint="give scale=...")
    return 1 / math.sqrt(max(d, 1))


def softmax_or_zeros(scores: Any) -> Any:
    """Softmax along the last axis; zeros where all scores are -inf."""
    nothing = o.equal(o.reduce_max(scores, axis=-1, keepdims=True), -math.inf)
    return o.where(nothing, 0.0, o.softmax(o.where(nothing, 0.0, scores), axis=-1))


# ---- positions by rotation ---------------------------------------------------------------------


def rotary_embedding(
    x: Any,
    cos: Any,
    sin: Any,
    positions: Any = None,
    *,
    interleaved: bool = False,
    rotary_dim: int | None = None,
) -> Any:
    """x [N, T, heads, d] with pairs of its last axis turned by an angle that grows with the
    position.  (Su et al., 2021)

    cos, sin:    of the angles, [N, T, r / 2] or, with positions (integers [N, T]), [P, r / 2]
    interleaved: pairs are neighbours; else element i goes with element i + r / 2
    rotary_dim:  r, how many of d are turned, the first ones; default all
    """
    d = x.shape[-1]
    r = rotary_dim or d
    turned, rest = (x, None) if r == d else o.split(x, sizes=(r, d - r), axis=3)
    if positions is not None:
        cos, sin = (o.gather(table, positions, axis=0) for table in (cos, sin))
    cos, sin = o.unsqueeze(cos, axis=2), o.unsqueeze(sin, axis=2)
    if interleaved:
        pairs = o.reshape(turned, shape=(*x.shape[:3], r // 2, 2))
        a, b = (o.squeeze(p, axis=4) for p in o.split(pairs, num=2, axis=4))
    else:
        a, b = o.split(turned, num=2, axis=3)
    real = o.sub(o.mul(cos, a), o.mul(sin, b))
    imaginary = o.add(o.mul(sin, a), o.mul(cos, b))
    if interleaved:
        out = o.reshape(stack(real, imaginary, axis=4), shape=turned.shape)
    else:
        out = o.concat(real, imaginary, axis=3)
    return out if rest is None else o.concat(out, rest, axis=3)


# ---- without a softmax -------------------------------------------------------------------------

RULES = ("linear", "gated", "delta", "gated_delta")


def linear_attention(
    q: Any,
    k: Any,
    v: Any,
    state: Any = None,
    decay: Any = None,
    beta: Any = None,
    *,
    rule: str = "linear",
    scale: float | None = None,
) -> tuple[Any, Any]:
    """(out, last state): attention as a recurrence over a matrix.

        S = exp(decay) * S + beta * outer(k, v - (exp(decay) * S).T @ k),   out = scale * q @ S

    rule: "linear" without decay and beta, S + outer(k, v) (Katharopoulos et al., 2020); "gated"
    with decay (Yang et al., 2023); "delta" with beta and what is subtracted (Schlag et al., 2021);
    "gated_delta" with all of it (Yang et al., 2024).
    q: [N, heads, T, dk]; k: [N, groups, T, dk]; v: [N, groups, T, dv]; state: [N, groups, dk, dv],
    default zeros; decay: [N, groups, T, dk] or [N, groups, T, 1]; beta: [N, groups or 1, T, 1].
    out: [N, heads, T, dv]. Halves are summed up in float32. scale: None for 1 / sqrt(dk).
    Raises ArgumentError, ShapeError.
    """
    if rule not in RULES:
        raise ArgumentError("no such rule", expected=", ".join(RULES), got=repr(rule))
    gated, corrects = "gated" in rule, "delta" in rule
    for name, value, needed in (("decay", decay, gated), ("beta", beta, corrects)):
        if needed and value is None:
            raise ArgumentError(f"the rule {rule!r} needs {name}")
    n, groups, _, dk = k.shape
    given = {"q": single(q), "k": single(k), "v": single(v)}
    given |= {"decay": o.exp(single(decay))} if gated else {}
    given |= {"beta": single(beta)} if corrects else {}
    if state is None:
        shape = (n, groups, dk, v.shape[3])
        first = o.fill(shape=shape, value=0.0, dtype=str(given["v"].dtype))
    else:
        first = single(state)

    def step(s: Any, at: dict[str, Any]) -> tuple[Any, Any]:
        if gated:
            s = o.mul(s, o.unsqueeze(at["decay"], axis=-1))
        new = at["v"]
        if corrects:
            seen = o.squeeze(o.matmul(o.unsqueeze(at["k"], axis=2), s), axis=2)
            new = o.mul(o.sub(new, seen), at["beta"])
        s = o.add(s, o.mul(o.unsqueeze(at["k"], axis=-1), o.unsqueeze(new, axis=-2)))
        return s, o.matmul(o.unsqueeze(at["q"], axis=2), share_heads(s, q.shape[1]))

    steps = {name: o.transpose(x, perm=(2, 0, 1, 3)) for name, x in given.items()}
    last, outs = scan(step, first, steps)  # outs: [T, N, heads, 1, dv]
    out = o.transpose(o.squeeze(outs, axis=3), perm=(1, 2, 0, 3))
    out = o.mul(out, _scale(dk, scale))
    return cast_like(out, v), cast_like(last, v if state is None else state)
