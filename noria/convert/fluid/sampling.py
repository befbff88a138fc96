"""Fluid's operators over many classes: trees and samples of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.sequences import flat
from noria.core.dtypes import as_dtype
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops import ranking, sampled
from noria.ops.numeric import cast_like
from noria.ops.random import randint, uniform

# ---- a tree of classes -------------------------------------------------------------------------


@fluid_op("hierarchical_sigmoid")
def hierarchical_sigmoid(op: Op) -> dict[str, Any]:
    """Places of a path that lead nowhere cost log 2 each, as in Fluid."""
    x, labels = op.input("X"), flat(op.input("Label"))
    nodes, turns = op.get("PathTable"), op.get("PathCode")
    if nodes is None:
        nodes, turns = sampled.class_paths(labels, classes=op.attr("num_classes", 2))
    sparse = op.attr("is_sparse", False)
    scores, inside = sampled.tree_scores(x, nodes, op.input("W"), op.get("Bias"), sparse=sparse)
    scores = o.clip(scores, low=-40.0, high=40.0)
    costs = o.softplus(scores)
    taken = o.mul(scores, cast_like(o.logical_and(o.not_equal(turns, 0), inside), scores))
    out = o.reduce_sum(o.sub(costs, taken), axis=1, keepdims=True)
    return {"Out": Lod(out, op.lod("X")), "PreOut": Lod(costs)}


# ---- samples of classes ------------------------------------------------------------------------


@fluid_op("nce")
def nce(op: Op) -> dict[str, Any]:
    labels, count = _wide(op.input("Label")), op.attr("num_neg_samples", 10)
    rows, classes = labels.shape[0], op.attr("num_total_classes")
    own = op.attr("custom_neg_classes", ())
    if own:
        noise = o.broadcast_to(np.array(own, np.int64), shape=(rows, len(own)))
    else:
        noise = _noise(op, (rows, count), classes)
    ids = o.concat(o.cast(labels, dtype="int64"), noise, axis=1)
    sparse = op.attr("is_sparse", False)
    weight, bias = op.input("Weight"), op.get("Bias")
    scores = sampled.class_scores(op.input("Input"), ids, weight, bias, sparse=sparse)
    weights = op.get("SampleWeight")
    losses, truth = sampled.nce_loss(
        scores,
        _likely(op, ids, classes),
        labels=labels.shape[1],
        negatives=count,
        weights=None if weights is None else flat(weights),
    )
    return {
        "Cost": Lod(o.unsqueeze(losses, axis=1)),
        "SampleLogits": Lod(truth),
        "SampleLabels": Lod(ids),
    }


def _wide(labels: Any) -> Any:
    """[N, true classes]."""
    return o.unsqueeze(labels, axis=1) if len(labels.shape) == 1 else labels


def _noise(op: Op, shape: tuple[Any, ...], classes: int) -> Any:
    """Classes drawn as attribute `sampler` says: uniform, log-uniform, or of a given distribution.

    The last is drawn by the alias method. (Walker, 1977)
    """
    kind = op.attr("sampler", 0)
    if kind == 0:
        return randint(shape=shape, high=classes)
    if kind == 1:
        return sampled.log_uniform(shape=shape, classes=classes - 1)
    if kind != 2:
        raise ArgumentError("unknown sampler", expected="0, 1 or 2", got=repr(kind))
    place = randint(shape=shape, high=classes)
    stays = o.gather(flat(op.input("CustomDistAliasProbs")), place)
    other = o.cast(o.gather(flat(op.input("CustomDistAlias")), place), dtype="int64")
    return o.where(o.greater(uniform(shape=shape), stays), other, place)


def _likely(op: Op, ids: Any, classes: int) -> Any:
    """How likely one draw gives each of these classes."""
    kind = op.attr("sampler", 0)
    if kind == 1:
        return sampled.log_uniform_probability(ids, classes=classes - 1)
    if kind == 2:
        return o.gather(flat(op.input("CustomDistProbs")), ids)
    return o.fill(shape=ids.shape, value=1 / classes)


@fluid_op("sample_logits")
def sample_logits(op: Op) -> dict[str, Any]:
    logits, labels = op.input("Logits"), o.cast(op.input("Labels"), dtype="int64")
    true = labels.shape[1]
    if op.attr("use_customized_samples", False):
        samples, likely = op.input("CustomizedSamples"), op.input("CustomizedProbabilities")
    else:
        samples, likely = _distinct_samples(op, labels, logits.shape[1])
    taken = sampled.sample_logits(
        logits,
        samples,
        cast_like(likely, logits),
        labels=true,
        remove_hits=op.attr("remove_accidental_hits", True),
    )
    places = o.broadcast_to(o.arange(stop=true), shape=labels.shape)
    return {
        "Samples": Lod(samples),
        "Probabilities": Lod(likely),
        "SampledLogits": Lod(taken),
        "SampledLabels": Lod(places),
    }


def _distinct_samples(op: Op, labels: Any, classes: int) -> tuple[Any, Any]:
    """The true classes, and classes that are the same for all rows: (ids, how likely), [N, J]."""
    count = op.attr("num_samples")
    drawn, draws = sampled.distinct_log_uniform(count=count, classes=classes)
    drawn = o.broadcast_to(drawn, shape=(labels.shape[0], count))
    ids = o.concat(labels, drawn, axis=1)
    dtype = as_dtype(op.input("Logits").dtype)
    once = sampled.log_uniform_probability(ids, classes=classes, dtype=dtype)
    # among `draws` draws at least once
    never = o.mul(o.cast(draws, dtype=dtype), o.log1p(o.neg(once)))
    return ids, o.neg(o.expm1(never))


# ---- a tree of items ---------------------------------------------------------------------------


@fluid_op("tdm_child")
def tdm_child(op: Op) -> dict[str, Any]:
    children, items = ranking.tree_children(op.input("X"), op.input("TreeInfo"))
    wanted = op.attr("child_nums", children.shape[-1])
    dtype = op.dtype("dtype", 2)
    return {
        "Child": o.cast(children[..., :wanted], dtype=dtype),
        "LeafMask": o.cast(items[..., :wanted], dtype=dtype),
    }


@fluid_op("tdm_sampler")
def tdm_sampler(op: Op) -> dict[str, Any]:
    dtype = op.dtype("dtype", 2)
    sampled_nodes = ranking.tree_sample(
        flat(op.input("X")),
        op.input("Travel"),
        flat(op.input("Layer")),
        bounds=op.attr("layer_offset_lod"),
        negatives=op.attr("neg_samples_num_list"),
        positive=op.attr("output_positive", True),
    )
    values = (Lod(o.cast(v, dtype=dtype)) for v in sampled_nodes)
    return dict(zip(("Out", "Labels", "Mask"), values, strict=True))
