"""Gradients of looked-up segments fused with the update of the rows they go to.

Here, unlike in the plain updates of rows, an id often names a row more than once in one step: its
updates follow each other in the order of the ids, each seeing what the one before has made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noria.convert.caffe2.common import behind
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.optimizer import adagrad_row
from noria.convert.caffe2.ragged import row_numbers, step_numbers
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.loops import while_loop

Tables = tuple[Any, Any]

_FUSED = "SparseAdagradFusedWithSparseLengths"
_PLAIN, _WEIGHTED = (
    [
        f"{rows}{_FUSED}{kind}Gradient{approx}"
        for rows in ("", "RowWise")
        for kind in kinds
        for approx in ("", "Approx")
    ]
    for kinds in (("Sum", "Mean"), ("WeightedSum",))
)


def occurrences(ids: Any, count: Any) -> Any:
    """How often the same id came before, for ids in order: int64 [T]; ids lie below `count`."""
    places = o.arange(stop=ids.shape[0])
    none = o.fill(shape=(count,), value=0, dtype="int64")
    each = o.fill(shape=ids.shape, value=1, dtype="int64")
    totals = o.scatter_nd(none, o.unsqueeze(ids, axis=1), each, reduction="add")
    return o.sub(places, o.gather(o.cumsum(totals, axis=0, exclusive=True), ids))


def in_turn(ids: Any, grads: Any, tables: Tables, update: Callable[..., Tables]) -> Tables:
    """Rows of two tables after update(row, row of the other, gradient), one id after the other.

    Turn k takes the k-th occurrence of every id: no row twice, so all of a turn go at once.
    """
    order = o.argsort(ids, axis=0)
    ids, grads = o.gather(ids, order), o.gather(grads, order)
    nth = occurrences(ids, tables[0].shape[0])
    turns = o.reduce_max(o.concat(o.add(nth, 1), o.fill(shape=(1,), value=0, dtype="int64")))

    def turn(carry: Any) -> Any:
        k, now = carry
        rows = [o.gather(t, ids) for t in now]
        due = o.equal(nth, k)
        moved = [
            o.where(behind(due, len(old.shape) - 1), o.sub(new, old), 0.0)
            for new, old in zip(update(*rows, grads), rows, strict=True)
        ]
        added = (o.scatter_rows(ids, m, shape=t.shape) for m, t in zip(moved, now, strict=True))
        return o.add(k, 1), tuple(o.add(t, a) for t, a in zip(now, added, strict=True))

    zero = o.fill(shape=(), value=0, dtype="int64")
    result: Tables = while_loop(lambda carry: o.less(carry[0], turns), turn, (zero, tables))[1]
    return result


def _updated(op: Node, param: Any, moment: Any, ids: Any, grads: Any, lr: Any) -> Tables:
    if op.attr("decay", 1.0) != 1.0:
        raise ArgumentError("fused updates have no decay", expected="1", got=str(op.attr("decay")))
    shape = moment.shape
    if op.type.startswith("RowWise"):
        moment = o.reshape(moment, shape=(param.shape[0],))
    rule = lambda row, old, grad: adagrad_row(op, row, old, grad, lr)  # noqa: E731
    new, moment = in_turn(ids, grads, (param, moment), rule)
    return new, o.reshape(moment, shape=shape)


def _flat(ids: Any) -> Any:
    if len(ids.shape) != 1:
        raise ArgumentError("indices are a vector", got=str(ids))
    return o.cast(ids, dtype="int64")


@caffe2_op(*_PLAIN)
def fused_sparse_adagrad(op, param, moment, ids, grad, lr, lengths):
    """(param, moment): a row's gradient is that of its segment, or its share of it."""
    ids = _flat(ids)
    if "Mean" in op.type:
        share = o.maximum(o.cast(lengths, dtype=grad.dtype), 1.0)
        grad = o.div(grad, behind(share, len(grad.shape) - 1))
    rows = o.gather(grad, row_numbers(op, lengths, ids.shape[0]))
    return _updated(op, param, moment, ids, rows, lr)


@caffe2_op(*_WEIGHTED)
def fused_sparse_adagrad_weighted(op, param, moment, weights, ids, grad, lr, lengths):
    """(param, moment, gradient of the weight of each step): weights belong to places in a segment.

    The last is of the parameter before the update, also in the variants called approximate, for
    which Caffe2 leaves open what they see of an update in progress.
    """
    ids = _flat(ids)
    rows = o.gather(grad, row_numbers(op, lengths, ids.shape[0]))
    along = o.mul(rows, o.gather(param, ids))
    axes = tuple(range(1, len(param.shape)))
    of_weight = o.reduce_sum(along, axis=axes) if axes else along
    at = o.gather(o.cast(weights, dtype=grad.dtype), step_numbers(op, lengths, ids.shape[0]))
    scaled = o.mul(rows, behind(at, len(rows.shape) - 1))
    return *_updated(op, param, moment, ids, scaled, lr), of_weight
