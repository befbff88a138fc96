"""Losses of Fluid: those of `criterion.py`, in Fluid's shapes (an axis of size 1 stays)."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.handlers import Op, fluid_op
from noria.core.dims import product
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops import criterion, criterion_pairs
from noria.ops.common import axis_of
from noria.ops.criterion import TINY
from noria.ops.numeric import cast_like, spec_of

FLOOR = -1e20  # Fluid's logarithm of 0
Result = dict[str, Any]


def _vector(x: Any) -> Any:
    """A scalar as Fluid writes it: [1]."""
    return o.reshape(x, shape=(1,))


def _labels(label: Any, x: Any, axis: int = -1) -> Any:
    """Classes without the axis of size 1 that Fluid may keep."""
    same_rank = spec_of(label).ndim == spec_of(x).ndim
    return o.squeeze(label, axis=axis) if same_rank else label


# ---- classes -----------------------------------------------------------------------------------


@fluid_op("cross_entropy")
def cross_entropy(op: Op) -> Result:
    x, label = op.input("X"), op.input("Label")
    if op.attr("soft_label", False):
        losses = criterion.prob_cross_entropy(x, label)
        return {"Y": o.unsqueeze(losses, axis=-1)}
    return {"Y": _hard(op, x, label)[0]}


@fluid_op("cross_entropy2")
def cross_entropy2(op: Op) -> Result:
    losses, match = _hard(op, op.input("X"), op.input("Label"))
    return {"Y": losses, "MatchX": match}


def _hard(op: Op, x: Any, label: Any) -> tuple[Any, Any]:
    """(the losses, the probabilities of the labels), both in the shape of the label."""
    keep = spec_of(label).ndim == spec_of(x).ndim
    classes = _labels(label, x)
    ignored = o.equal(classes, op.attr("ignore_index", -100))
    safe = o.unsqueeze(o.where(ignored, 0, classes), axis=-1)
    match = o.take_along_axis(x, safe, axis=-1)
    dropped = o.unsqueeze(ignored, axis=-1)
    logarithm = o.maximum(o.log(o.where(dropped, 1.0, match)), FLOOR)
    found = o.neg(logarithm), o.where(dropped, 0.0, match)
    return found if keep else (o.squeeze(found[0], axis=-1), o.squeeze(found[1], axis=-1))


@fluid_op("softmax_with_cross_entropy")
def softmax_with_cross_entropy(op: Op) -> Result:
    x, label = op.input("Logits"), op.input("Label")
    at = axis_of(op.attr("axis", -1), spec_of(x).ndim)
    soft = op.attr("soft_label", False)
    losses, log_prob = o.softmax_cross_entropy(
        x,
        label if soft else _labels(label, x, at),
        axis=at,
        soft=soft,
        ignore_index=None if soft else op.attr("ignore_index", -100),
    )
    return {"Loss": o.unsqueeze(losses, axis=at), "Softmax": o.exp(log_prob)}


@fluid_op("nll_loss")
def nll_loss(op: Op) -> Result:
    x, label, weight = op.input("X"), op.input("Label"), op.get("Weight")
    ignored = op.attr("ignore_index", -100)
    reduction = op.attr("reduction", "mean")
    how = {"axis": 1, "weight": weight, "ignore_index": ignored, "reduction": reduction}
    out = criterion.nll_loss(x, label, **how)
    kept = o.not_equal(label, ignored)
    counted = cast_like(kept, x)
    if weight is not None:
        counted = o.where(kept, o.gather(weight, o.where(kept, label, 0)), 0.0)
    total = _vector(o.reduce_sum(counted))
    return {"Out": out if reduction == "none" else _vector(out), "Total_weight": total}


@fluid_op("bpr_loss")
def bpr_loss(op: Op) -> Result:
    x, label = op.input("X"), op.input("Label")
    losses = criterion_pairs.bpr_loss(x, _labels(label, x), reduction="none")
    return {"Y": o.unsqueeze(losses, axis=-1)}


@fluid_op("label_smooth")
def label_smooth(op: Op) -> Result:
    how = {"epsilon": op.attr("epsilon", 0.0)}
    return {"Out": criterion_pairs.label_smooth(op.input("X"), op.get("PriorDist"), **how)}


# ---- two classes -------------------------------------------------------------------------------


@fluid_op("sigmoid_cross_entropy_with_logits")
def sigmoid_cross_entropy(op: Op) -> Result:
    x, label = op.input("X"), op.input("Label")
    kept = cast_like(o.not_equal(label, float(op.attr("ignore_index", -100))), x)
    losses = o.mul(criterion.bce_with_logits(x, label, reduction="none"), kept)
    if op.attr("normalize", False):
        losses = o.div(losses, o.maximum(o.reduce_sum(kept), 1e-5))
    return {"Out": losses}


@fluid_op("bce_loss")
def bce_loss(op: Op) -> Result:
    x, label = op.input("X"), op.input("Label")

    def logarithm(p: Any) -> Any:
        return o.maximum(o.log(o.maximum(p, TINY)), -100.0)

    hit = o.mul(label, logarithm(x))
    miss = o.mul(o.sub(1.0, label), logarithm(o.sub(1.0, x)))
    return {"Out": o.neg(o.add(hit, miss))}


@fluid_op("log_loss")
def log_loss(op: Op) -> Result:
    how = {"epsilon": op.attr("epsilon", 1e-4), "reduction": "none"}
    return {"Loss": criterion_pairs.log_loss(op.input("Predicted"), op.input("Labels"), **how)}


@fluid_op("hinge_loss")
def hinge_loss(op: Op) -> Result:
    how = {"reduction": "none"}
    return {"Loss": criterion.hinge_loss(op.input("Logits"), op.input("Labels"), **how)}


@fluid_op("modified_huber_loss")
def modified_huber_loss(op: Op) -> Result:
    x, y = op.input("X"), op.input("Y")
    margin = o.mul(x, o.sub(o.mul(y, 2.0), 1.0))
    losses = criterion_pairs.modified_huber_loss(x, y, reduction="none")
    return {"Out": losses, "IntermediateVal": margin}


@fluid_op("teacher_student_sigmoid_loss")
def teacher_student_loss(op: Op) -> Result:
    high = op.attr("soft_max_up_bound", 15.0)
    low = op.attr("soft_max_lower_bound", -15.0)
    how = {"low": low, "high": high, "reduction": "none"}
    return {"Y": criterion_pairs.teacher_student_loss(op.input("X"), op.input("Label"), **how)}


# ---- pairs -------------------------------------------------------------------------------------


@fluid_op("rank_loss")
def rank_loss(op: Op) -> Result:
    label = op.input("Label")
    left, right = (_shaped_as(op.input(slot), label) for slot in ("Left", "Right"))
    return {"Out": criterion_pairs.rank_loss(left, right, label, reduction="none")}


def _shaped_as(x: Any, like: Any) -> Any:
    """[N] or [N, 1], whichever the other value has."""
    shape = spec_of(like).shape
    return x if spec_of(x).ndim == len(shape) else o.reshape(x, shape=shape)


@fluid_op("margin_rank_loss")
def margin_rank_loss(op: Op) -> Result:
    x1, x2, label = op.input("X1"), op.input("X2"), op.input("Label")
    how = {"margin": op.attr("margin", 0.0), "reduction": "none"}
    losses = criterion.margin_ranking_loss(x1, x2, label, **how)
    return {"Out": losses, "Activated": cast_like(o.greater(losses, 0.0), losses)}


# ---- numbers -----------------------------------------------------------------------------------


@fluid_op("huber_loss")
def huber_loss(op: Op) -> Result:
    x, y = op.input("X"), op.input("Y")
    losses = criterion.huber_loss(x, y, delta=op.need_attr("delta"), reduction="none")
    return {"Out": losses, "Residual": o.sub(y, x)}


@fluid_op("smooth_l1_loss")
def smooth_l1_loss(op: Op) -> Result:
    sigma = op.attr("sigma", 1.0)
    diff = o.sub(op.input("X"), op.input("Y"))
    inside, outside = op.get("InsideWeight"), op.get("OutsideWeight")
    diff = diff if inside is None else o.mul(diff, inside)
    zero = o.mul(o.stop_gradient(diff), 0.0)
    losses = criterion.smooth_l1_loss(diff, zero, beta=1.0 / (sigma * sigma), reduction="none")
    losses = losses if outside is None else o.mul(losses, outside)
    return {"Out": _summed_rows(losses), "Diff": diff}


def _rows(x: Any) -> Any:
    """[N, all further elements]."""
    shape = spec_of(x).shape
    return o.reshape(x, shape=(shape[0], product(shape[1:])))


def _summed_rows(x: Any) -> Any:
    return o.reduce_sum(_rows(x), axis=1, keepdims=True)


@fluid_op("squared_l2_distance")
def squared_l2_distance(op: Op) -> Result:
    diff = o.sub(_rows(op.input("X")), _rows(op.input("Y")))
    return {"Out": _summed_rows(o.square(diff)), "sub_result": diff}


@fluid_op("kldiv_loss")
def kldiv_loss(op: Op) -> Result:
    reduction = op.attr("reduction", "mean")
    if reduction not in ("none", "sum", "mean", "batchmean"):
        raise ArgumentError("unknown reduction", where=op.where, got=repr(reduction))
    loss = criterion.kl_div(op.input("X"), op.input("Target"), reduction=reduction)
    return {"Loss": loss if reduction == "none" else _vector(loss)}


@fluid_op("mean")
def mean(op: Op) -> Result:
    return {"Out": _vector(o.reduce_mean(op.input("X")))}


@fluid_op("center_loss")
def center_loss(op: Op) -> Result:
    x, label, centers = (
        op.input("X"),
        _labels(op.input("Label"), op.input("X")),
        op.input("Centers"),
    )
    rate = _scalar(op.input("CenterUpdateRate")) if op.attr("need_update", False) else None
    losses, new = criterion_pairs.center_loss(x, label, centers, rate=rate, reduction="none")
    diff = o.sub(x, o.gather(centers, label))
    return {"Loss": o.unsqueeze(losses, axis=1), "SampleCenterDiff": diff, "CentersOut": new}


def _scalar(x: Any) -> Any:
    return o.reshape(x, shape=())
