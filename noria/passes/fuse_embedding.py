"""Look-ups together with the sum, mean or maximum of the rows of each bag."""

from __future__ import annotations

import inspect
from typing import Any

from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ops.common import axes_of
from noria.passes.pattern import ANY
from noria.passes.rule import Match, Rule, rewrite


def fuse_embedding(program: Program) -> Program:
    """Rows that are looked up only to be pooled become one `fused_bag`, which keeps none of them.
    The gradient of a bag is one row for all its ids, which is not copied for each of them.

    Given:
        program p {
          input ids: int64[N, 4]
          input g: float32[N, 3]
          input lr: float32[]
          state w: float32[9, 3] = fill(value=0.0) trainable
          embedding: float32[N, 4, 3] = embedding(w, ids, sparse=true)
          reduce_sum: float32[N, 3] = reduce_sum(embedding, axis=1)
          unsqueeze: float32[N, 1, 3] = unsqueeze(g, axis=(1,))
          broadcast_to: float32[N, 4, 3] = broadcast_to(unsqueeze, shape=[N, 4, 3])
          sgd_update_rows: float32[9, 3] = sgd_update_rows(w, ids, broadcast_to, lr)
          output y = reduce_sum
          update w = sgd_update_rows
        }
    Result:
        program p {
          input ids: int64[N, 4]
          input g: float32[N, 3]
          input lr: float32[]
          state w: float32[9, 3] = fill(value=0.0) trainable
          fused_bag: float32[N, 3] = fused_bag(w, ids)
          unsqueeze: float32[N, 1, 3] = unsqueeze(g, axis=(1,))
          reshape: float32[N, 3] = reshape(unsqueeze, shape=[N, 3])
          sgd_update_rows: float32[9, 3] = sgd_update_rows(w, ids, reshape, lr)
          output y = fused_bag
          update w = sgd_update_rows
        }
    """
    return rewrite(program, RULES, "fuse_embedding")


# ---- look-ups ----------------------------------------------------------------------------------


def _rows(table: Any, ids: Any) -> Any:
    return o.embedding(table, ids, padding_idx=ANY, sparse=ANY)


def _along_bags(m: Match) -> str | None:
    """The axis reduced is the last one of ids."""
    ids = m["ids"]
    rank = ids.ndim + m["table"].ndim - 1
    if axes_of(m["axis"], rank) != (ids.ndim - 1,):
        return f"it is not reduced along the last axis of {ids.name} alone"
    return None


def _one_weight_each(m: Match) -> str | None:
    ids, weights = m["ids"], m["weights"]
    behind = axes_of(m["behind"], ids.ndim + 1)
    if weights.shape != ids.shape or behind != (ids.ndim,) or m["table"].ndim != 2:
        return f"{weights.name} is not one weight for each row"
    return None


def _weighted(m: Match) -> str | None:
    return _one_weight_each(m) or _along_bags(m)


def _packed(m: Match) -> str | None:
    return None if m["ids"].ndim == 1 else f"{m['ids'].name} is not packed"


def _weighted_packed(m: Match) -> str | None:
    return _one_weight_each(m) or _packed(m)


def _pool(mode: str) -> Rule:
    def pattern(table: Any, ids: Any, *, axis: Any) -> Any:
        return getattr(o, f"reduce_{mode}")(_rows(table, ids), axis=axis)

    def replacement(table: Any, ids: Any) -> Any:
        return o.fused_bag(table, ids, mode=mode)

    return Rule(pattern, _along_bags, replacement, f"{mode} of rows")


def _pool_packed(mode: str) -> Rule:
    def pattern(table: Any, ids: Any, splits: Any) -> Any:
        return getattr(o, f"sequence_{mode}")(_rows(table, ids), splits)

    def replacement(table: Any, ids: Any, splits: Any) -> Any:
        return o.fused_bag(table, ids, splits, mode=mode)

    return Rule(pattern, _packed, replacement, f"{mode} of packed rows")


# ---- updates -----------------------------------------------------------------------------------

UPDATES = (
    "sgd_update_rows",
    "momentum_update_rows",
    "adagrad_update_rows",
    "adam_update_rows",
    "rmsprop_update_rows",
    "merge_rows",
)


def _one_for_all(m: Match) -> str | None:
    """The row is the same for all ids of ids[i]."""
    ids, rows, spread = m["ids"], m["rows"], m.of("broadcast_to").outputs[0]
    n, kept = ids.ndim, _own_axes(m)
    if spread.shape[:n] != ids.shape or rows.ndim != spread.ndim:
        return f"{spread.name} has not one row for each id"
    if rows.shape[n:] != spread.shape[n:] or rows.shape[:kept] != ids.shape[:kept] or kept == n:
        return f"{rows.name} is not one row for all ids of a bag"
    return None


def _at(m: Match) -> int:
    """Which input the rows are."""
    return lookup(m.operator.type).names.index("rows")


def _own_axes(m: Match) -> int:
    """The axes of ids along which rows differ."""
    kept: int = m["ids"].ndim
    while kept > 0 and kept <= m["rows"].ndim and m["rows"].shape[kept - 1] == 1:
        kept -= 1
    return kept


def _one_row(match: Match) -> Any:
    operator, ids, rows = match.operator, match["ids"], match["rows"]
    shape = (*ids.shape[: _own_axes(match)], *rows.shape[ids.ndim :])
    inputs = list(operator.inputs)
    inputs[_at(match)] = o.reshape(rows, shape=shape)
    return lookup(operator.type)(*inputs, **operator.attrs)


def _update(kind: str) -> Rule:
    """A pattern whose arguments are those of the op."""
    definition = lookup(kind)

    def pattern(*values: Any) -> Any:
        spread = [
            o.broadcast_to(v, shape=ANY) if n == "rows" else v
            for n, v in zip(definition.names, values, strict=True)
        ]
        return definition(*spread, **dict.fromkeys(definition.attrs, ANY))

    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD
    arguments = [inspect.Parameter(n, kinds) for n in definition.names]
    pattern.__signature__ = inspect.Signature(arguments)  # type: ignore[attr-defined]
    return Rule(pattern, _one_for_all, _one_row, f"one row a bag in {kind}", shared=True)


RULES = [
    *(_pool(mode) for mode in ("sum", "mean", "max")),
    *(_pool_packed(mode) for mode in ("sum", "max")),
    Rule(
        lambda table, ids, weights, *, axis, behind: o.reduce_sum(
            o.mul(_rows(table, ids), o.unsqueeze(weights, axis=behind)), axis=axis
        ),
        _weighted,
        lambda table, ids, weights: o.fused_bag(table, ids, None, weights),
        "sum of weighted rows",
    ),
    Rule(
        lambda table, ids, splits, weights, *, behind: o.sequence_sum(
            o.mul(_rows(table, ids), o.unsqueeze(weights, axis=behind)), splits
        ),
        _weighted_packed,
        lambda table, ids, splits, weights: o.fused_bag(table, ids, splits, weights),
        "sum of weighted packed rows",
    ),
    *(_update(kind) for kind in UPDATES),
]
