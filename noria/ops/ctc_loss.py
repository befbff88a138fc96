"""The CTC loss as users write it, for padded batches; `ctc.py` has the op."""

from __future__ import annotations

from typing import Any

from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import cast_like, spec_of


def ctc_loss(
    logits: Any,
    labels: Any,
    logit_lengths: Any,
    label_lengths: Any,
    *,
    blank: int = 0,
    batch_first: bool = False,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """Connectionist temporal classification of padded sequences.  (Graves et al., 2006)

    logits: [T, N, C], or [N, T, C] with batch_first; unnormalised (log-probabilities are as good).
    labels: integers [N, W] without blanks; logit_lengths, label_lengths: integers [N].
    reduction: "mean" divides each loss by the number of its labels (at least 1) before the mean, as
    PyTorch does; "sum"; "none" gives [N]. zero_infinity: a sequence too short for its labels has
    loss 0 instead of infinity; it has no gradient either way.
    Raises ShapeError and ArgumentError for what does not fit.
    """
    spec = spec_of(logits)
    if spec.ndim != 3:
        expected = "[N, T, C]" if batch_first else "[T, N, C]"
        raise ShapeError("ctc_loss takes a batch of sequences", expected=expected, got=str(spec))
    if reduction not in ("none", "mean", "sum"):
        raise ArgumentError(
            "unknown reduction", expected="'none', 'mean' or 'sum'", got=repr(reduction)
        )
    first, second, classes = spec.shape
    n, steps = (first, second) if batch_first else (second, first)
    place = o.arange(stop=n, dtype="int64")
    starts = o.mul(place, o.dim_value(dim=steps)) if batch_first else place
    rows = o.reshape(logits, shape=(first * second, classes))
    losses = o.ctc_sequence_loss(
        rows,
        starts,
        logit_lengths,
        labels,
        label_lengths,
        blank=blank,
        step=1 if batch_first else n,
    )[0]
    if zero_infinity:
        losses = o.where(o.isinf(losses), 0.0, losses)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return o.reduce_sum(losses)
    count = o.maximum(label_lengths, 1)
    return o.reduce_mean(o.div(losses, cast_like(count, losses)))
