"""Attention and what goes with it in ONNX models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.convert.onnx.tensors import DTYPES
from noria.convert.onnx.types import program_dtype
from noria.core.dtypes import FLOATS
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.attention_forms import (
    both_masks,
    linear_attention,
    merge_heads,
    position_mask,
    rotary_embedding,
    share_heads,
    spelled_attention,
    split_heads,
)

# ---- softmax attention -------------------------------------------------------------------------

MODES = ("raw", "capped", "biased", "shares")  # of what is looked at


@onnx_op("Attention")
def attention(
    node: Node,
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    past_key: Any = None,
    past_value: Any = None,
    lengths: Any = None,
) -> tuple[Any, ...]:
    merged = len(q.shape) == 3
    if merged:
        heads, groups = int(node.need("q_num_heads")), int(node.need("kv_num_heads"))
        q, k, v = split_heads(q, heads), split_heads(k, groups), split_heads(v, groups)
    before: Any = 0
    if past_key is not None:
        before = past_key.shape[2]
        k, v = o.concat(past_key, k, axis=2), o.concat(past_value, v, axis=2)
    out, looked_at = _attended(node, q, k, v, mask, before, lengths)
    return merge_heads(out) if merged else out, k, v, looked_at


def _attended(
    node: Node, q: Any, k: Any, v: Any, mask: Any, before: Any, lengths: Any
) -> tuple[Any, Any]:
    """(result, what is looked at of the scores or None).  before: keys in front of the first."""
    k, v = share_heads(k, q.shape[1]), share_heads(v, q.shape[1])
    scale, softcap = node.attr("scale"), node.attr("softcap", 0.0)
    mask, simple = _mask(node, q.shape[2], k.shape[2], mask, before, lengths)
    if simple and not (softcap or node.wants(3) or node.attr("softmax_precision")):
        return o.attention(q, k, v, mask, causal=_causal(node), scale=scale)[0], None
    if simple and _causal(node):
        mask = both_masks(mask, position_mask(q.shape[2], k.shape[2], causal=True))
    dtype = _softmax_dtype(node)
    out, scores = spelled_attention(q, k, v, mask, scale=scale, softcap=softcap, dtype=dtype)
    mode = node.attr("qk_matmul_output_mode", 0)
    if not 0 <= mode < len(MODES):
        raise FormatError("no such qk_matmul_output_mode", where=str(node), got=repr(mode))
    return out, getattr(scores, MODES[mode])


def _softmax_dtype(node: Node) -> str | None:
    code = node.attr("softmax_precision")
    if not code:
        return None
    dtype = program_dtype(DTYPES[code]) if code in DTYPES else None
    if dtype not in FLOATS:
        raise FormatError("a softmax has a float type", where=str(node), got=repr(code))
    return dtype


def _causal(node: Node) -> bool:
    return bool(node.attr("is_causal", 0))


def _window(node: Node, side: str) -> int | None:
    size = node.attr(f"{side}_window_size", -1)
    return None if size < 0 else size


def _mask(
    node: Node, queries: Any, keys: Any, mask: Any, before: Any, lengths: Any
) -> tuple[Any, bool]:
    """(mask, whether `causal` has to be added to it and means what it does in noria)."""
    mask = _wide_enough(mask, keys)
    left, right = (_window(node, side) for side in ("left", "right"))
    if lengths is not None:
        inside = o.less(o.arange(stop=keys), o.unsqueeze(lengths, axis=(1, 2, 3)))
        mask = both_masks(mask, inside)
        before = o.sub(o.cast(lengths, dtype="int64"), o.dim_value(dim=queries))
    plain = left is None and right is None
    if plain and (not _causal(node) or (isinstance(before, int) and before == 0)):
        return mask, True
    by_place = position_mask(
        queries, keys, offset=before, causal=_causal(node), left=left, right=right
    )
    if len(by_place.shape) == 3:
        by_place = o.unsqueeze(by_place, axis=1)
    return both_masks(mask, by_place), False


def _wide_enough(mask: Any, keys: Any) -> Any:
    """A mask that ends before the keys do forbids the rest."""
    if mask is None or mask.shape[-1] == keys or mask.shape[-1] == 1:
        return mask
    more = keys - mask.shape[-1]
    pads = ((0, 0),) * (len(mask.shape) - 1) + ((0, more),)
    if str(mask.dtype) == "bool":
        wide = o.pad(o.cast(mask, dtype="int32"), pads=pads)
        return o.greater(wide, 0)
    return o.pad(mask, pads=pads, value=-float("inf"))


@onnx_op("FlexAttention", domain="ai.onnx.preview")
def flex_attention(node: Node, q: Any, k: Any, v: Any) -> Any:
    dtype = _softmax_dtype(node)
    if dtype is None:
        dtype = "float64" if str(q.dtype) == "float64" else "float32"
    k, v = (share_heads(x, q.shape[1]) for x in (k, v))
    return spelled_attention(
        q,
        k,
        v,
        scale=node.attr("scale"),
        dtype=dtype,
        change_scores=_change(node, "score_mod"),
        change_shares=_change(node, "prob_mod"),
    )[0]


def _change(node: Node, name: str) -> Callable[[Any], Any] | None:
    """A nested graph as a function of one value, None where there is none."""
    if name not in node.graphs:
        return None
    return lambda x: node.graph(name)(x)[0]


# ---- without a softmax -------------------------------------------------------------------------


@onnx_op("LinearAttention")
def linear(
    node: Node,
    q: Any,
    k: Any,
    v: Any,
    past_state: Any = None,
    decay: Any = None,
    beta: Any = None,
) -> tuple[Any, Any]:
    heads, groups = int(node.need("q_num_heads")), int(node.need("kv_num_heads"))
    rule = node.attr("update_rule", "gated_delta")
    if beta is not None:
        beta = split_heads(beta, beta.shape[2])
    out, state = linear_attention(
        split_heads(q, heads),
        split_heads(k, groups),
        split_heads(v, groups),
        past_state,
        None if decay is None else split_heads(decay, groups),
        beta,
        rule=rule,
        scale=node.attr("scale", 0.0) or None,
    )
    return merge_heads(out), state


@onnx_op("CausalConvWithState")
def causal_conv(
    node: Node, x: Any, weight: Any, bias: Any = None, past: Any = None
) -> tuple[Any, Any]:
    """Depthwise over the last k steps, of which past_state gives those before the first."""
    n, channels, _ = x.shape
    kept = weight.shape[2] - 1
    if past is None:
        past = o.fill(shape=(n, channels, kept), value=0.0, dtype=str(x.dtype))
    whole = o.concat(past, x, axis=2)
    y = o.conv1d(whole, weight, groups=channels)
    if bias is not None:
        y = o.add(y, o.unsqueeze(bias, axis=1))
    name = node.attr("activation", "none")
    if name not in ("none", "silu", "swish"):
        raise FormatError(
            "no such activation", where=str(node), expected="none, silu or swish", got=name
        )
    state = o.slice(whole, axes=(2,), starts=(x.shape[2],), stops=(None,))
    return y if name == "none" else o.silu(y), state


# ---- positions, gates --------------------------------------------------------------------------


@onnx_op("RotaryEmbedding")
def rotary(node: Node, x: Any, cos: Any, sin: Any, positions: Any = None) -> Any:
    by_heads = len(x.shape) == 4
    if by_heads:
        rows = o.transpose(x, perm=(0, 2, 1, 3))
    else:
        heads = int(node.need("num_heads"))
        if isinstance(x.shape[2], int) and (heads < 1 or x.shape[2] % heads):
            raise FormatError("num_heads must divide the last size", where=str(node), got=str(x))
        rows = o.reshape(x, shape=(*x.shape[:2], heads, x.shape[2] // heads))
    out = rotary_embedding(
        rows,
        cos,
        sin,
        positions,
        interleaved=bool(node.attr("interleaved", 0)),
        rotary_dim=node.attr("rotary_embedding_dim", 0) or None,
    )
    return o.transpose(out, perm=(0, 2, 1, 3)) if by_heads else o.reshape(out, shape=x.shape)


@onnx_op("Swish")
def swish(node: Node, x: Any) -> Any:
    return _swish(x, node.attr("alpha", 1.0))


@onnx_op("SwiGLU")
def swiglu(node: Node, a: Any, b: Any) -> Any:
    return o.mul(_swish(a, node.attr("alpha", 1.0)), b)


def _swish(x: Any, alpha: float) -> Any:
    return o.silu(x) if alpha == 1 else o.mul(x, o.sigmoid(o.mul(x, alpha)))
