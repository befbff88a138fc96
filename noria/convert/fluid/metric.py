"""Metrics of Fluid, with the counts they keep between batches."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.handlers import Op, fluid_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import spec_of

Result = dict[str, Any]


@fluid_op("accuracy")
def accuracy(op: Op) -> Result:
    hits = o.reduce_any(o.equal(op.input("Indices"), op.input("Label")), axis=1)
    correct = o.reduce_sum(o.cast(hits, dtype="int32"))
    total = o.cast(o.dim_value(dim=spec_of(hits).shape[0]), dtype="int32")
    share = o.div(o.cast(correct, dtype="float32"), o.cast(total, dtype="float32"))
    named = {"Accuracy": share, "Correct": correct, "Total": total}
    return {k: o.reshape(o.cast(v, dtype=_kept(k)), shape=(1,)) for k, v in named.items()}


def _kept(name: str) -> str:
    return "float32" if name == "Accuracy" else "int32"


# ---- area under the ROC curve ------------------------------------------------------------------


@fluid_op("auc")
def auc(op: Op) -> Result:
    if op.attr("curve", "ROC") != "ROC":
        raise ArgumentError("only the ROC curve is known", where=op.where, got=op.attr("curve"))
    bins, window = op.attr("num_thresholds", (2 << 12) - 1) + 1, op.attr("slide_steps", 1)
    scores = o.squeeze(_last_column(op.input("Predict")), axis=1)
    at = o.cast(o.mul(scores, float(bins - 1)), dtype="int64")
    clicked = o.cast(o.reshape(op.input("Label"), shape=(-1,)), dtype="bool")
    kept: Result = {}
    totals: list[Any] = []
    for slot, mine in (("StatPos", clicked), ("StatNeg", o.logical_not(clicked))):
        added = o.scatter_rows(at, o.cast(mine, dtype="int64"), shape=(bins,))
        new, total = _slid(op.input(slot), added, bins, window)
        kept[f"{slot}Out"] = new
        totals.append(total)
    return {"AUC": o.reshape(_area(*totals), shape=(1,)), **kept}


def _last_column(x: Any) -> Any:
    return o.slice(x, axes=(1,), starts=(-1,), stops=(None,))


def _slid(old: Any, added: Any, bins: int, window: int) -> tuple[Any, Any]:
    """(the state with the counts of a batch, the counts that are in force).

    Without a window the state is the counts of all batches. With one it is those of each of the
    last batches, in a ring, then their sum, then how many batches there were.
    """
    flat = o.reshape(old, shape=(-1,))
    if not window:
        total = o.add(_part(flat, 0, bins), added)
        return o.reshape(total, shape=spec_of(old).shape), total
    ring = o.reshape(_part(flat, 0, window * bins), shape=(window, bins))
    count = _part(flat, (window + 1) * bins, (window + 1) * bins + 1)
    here = o.unsqueeze(o.equal(o.arange(stop=window), o.remainder(count, window)), axis=1)
    oldest = o.reduce_sum(o.where(here, ring, 0), axis=0)
    total = o.add(o.sub(_part(flat, window * bins, (window + 1) * bins), oldest), added)
    ring = o.reshape(o.where(here, o.unsqueeze(added, axis=0), ring), shape=(window * bins,))
    new = o.concat(ring, total, o.add(count, 1), axis=0)
    return o.reshape(new, shape=spec_of(old).shape), total


def _part(x: Any, start: int, stop: int) -> Any:
    return o.slice(x, axes=(0,), starts=(start,), stops=(stop,))


def _area(positive: Any, negative: Any) -> Any:
    """0 where there is no pair of a positive and a negative example."""
    p, n = (o.cast(x, dtype="float64") for x in (positive, negative))
    below = o.sub(o.cumsum(n, axis=0), o.mul(n, 0.5))
    pairs = o.mul(o.reduce_sum(p), o.reduce_sum(n))
    some = o.greater(pairs, 0.0)
    return o.where(some, o.div(o.reduce_sum(o.mul(p, below)), o.where(some, pairs, 1.0)), 0.0)


# ---- precision and recall ----------------------------------------------------------------------


@fluid_op("precision_recall")
def precision_recall(op: Op) -> Result:
    classes = op.need_attr("class_number")
    probs, weights = op.input("MaxProbs"), op.get("Weights")
    found, label = (o.reshape(op.input(s), shape=(-1,)) for s in ("Indices", "Labels"))
    ones = o.fill(shape=spec_of(found).shape, value=1.0, dtype=spec_of(probs).dtype)
    weight = ones if weights is None else o.reshape(weights, shape=(-1,))
    batch = _states(found, label, weight, classes)
    old = op.get("StatesInfo")
    total = batch if old is None else o.add(batch, old)
    metrics = {"BatchMetrics": _metrics(batch), "AccumMetrics": _metrics(total)}
    return {**metrics, "AccumStatesInfo": total}


def _states(found: Any, label: Any, weight: Any, classes: int) -> Any:
    """True positives, false positives, true negatives, false negatives: [classes, 4]."""
    dtype = spec_of(weight).dtype
    right = o.cast(o.equal(found, label), dtype=dtype)
    wrong = o.sub(1.0, right)

    def counted(ids: Any, which: Any) -> Any:
        amount = o.unsqueeze(o.mul(weight, which), axis=1)
        return o.reduce_sum(o.mul(o.one_hot(ids, depth=classes, dtype=dtype), amount), axis=0)

    hit, false, missed = counted(label, right), counted(found, wrong), counted(label, wrong)
    rest = o.sub(o.sub(o.sub(o.reduce_sum(weight), hit), false), missed)
    return o.concat(*(o.unsqueeze(v, axis=1) for v in (hit, false, rest, missed)), axis=1)


def _metrics(states: Any) -> Any:
    """Precision, recall and F1 of the mean over classes, then of all classes together."""
    hit, false, missed = (_column(states, i) for i in (0, 1, 3))
    each = o.reduce_mean(_ratio(hit, false)), o.reduce_mean(_ratio(hit, missed))
    h, f, m = (o.reduce_sum(v) for v in (hit, false, missed))
    both = _ratio(h, f), _ratio(h, m)
    six = [v for p, r in (each, both) for v in (p, r, _f1(p, r))]
    return o.concat(*(o.reshape(o.cast(v, dtype="float64"), shape=(1,)) for v in six), axis=0)


def _column(x: Any, i: int) -> Any:
    return o.squeeze(o.slice(x, axes=(1,), starts=(i,), stops=(i + 1,)), axis=1)


def _ratio(part: Any, rest: Any) -> Any:
    """part / (part + rest), 1 for nothing."""
    total = o.add(part, rest)
    some = o.greater(total, 0.0)
    return o.where(some, o.div(part, o.where(some, total, 1.0)), 1.0)


def _f1(precision: Any, recall: Any) -> Any:
    total = o.add(precision, recall)
    some = o.greater(total, 0.0)
    product = o.mul(o.mul(precision, recall), 2.0)
    return o.where(some, o.div(product, o.where(some, total, 1.0)), 0.0)
