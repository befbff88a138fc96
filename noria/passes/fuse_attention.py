"""Attention reads its operands where they lie, and one product makes them where that is free."""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.passes.pattern import ANY
from noria.passes.rule import Match, Rule, rewrite

SWAP = (0, 2, 1, 3)  # [N, T, heads, d] from [N, heads, T, d], and back


def fuse_attention(program: Program) -> Program:
    """Transposes before and behind `attention` become its layout, also of its gradient; and three
    linear layers of one value, whose weights no step changes, become one product.

    It runs before `simplify`, which removes the transposes that then meet.

    Given:
        program p {
          input x: float32[N, M, 6]
          state q: float32[6, 6] = fill(value=0.0)
          state k: float32[6, 6] = fill(value=0.0)
          state v: float32[6, 6] = fill(value=0.0)
          linear: float32[N, M, 6] = linear(x, q)
          linear_1: float32[N, M, 6] = linear(x, k)
          linear_2: float32[N, M, 6] = linear(x, v)
          reshape: float32[N, M, 2, 3] = reshape(linear, shape=[N, M, 2, 3])
          reshape_1: float32[N, M, 2, 3] = reshape(linear_1, shape=[N, M, 2, 3])
          reshape_2: float32[N, M, 2, 3] = reshape(linear_2, shape=[N, M, 2, 3])
          out, log_sum: float32[N, M, 2, 3], float32[N, 2, M] = attention(reshape, reshape_1, reshape_2, layout="nthd")
          output y = out
        }
    Result:
        program p {
          input x: float32[N, M, 6]
          state q: float32[6, 6] = fill(value=0.0)
          state k: float32[6, 6] = fill(value=0.0)
          state v: float32[6, 6] = fill(value=0.0)
          concat: float32[18, 6] = concat(q, k, v)
          linear: float32[N, M, 18] = linear(x, concat)
          reshape: float32[N, M, 3, 2, 3] = reshape(linear, shape=[N, M, 3, 2, 3])
          out, log_sum: float32[N, M, 2, 3], float32[N, 2, M] = self_attention(reshape)
          output y = out
        }
    """  # noqa: E501
    return rewrite(program, RULES, "fuse_attention")


def _turned(x: Any) -> Any:
    return o.transpose(x, perm=SWAP)


def _where_it_lies(q: Any, k: Any, v: Any, mask: Any, causal: Any, scale: Any) -> Any:
    out, log_sum = o.attention(q, k, v, mask, causal=causal, scale=scale, layout="nthd")
    return _turned(out), log_sum


def _grad_where_it_lies(
    q: Any, k: Any, v: Any, y: Any, log_sum: Any, g: Any, mask: Any, causal: Any, scale: Any
) -> Any:
    how = {"causal": causal, "scale": scale, "layout": "nthd"}
    grads = o.attention_grad(q, k, v, y, log_sum, _turned(g), mask, **how)
    return tuple(map(_turned, grads))


def _heads(x: Any, weight: Any, bias: Any) -> Any:
    return o.reshape(o.linear(x, weight, bias), shape=ANY)


def _one_product(m: Match) -> str | None:
    for name in ("wq", "wk", "wv"):
        if not m.is_fixed(name):
            return f"{m[name].name} changes, so the weights would have to be joined at each step"
        if m[name].shape != m["wq"].shape:
            return f"{m[name].name} has another shape than {m['wq'].name}"
    if len({m[name] is None for name in ("bq", "bk", "bv")}) > 1:
        return "some have a bias and some have none"
    shape, x = m.of("attention").inputs[0].shape, m["x"]  # type: ignore[union-attr]
    return None if shape[:2] == x.shape[:-1] else "the heads are not the last axis of x"


def _joined(*parts: Any) -> Any:
    return None if parts[0] is None else o.concat(*parts, axis=0)


def _of_one_product(
    x: Any,
    wq: Any,
    bq: Any,
    wk: Any,
    bk: Any,
    wv: Any,
    bv: Any,
    mask: Any,
    causal: Any,
    scale: Any,
    match: Match,
) -> Any:
    heads = match.operator.outputs[0].shape
    qkv = o.linear(x, _joined(wq, wk, wv), _joined(bq, bk, bv))
    qkv = o.reshape(qkv, shape=(*heads[:2], 3, *heads[2:]))
    return o.self_attention(qkv, mask, causal=causal, scale=scale)


RULES = [
    Rule(
        lambda q, k, v, mask=None, *, causal, scale: o.attention(
            _turned(q), _turned(k), _turned(v), mask, causal=causal, scale=scale
        ),
        None,
        _where_it_lies,
        "attention of transposes",
        shared=True,
    ),
    Rule(
        lambda q, k, v, y, log_sum, g, mask=None, *, causal, scale: o.attention_grad(
            _turned(q),
            _turned(k),
            _turned(v),
            _turned(y),
            log_sum,
            g,
            mask,
            causal=causal,
            scale=scale,
        ),
        None,
        _grad_where_it_lies,
        "gradient of attention of transposes",
        shared=True,
    ),
    Rule(
        lambda x, wq, wk, wv, bq=None, bk=None, bv=None, mask=None, *, causal, scale: o.attention(
            _heads(x, wq, bq),
            _heads(x, wk, bk),
            _heads(x, wv, bv),
            mask,
            causal=causal,
            scale=scale,
            layout="nthd",
        ),
        _one_product,
        _of_one_product,
        "linear layers of one value",
    ),
]
