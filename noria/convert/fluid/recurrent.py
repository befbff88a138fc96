"""Recurrent layers and cells. Fluid's gates are in another order than noria's, and its weights are
[H, gates * H], those of a GRU two matrices one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from noria.convert.fluid.dense import in_weights
from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.join import stack
from noria.ops.packed import row_count
from noria.ops.random import dropout
from noria.ops.recurrent_forms import Activation, gru_form, lstm_form
from noria.ops.sequence import regular_splits, sequence_lengths
from noria.ops.steps import scan_steps, state_value

# ---- what they share ---------------------------------------------------------------------------


def reordered(x: Any, order: Sequence[int], axis: int) -> Any:
    """The equal parts of an axis in another order."""
    parts = o.split(x, num=len(order), axis=axis)
    return o.concat(*(parts[k] for k in order), axis=axis)


LSTM_ORDER = (1, 2, 0, 3)  # Fluid's candidate, input, forget, output as i, f, g, o


def _flat(x: Any) -> Any:
    return o.reshape(x, shape=(-1,))


def _front(x: Any, begin: Any, end: Any, axis: int = 0) -> Any:
    return o.slice(x, axes=(axis,), starts=(begin,), stops=(end,))


def _bias_and_peepholes(bias: Any, size: Any, peeps: bool) -> tuple[Any, Any]:
    """[1, 4H] or, with peepholes, [1, 7H] -> bias [4H] in Fluid's order, peepholes [3, H]."""
    if bias is None:
        return None, None
    bias = _flat(bias)
    peepholes = o.reshape(_front(bias, 4 * size, 7 * size), shape=(3, size)) if peeps else None
    return _front(bias, 0, 4 * size), peepholes


def batch_order(row_splits: Any, total: Any, reverse: bool) -> Any:
    """The packed positions as Fluid's kernels see them: first steps of all rows, longest row first,
    then second steps, and so on. int64 [total]; reverse: from the last step of each row."""
    rows = row_count(row_splits)
    lengths = sequence_lengths(row_splits)
    rank = o.argsort(o.argsort(lengths, descending=True))
    ids = o.sequence_ids(row_splits, total=total)
    starts = o.gather(row_splits, ids, axis=0)
    place = o.sub(o.arange(stop=total), starts)
    if reverse:
        place = o.sub(o.sub(o.gather(lengths, ids, axis=0), 1), place)
    count = rows if isinstance(rows, int) else o.dim_value(dim=rows)
    return o.argsort(o.add(o.mul(place, count), o.gather(rank, ids, axis=0)))


def _batched(op: Op, values: dict[str, Any], splits: Any, reverse: bool) -> dict[str, Any]:
    """Intermediate results in the order of the kernels, those of them that are asked for."""
    wanted = {slot: fn for slot, fn in values.items() if slot in op.outputs}
    if not wanted:
        return {}
    arrays = {slot: fn() for slot, fn in wanted.items()}
    total = next(iter(arrays.values())).shape[0]
    order = batch_order(splits, total, reverse)
    return {slot: o.gather(x, order, axis=0) for slot, x in arrays.items()}


# ---- LSTM --------------------------------------------------------------------------------------


def _lstm_activations(op: Op, x: Any) -> tuple[Activation, ...]:
    names = ("gate_activation", "candidate_activation", "cell_activation")
    return tuple(
        _activation(op.attr(name, default), x)
        for name, default in zip(names, ("sigmoid", "tanh", "tanh"), strict=True)
    )


def _activation(name: str, x: Any) -> Activation:
    """Fluid bounds what goes into a sigmoid, and so never gives 1: 2e-6 less, which only numbers
    of double precision are asked to show."""
    if name != "sigmoid" or str(x.dtype) != "float64":
        return name
    return _bounded_sigmoid


def _bounded_sigmoid(x: Any) -> Any:
    return o.sigmoid(o.clip(x, low=-40.0, high=13.0))


def _function(activation: Activation) -> Callable[[Any], Any]:
    return getattr(o, activation) if isinstance(activation, str) else activation


def _run_lstm(
    op: Op, x: Any, weight: Any, splits: Any, *, biased: bool = False, **form: Any
) -> tuple[Any, Any]:
    """x [T, 4H] and weight [P, 4H] in Fluid's order; biased: whether x has its bias already."""
    size = weight.shape[1] // 4
    bias, peepholes = _bias_and_peepholes(op.get("Bias"), size, op.attr("use_peepholes", True))
    if bias is not None and not biased:
        x = o.add(x, bias)
    weight = o.transpose(reordered(weight, LSTM_ORDER, 1), perm=(1, 0))
    h0, c0 = op.get("H0"), op.get("C0")
    return lstm_form(
        in_weights(op, x, lambda v: reordered(v, LSTM_ORDER, -1)),
        weight,
        splits,
        h0,
        c0,
        peepholes=peepholes,
        activations=_lstm_activations(op, x),
        reverse=op.attr("is_reverse", False),
        **form,
    )


def _clip(bound: float | None) -> float | None:
    """Fluid does not clip at 0 or less."""
    return bound if bound is not None and bound > 0 else None


@fluid_op("lstm")
def lstm(op: Op) -> dict[str, Any]:
    splits = op.need_lod("Input")
    h, c = _run_lstm(op, op.input("Input"), op.input("Weight"), splits[-1])
    return {"Hidden": Lod(h, splits), "Cell": Lod(c, splits)}


@fluid_op("lstmp")
def lstmp(op: Op) -> dict[str, Any]:
    splits = op.need_lod("Input")
    h, c = _run_lstm(
        op,
        op.input("Input"),
        op.input("Weight"),
        splits[-1],
        projection=o.transpose(op.input("ProjWeight"), perm=(1, 0)),
        projection_activation=op.attr("proj_activation", "tanh"),
        cell_clip=_clip(op.attr("cell_clip")),
        projection_clip=_clip(op.attr("proj_clip")),
    )
    return {"Projection": Lod(h, splits), "Cell": Lod(c, splits)}


@fluid_op("fusion_lstm")
def fusion_lstm(op: Op) -> dict[str, Any]:
    splits = op.need_lod("X")
    x = o.matmul(op.input("X"), op.input("WeightX"))
    h, c = _run_lstm(op, x, op.input("WeightH"), splits[-1])
    return {"Hidden": Lod(h, splits), "Cell": Lod(c, splits)}


@fluid_op("fused_embedding_fc_lstm")
def fused_embedding_fc_lstm(op: Op) -> dict[str, Any]:
    """The table holds what its words give to the gates, biases included: [V, 4H]."""
    splits = op.need_lod("Ids")
    table, weight = op.input("Embeddings"), op.input("WeightH")
    x = o.gather(table, _flat(op.input("Ids")), axis=0)
    h, c = _run_lstm(op, x, weight, splits[-1], biased=True)
    return {"Hidden": Lod(h, splits), "Cell": Lod(c, splits)}


@fluid_op("lstm_unit")
def lstm_unit(op: Op) -> dict[str, Any]:
    """One step; the gates are input, forget, output, candidate."""
    i, f, out, g = o.split(op.input("X"), num=4, axis=1)
    f = o.add(f, op.attr("forget_bias", 0.0))
    c = o.mul(o.sigmoid(f), op.input("C_prev"))
    c = o.add(c, o.mul(o.sigmoid(i), o.tanh(g)))
    return {"C": c, "H": o.mul(o.sigmoid(out), o.tanh(c))}


# ---- GRU ---------------------------------------------------------------------------------------


def _gru_weights(weight: Any) -> tuple[Any, Any]:
    """[H, 3H], which is [H, 2H] of update and reset, then [H, H] of the candidate, in memory."""
    size = weight.shape[0]
    flat = _flat(weight)
    gates = o.reshape(_front(flat, 0, 2 * size * size), shape=(size, 2 * size))
    new = o.reshape(_front(flat, 2 * size * size, 3 * size * size), shape=(size, size))
    return gates, new


def _reset_first(x: Any, axis: int, keeps: bool) -> Any:
    """Update, reset, candidate -> r, z, n of noria, where z is the share of h that stays."""
    u, r, c = o.split(x, num=3, axis=axis)
    return o.concat(r, u if keeps else o.neg(u), c, axis=axis)


def _run_gru(op: Op, x: Any, weight: Any, splits: Any) -> Any:
    """h of x [T, 3H], bias included, in Fluid's order."""
    activations = _gru_activations(op, x)
    origin = op.attr("origin_mode", False)
    turns = not origin and activations == ("sigmoid", "tanh")  # 1 - sigmoid(u) is sigmoid(-u)
    rows = o.transpose(o.concat(*_gru_weights(weight), axis=1), perm=(1, 0))
    return gru_form(
        in_weights(op, x, lambda v: _reset_first(v, -1, not turns)),
        _reset_first(rows, 0, not turns),
        splits,
        None,
        op.get("H0"),
        reset_after=False,
        keeps=origin or turns,
        activations=activations,
        reverse=op.attr("is_reverse", False),
    )


def _gru_activations(op: Op, x: Any) -> tuple[Activation, Activation]:
    gate, new = op.attr("gate_activation", "sigmoid"), op.attr("activation", "tanh")
    return _activation(gate, x), _activation(new, x)


def _with_bias(op: Op, x: Any) -> Any:
    bias = op.get("Bias")
    return x if bias is None else o.add(x, _flat(bias))


def _gru_gates(
    x: Any, before: Any, weight: Any, activations: Sequence[Callable[[Any], Any]]
) -> tuple[Any, Any]:
    """(update, reset and candidate [T, 3H], what is left of h after the reset [T, H])."""
    of_gates, of_new = _gru_weights(weight)
    size = weight.shape[0]
    x_gates, x_new = o.split(x, sizes=(2 * size, size), axis=1)
    gates = activations[0](o.add(x_gates, o.matmul(before, of_gates)))
    left = o.mul(o.split(gates, num=2, axis=1)[1], before)
    new = activations[1](o.add(x_new, o.matmul(left, of_new)))
    return o.concat(gates, new, axis=1), left


@fluid_op("gru")
def gru(op: Op) -> dict[str, Any]:
    splits, weight = op.need_lod("Input"), op.input("Weight")
    x = _with_bias(op, op.input("Input"))
    h, reverse = _run_gru(op, x, weight, splits[-1]), op.attr("is_reverse", False)
    activations = [_function(a) for a in _gru_activations(op, x)]

    def gates() -> tuple[Any, Any]:
        before = o.sequence_shift(h, splits[-1], op.get("H0"), reverse=reverse)
        return _gru_gates(x, before, weight, activations)

    kept = {
        "BatchGate": lambda: gates()[0],
        "BatchResetHiddenPrev": lambda: gates()[1],
        "BatchHidden": lambda: h,
    }
    return {"Hidden": Lod(h, splits), **_batched(op, kept, splits[-1], reverse)}


@fluid_op("fusion_gru")
def fusion_gru(op: Op) -> dict[str, Any]:
    splits = op.need_lod("X")
    x = _with_bias(op, o.matmul(op.input("X"), op.input("WeightX")))
    return {"Hidden": Lod(_run_gru(op, x, op.input("WeightH"), splits[-1]), splits)}


_BY_NUMBER = ("identity", "sigmoid", "tanh", "relu")


def _by_number(number: int) -> str:
    if not 0 <= number < len(_BY_NUMBER):
        raise ArgumentError("no such activation", expected="0, 1, 2 or 3", got=str(number))
    return _BY_NUMBER[number]


@fluid_op("gru_unit")
def gru_unit(op: Op) -> dict[str, Any]:
    x, h = _with_bias(op, op.input("Input")), op.input("HiddenPrev")
    numbers = op.attr("gate_activation", 1), op.attr("activation", 2)
    activations = [_function(_activation(_by_number(n), x)) for n in numbers]
    gates, left = _gru_gates(x, h, op.input("Weight"), activations)
    u, _, c = o.split(gates, num=3, axis=1)
    old, new = (h, c) if op.attr("origin_mode", False) else (c, h)
    hidden = o.add(o.mul(u, old), o.mul(o.sub(1.0, u), new))
    return {"Gate": gates, "ResetHiddenPrev": left, "Hidden": hidden}


# ---- attention over the row at each step -------------------------------------------------------


@fluid_op("attention_lstm")
def attention_lstm(op: Op) -> dict[str, Any]:
    """Each step takes a weighted mean of the whole row, weighted by what c makes of each step."""
    x, splits = op.input("X"), op.need_lod("X")
    row_splits, total = splits[-1], x.shape[0]
    weight, bias = op.input("LSTMWeight"), _flat(op.input("LSTMBias"))
    size, width = weight.shape[1] // 4, x.shape[1]
    attend = _flat(op.input("AttentionWeight"))
    of_x, of_c = _front(attend, 0, width), _front(attend, width, width + size)
    scores = o.matmul(x, of_x)
    if op.get("AttentionBias") is not None:
        scores = o.add(scores, _flat(op.input("AttentionBias")))
    gate, candidate, cell = map(_function, _lstm_activations(op, x))
    ids = o.sequence_ids(row_splits, total=total)

    def step(mine: Any, h: Any, c: Any) -> Any:
        score = _scalar_layer(op, o.relu(o.add(scores, o.matmul(c, of_c))))
        share = o.softmax(o.where(o.equal(ids, mine), score, -float("inf")), axis=0)
        z = o.matmul(o.concat(h, o.matmul(share, x), axis=0), weight)
        f, i, out, g = o.split(o.add(z, bias), num=4, axis=0)
        c = o.add(o.mul(gate(f), c), o.mul(gate(i), candidate(g)))
        h = o.mul(gate(out), cell(c))
        return (h, c), (h, c)

    states = [state_value(op.get(slot), row_splits, size, x.dtype) for slot in ("H0", "C0")]
    h, c = scan_steps(step, row_splits, [ids], states, False)
    return {"Hidden": Lod(h, splits), "Cell": Lod(c, splits)}


def _scalar_layer(op: Op, score: Any) -> Any:
    """The second layer of the attention, of one weight and one bias, if there is one."""
    if op.get("AttentionScalar") is None:
        return score
    score = o.mul(score, _flat(op.input("AttentionScalar")))
    if op.get("AttentionScalarBias") is not None:
        score = o.add(score, _flat(op.input("AttentionScalarBias")))
    return o.relu(score)


# ---- cuDNN's layout ----------------------------------------------------------------------------


@fluid_op("cudnn_lstm")
def cudnn_lstm(op: Op) -> dict[str, Any]:
    """Stacked layers over [T, N, in]; all weights are one vector: for each layer and direction the
    matrices of i, f, g, o of the input, then those of h; after all of them the biases likewise."""
    x, flat = op.input("Input"), _flat(op.input("W"))
    steps, rows = x.shape[0], x.shape[1]
    h0, c0 = op.input("InitH"), op.input("InitC")
    size, layers = h0.shape[2], op.attr("num_layers", 1)
    directions = 2 if op.attr("is_bidirec", False) else 1
    splits = regular_splits(rows, steps)
    packed = o.reshape(o.transpose(x, perm=(1, 0, 2)), shape=(rows * steps, x.shape[2]))
    widths = [
        x.shape[2] if k < directions else directions * size for k in range(layers * directions)
    ]
    parts = _cudnn_parts(flat, widths, size)
    ends: list[list[Any]] = [[], []]
    for layer in range(layers):
        outs = []
        for direction in range(directions):
            k = layer * directions + direction
            of_x, of_h, bias = parts[k]
            states = [o.gather(s, np.int64(k), axis=0) for s in (h0, c0)]
            reverse = bool(direction)
            gates = o.linear(packed, of_x, bias)
            run = o.lstm(gates, of_h, splits, *states, reverse=reverse)[:2]
            outs.append(run[0])
            for kept, values, start in zip(ends, run, states, strict=True):
                kept.append(o.sequence_end(values, splits, start, first=reverse))
        packed = outs[0] if directions == 1 else o.concat(*outs, axis=1)
        if layer + 1 < layers and op.attr("dropout_prob", 0.0) and not op.attr("is_test", False):
            packed = dropout(packed, p=op.attr("dropout_prob", 0.0))
    out = o.reshape(packed, shape=(rows, steps, directions * size))
    return {
        "Out": o.transpose(out, perm=(1, 0, 2)),
        "last_h": stack(*ends[0]),
        "last_c": stack(*ends[1]),
    }


def _cudnn_parts(flat: Any, widths: Sequence[Any], size: Any) -> list[tuple[Any, Any, Any]]:
    """(weight of x, weight of h, sum of both biases) of each layer and direction."""
    parts, at = [], 0
    for width in widths:
        of_x = o.reshape(_front(flat, at, at + 4 * size * width), shape=(4 * size, width))
        at += 4 * size * width
        of_h = o.reshape(_front(flat, at, at + 4 * size * size), shape=(4 * size, size))
        at += 4 * size * size
        parts.append((of_x, of_h))
    found = []
    for of_x, of_h in parts:
        bias = o.add(_front(flat, at, at + 4 * size), _front(flat, at + 4 * size, at + 8 * size))
        found.append((of_x, of_h, bias))
        at += 8 * size
    return found
