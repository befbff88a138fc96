"""Fluid's operators of structured prediction: random fields, CTC, distances, chunks, beams."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.fluid.arrays import TensorArray
from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.sequences import absolute, flat
from noria.core.dims import Size
from noria.core.errors import ProgramError
from noria.ir.opdef import vocabulary as o
from noria.ops import alignment, ragged, sequence


def packed(op: Op, slot: str, lengths: str) -> tuple[Any, Any, bool]:
    """(rows one after another, their splits, whether they were padded) of an input.

    Padded rows [N, L, ...] come with the input `lengths`.
    """
    count = op.get(lengths)
    if count is None:
        return op.input(slot), absolute(op.need_lod(slot)), False
    values, splits = ragged.sequence_unpad(op.input(slot), flat(count), size=op.symbol("packed"))
    return values, splits, True


def padded(x: Any, splits: Any, size: Size, fill: Any = 0) -> Any:
    """The inverse of `packed`."""
    return ragged.sequence_pad(x, splits, fill, size=size)


# ---- conditional random fields -----------------------------------------------------------------


@fluid_op("linear_chain_crf")
def linear_chain_crf(op: Op) -> dict[str, Any]:
    whole, transition = op.input("Emission"), op.input("Transition")
    emission, splits, dense = packed(op, "Emission", "Length")
    label = op.input("Label")
    if dense:
        steps = ragged.sequence_unpad(label, flat(op.input("Length")), size=op.symbol("packed"))
        label = steps[0]
    loss, log_alpha = o.crf_sequence_loss(emission, transition, flat(label), splits)
    alpha = o.softmax(log_alpha, axis=-1)
    top = o.reduce_max(whole, axis=-1, keepdims=True)
    return {
        "LogLikelihood": Lod(o.unsqueeze(loss, axis=1)),
        "Alpha": Lod(padded(alpha, splits, whole.shape[1]) if dense else alpha),
        "EmissionExps": Lod(o.exp(o.sub(whole, top))),
        "TransitionExps": Lod(o.exp(transition)),
    }


@fluid_op("crf_decoding")
def crf_decoding(op: Op) -> dict[str, Any]:
    emission, splits, dense = packed(op, "Emission", "Length")
    path = o.crf_decode(emission, op.input("Transition"), splits)[0]
    if dense:
        path = padded(path, splits, op.input("Emission").shape[1])
    label = op.get("Label")
    if label is not None:
        label = o.reshape(label, shape=path.shape)
        path = o.cast(o.equal(path, label), dtype="int64")
        if dense:
            inside = ragged.sequence_mask(
                flat(op.input("Length")), size=path.shape[1], dtype="int64"
            )
            path = o.mul(path, inside)
    if dense:
        return {"ViterbiPath": Lod(path)}
    return {"ViterbiPath": Lod(o.unsqueeze(path, axis=1), op.lod("Emission"))}


# ---- connectionist temporal classification -----------------------------------------------------


@fluid_op("warpctc")
def warpctc(op: Op) -> dict[str, Any]:
    blank = op.attr("blank", 0)
    if op.get("LogitsLength") is not None:
        losses = _padded_ctc(op, blank)
    else:
        losses = _ragged_ctc(op, blank)
    losses = o.where(o.isinf(losses), 0.0, losses)  # too few steps for the labels
    return {"Loss": Lod(o.unsqueeze(losses, axis=1))}


def _padded_ctc(op: Op, blank: int) -> Any:
    logits, label = op.input("Logits"), op.input("Label")
    steps, count, classes = logits.shape
    rows = o.reshape(logits, shape=(steps * count, classes))
    lengths = flat(op.input("LogitsLength")), flat(op.input("LabelLength"))
    label = o.reshape(label, shape=(count, label.shape[1]))
    starts = o.arange(stop=count, dtype="int64")
    return o.ctc_sequence_loss(
        rows, starts, lengths[0], label, lengths[1], blank=blank, step=count
    )[0]


def _ragged_ctc(op: Op, blank: int) -> Any:
    splits, label_splits = absolute(op.need_lod("Logits")), absolute(op.need_lod("Label"))
    width = op.symbol("labels")
    label = ragged.sequence_pad(flat(op.input("Label")), label_splits, size=width)
    lengths = sequence.sequence_lengths(splits)
    label_lengths = sequence.sequence_lengths(label_splits)
    starts = ragged.sequence_starts(splits)
    losses = o.ctc_sequence_loss(
        op.input("Logits"), starts, lengths, label, label_lengths, blank=blank
    )[0]
    if not op.attr("norm_by_times", False):
        return losses
    # only the gradient is divided by the number of steps, the loss is not
    share = o.div(losses, o.cast(o.maximum(lengths, 1), dtype=losses.dtype))
    return o.add(share, o.stop_gradient(o.sub(losses, share)))


@fluid_op("ctc_align")
def ctc_align(op: Op) -> dict[str, Any]:
    x, lengths = op.input("Input"), op.get("InputLength")
    options = {"blank": op.attr("blank", 0), "merge": op.attr("merge_repeated", True)}
    tokens, splits, dense = packed(op, "Input", "InputLength")
    kept, rows = alignment.ctc_collapse(flat(tokens), splits, size=op.symbol("aligned"), **options)
    if not dense:
        kept = o.concat(kept, _nothing(op, rows, x.dtype), axis=0)
        return {"Output": Lod(o.unsqueeze(kept, axis=1), (rows,))}
    fill = op.attr("padding_value", 0)
    found = o.reshape(o.cast(sequence.sequence_lengths(rows), dtype=x.dtype), shape=lengths.shape)
    return {"Output": Lod(padded(kept, rows, x.shape[1], fill)), "OutputLength": Lod(found)}


def _nothing(op: Op, splits: Any, dtype: str) -> Any:
    """What Fluid gives where there is nothing in any row: one -1."""
    empty = o.cast(o.equal(splits[-1:], 0), dtype="int64")
    places = ragged.ragged_range(np.zeros(1, np.int64), empty, size=op.symbol("nothing"))
    return o.gather(np.full(1, -1, dtype), places)


# ---- how far, how right ------------------------------------------------------------------------


@fluid_op("edit_distance")
def edit_distance(op: Op) -> dict[str, Any]:
    ours, our_splits, _ = packed(op, "Hyps", "HypsLength")
    theirs, their_splits, _ = packed(op, "Refs", "RefsLength")
    distance = o.edit_distance(
        flat(ours), our_splits, flat(theirs), their_splits, normalized=op.attr("normalized", False)
    )
    count = o.reshape(o.dim_value(dim=distance.shape[0]), shape=(1,))
    return {"Out": Lod(o.unsqueeze(distance, axis=1)), "SequenceNum": Lod(count)}


@fluid_op("chunk_eval")
def chunk_eval(op: Op) -> dict[str, Any]:
    predicted, splits, dense = packed(op, "Inference", "SeqLength")
    label = op.input("Label")
    if dense:
        lengths = flat(op.input("SeqLength"))
        label = ragged.sequence_unpad(label, lengths, size=op.symbol("packed"))[0]
    counts = o.chunk_counts(
        flat(predicted),
        flat(label),
        splits,
        types=op.attr("num_chunk_types"),
        scheme=op.attr("chunk_scheme", "IOB"),
        excluded=op.attr("excluded_chunk_types", ()),
    )
    inferred, there, right = (Lod(counts[i : i + 1]) for i in range(3))
    precision, recall = (_ratio(right.values, of.values) for of in (inferred, there))
    f1 = _ratio(o.mul(o.mul(precision, recall), 2.0), o.add(precision, recall))
    return {
        "Precision": Lod(precision),
        "Recall": Lod(recall),
        "F1-Score": Lod(f1),
        "NumInferChunks": inferred,
        "NumLabelChunks": there,
        "NumCorrectChunks": right,
    }


def _ratio(part: Any, whole: Any) -> Any:
    """part / whole, 0 where there is nothing to divide by: float32."""
    part, whole = (o.cast(v, dtype="float32") for v in (part, whole))
    nothing = o.equal(whole, 0.0)
    return o.where(nothing, 0.0, o.div(part, o.where(nothing, 1.0, whole)))


# ---- beams -------------------------------------------------------------------------------------


@fluid_op("beam_search")
def beam_search(op: Op) -> dict[str, Any]:
    scores, ids = op.input("scores"), op.get("ids")
    levels = op.need_lod("scores", op.attr("level", 0) + 1)[op.attr("level", 0) :]
    sources = absolute(levels)
    found, values, parents, splits = o.beam_search_step(
        flat(op.input("pre_ids")),
        flat(op.input("pre_scores")),
        scores,
        sources,
        ids,
        beam_size=op.attr("beam_size"),
        end_id=op.attr("end_id"),
        size=op.symbol("beams"),
        accumulated=op.attr("is_accumulated", True),
    )
    levels = (sources, splits)
    return {
        "selected_ids": Lod(o.unsqueeze(found, axis=1), levels),
        "selected_scores": Lod(o.unsqueeze(values, axis=1), levels),
        "parent_idx": Lod(o.cast(parents, dtype="int32")),
    }


@fluid_op("gather_tree")
def gather_tree(op: Op) -> dict[str, Any]:
    return {"Out": o.gather_tree(op.input("Ids"), op.input("Parents"))}


@fluid_op("beam_search_decode")
def beam_search_decode(op: Op) -> dict[str, Any]:
    """The sentences of a search whose steps were written to arrays, the best of a source first."""
    ids, scores = (_steps(op, slot) for slot in ("Ids", "Scores"))
    if len(ids) != len(scores):
        raise ProgramError(
            "a search has scores for all its ids",
            expected=f"{len(ids)} steps",
            got=str(len(scores)),
        )
    steps = [
        v
        for i, s in zip(ids, scores, strict=True)
        for v in (flat(i.values), flat(s.values), *i.splits)
    ]
    found, values, outer, inner = o.beam_search_sentences(
        *steps, end_id=op.attr("end_id"), size=op.symbol("words"), sentences=op.symbol("sentences")
    )
    levels = (outer, inner)
    return {"SentenceIds": Lod(found, levels), "SentenceScores": Lod(values, levels)}


def _steps(op: Op, slot: str) -> list[Lod]:
    """The values of an array, which must have the two levels that `beam_search` gives."""
    array = op.held(slot)[0]
    if not isinstance(array, TensorArray):
        raise ProgramError(
            f"{op.type} reads an array of known length",
            where=op.where,
            got=type(array).__name__,
            hint="a search in a loop: beams of a fixed number, and gather_tree",
        )
    steps = [item for item in array.items if item is not None]
    if len(steps) < len(array.items) or any(len(s.splits) != 2 for s in steps):
        raise ProgramError(f"a step of '{slot}' has no beams of sentences", where=op.where)
    return steps
