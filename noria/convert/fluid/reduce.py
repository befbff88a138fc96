"""One number out of many; order; running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noria.convert.fluid.handlers import Op, dtype_of, fluid_op
from noria.convert.fluid.shape import at_least_1d
from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import cast_like

REDUCE: dict[str, Callable[..., Any]] = {
    "reduce_all": lambda x, **how: o.reduce_all(x, **how),
    "reduce_any": lambda x, **how: o.reduce_any(x, **how),
    "reduce_max": lambda x, **how: o.reduce_max(x, **how),
    "reduce_mean": lambda x, **how: o.reduce_mean(x, **how),
    "reduce_min": lambda x, **how: o.reduce_min(x, **how),
    "reduce_prod": lambda x, **how: o.reduce_prod(x, **how),
    "reduce_sum": lambda x, **how: o.reduce_sum(x, **how),
    "frobenius_norm": lambda x, **how: o.sqrt(o.reduce_sum(o.square(x), **how)),
    "logsumexp": lambda x, **how: o.logsumexp(x, **how),
}


@fluid_op(*REDUCE)
def reduce(op: Op) -> dict[str, Any]:
    x = op.input("X")
    axes = op.attr("dim", op.attr("axis", (0,)))
    axes = tuple(axes) if isinstance(axes, tuple) else (axes,)
    everything = op.attr("reduce_all", False) or not axes
    keep = bool(op.attr("keep_dim", op.attr("keepdim", False)))
    out = REDUCE[op.type](x, axis=None if everything else axes, keepdims=keep)
    asked = op.attr("out_dtype", -1)
    out = cast_like(out, x) if asked is None or asked < 0 else o.cast(out, dtype=dtype_of(asked))
    return {"Out": at_least_1d(out)}


@fluid_op("cumsum")
def cumsum(op: Op) -> dict[str, Any]:
    x, axis = op.input("X"), op.attr("axis", -1)
    if op.attr("flatten", False):
        x, axis = o.reshape(x, shape=(-1,)), 0
    how = {n: bool(op.attr(n, False)) for n in ("exclusive", "reverse")}
    return {"Out": cast_like(o.cumsum(x, axis=axis, **how), x)}


# ---- order -------------------------------------------------------------------------------------


@fluid_op("arg_max", "arg_min")
def arg_extreme(op: Op) -> dict[str, Any]:
    pick = o.argmax if op.type == "arg_max" else o.argmin
    axis = None if op.attr("flatten", False) else int(op.attr("axis", -1))
    out = pick(op.input("X"), axis=axis, keepdims=bool(op.attr("keepdims", False)))
    code = op.attr("dtype", -1)
    out = out if code is None or code < 0 else o.cast(out, dtype=dtype_of(code))
    return {"Out": out}


@fluid_op("argsort")
def argsort(op: Op) -> dict[str, Any]:
    x, axis = op.input("X"), op.attr("axis", -1)
    ids = o.argsort(x, axis=axis, descending=bool(op.attr("descending", False)))
    return {"Out": o.take_along_axis(x, ids, axis=axis), "Indices": ids}


@fluid_op("top_k", "top_k_v2")
def top_k(op: Op) -> dict[str, Any]:
    x, given = op.input("X"), op.get("K")
    k = op.attr("k", 1) if given is None else int(op.const(given, "k of top_k").reshape(-1)[0])
    axis = op.attr("axis", -1) if op.type == "top_k_v2" else -1
    largest = bool(op.attr("largest", True)) if op.type == "top_k_v2" else True
    values, ids = o.topk(x, k=k, axis=axis, largest=largest)
    return {"Out": values, "Indices": ids}
