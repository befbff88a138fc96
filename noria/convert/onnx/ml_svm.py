"""Support vector machines of ai.onnx.ml."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op
from noria.convert.onnx.ml import (
    ML,
    classified,
    floats_of,
    labelled,
    matrix_of,
    single,
    transformed,
)
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.join import stack
from noria.ops.loops import scan

ROUNDS, NEAR = 100, 0.005  # of the iteration that couples probabilities: as in libsvm


def _kernel(node: Node, x: Any, vectors: np.ndarray) -> Any:
    """[N, V] of x [N, F] and vectors [V, F]."""
    kind = node.attr("kernel_type", "LINEAR")
    gamma, coef, degree = (*(node.attr("kernel_params") or ()), 0.0, 0.0, 0.0)[:3]
    if kind == "RBF":
        apart = o.sub(o.unsqueeze(x, axis=1), vectors)
        return o.exp(o.mul(o.reduce_sum(o.square(apart), axis=2), -gamma))
    inner = o.linear(x, vectors)
    if kind == "LINEAR":
        return inner
    inner = o.add(o.mul(inner, gamma), coef)
    if kind == "POLY":
        return o.pow(inner, degree)
    if kind == "SIGMOID":
        return o.tanh(inner)
    raise FormatError("no such kernel", where=str(node), got=repr(kind))


@onnx_op("SVMRegressor", domain=ML)
def svm_regressor(node: Node, x: Any) -> Any:
    x, supports = single(x), int(node.attr("n_supports", 0))
    weights, rho = floats_of(node, "coefficients"), floats_of(node, "rho")
    if supports:
        x = _kernel(node, x, matrix_of(node, supports, "support_vectors"))
    out = o.add(o.linear(x, weights.reshape(1, -1)), float(rho[0]) if len(rho) else 0.0)
    if node.attr("one_class", 0):
        return o.where(o.greater(out, 0.0), 1.0, -1.0)
    return transformed(node, out)


@onnx_op("SVMClassifier", domain=ML)
def svm_classifier(node: Node, x: Any) -> tuple[Any, Any]:
    """One against one: each pair of classes votes (libsvm: Chang & Lin, 2011). Without support
    vectors it is linear: a row of coefficients for each class."""
    names = ("classlabels_ints", "classlabels_strings")
    labels = next((node.attr(n) for n in names if node.attr(n)), ())
    x, rho = single(x), floats_of(node, "rho")
    counts = [int(n) for n in node.attr("vectors_per_class") or ()]
    if not counts:
        scores = o.add(
            o.linear(x, matrix_of(node, len(labels))), float(rho[0]) if len(rho) else 0.0
        )
        return classified(node, scores, len(labels), names, shares=False)
    values = _kernel(node, x, matrix_of(node, sum(counts), "support_vectors"))
    decisions, pairs = _decisions(node, values, counts, rho), _pairs(len(counts))
    votes = _votes(decisions, pairs, len(counts))
    prob_a, prob_b = floats_of(node, "prob_a"), floats_of(node, "prob_b")
    place = o.argmax(votes, axis=1)
    if len(prob_a):
        scores = _coupled(decisions, pairs, len(counts), prob_a, prob_b)
        return labelled(node, place, *names), transformed(node, scores)
    scores = stack(*decisions, axis=1)
    if len(pairs) == 1:
        scores = o.concat(o.neg(scores), scores, axis=1)
    return labelled(node, place, *names), transformed(node, scores)


def _pairs(classes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(classes) for j in range(i + 1, classes)]


def _decisions(node: Node, values: Any, counts: list[int], rho: np.ndarray) -> list[Any]:
    """[N] of each pair of classes: positive for the first of the two."""
    weights = matrix_of(node, len(counts) - 1)
    starts = np.cumsum([0, *counts])
    found = []
    for k, (i, j) in enumerate(_pairs(len(counts))):
        row = np.zeros(starts[-1], np.float32)
        row[starts[i] : starts[i + 1]] = weights[j - 1, starts[i] : starts[i + 1]]
        row[starts[j] : starts[j + 1]] = weights[i, starts[j] : starts[j + 1]]
        found.append(o.add(o.matmul(values, row), float(rho[k])))
    return found


def _votes(decisions: list[Any], pairs: list[tuple[int, int]], classes: int) -> Any:
    votes: list[Any] = [0.0] * classes
    for decision, (i, j) in zip(decisions, pairs, strict=True):
        first = o.cast(o.greater(decision, 0.0), dtype="float32")
        votes[i], votes[j] = o.add(first, votes[i]), o.add(o.sub(1.0, first), votes[j])
    return stack(*votes, axis=1)


def _coupled(
    decisions: list[Any],
    pairs: list[tuple[int, int]],
    classes: int,
    prob_a: np.ndarray,
    prob_b: np.ndarray,
) -> Any:
    """Probabilities of classes from those of pairs (Platt, 1999; Wu, Lin & Weng, 2004)."""
    each: dict[tuple[int, int], Any] = {}
    for k, (decision, (i, j)) in enumerate(zip(decisions, pairs, strict=True)):
        score = o.sigmoid(o.neg(o.add(o.mul(decision, float(prob_a[k])), float(prob_b[k]))))
        each[i, j] = o.clip(score, low=1e-7, high=1 - 1e-7)
        each[j, i] = o.sub(1.0, each[i, j])
    rows = []
    for i in range(classes):
        row = [o.neg(o.mul(each[j, i], each[i, j])) if j != i else None for j in range(classes)]
        row[i] = reduce(o.add, [o.square(each[j, i]) for j in range(classes) if j != i])
        rows.append(stack(*row, axis=1))
    matrix = stack(*rows, axis=1)  # [N, C, C]; the probabilities minimise p.T @ matrix @ p
    start = o.fill(shape=(matrix.shape[0], classes), value=1 / classes)
    sweep = scan(lambda p, _: (_improved(p, matrix, classes), None), start, length=ROUNDS)
    return sweep[0]


def _improved(p: Any, matrix: Any, classes: int) -> Any:
    """One round over all classes: each probability in turn is made the best one. Rows that are
    near enough stay as they are."""
    start = p
    product, whole = _products(p, matrix)
    error = o.reduce_max(o.abs(o.sub(product, whole)), axis=1, keepdims=True)
    for t in range(classes):
        product, whole = _products(p, matrix)
        mine = o.slice(product, axes=(1,), starts=(t,), stops=(t + 1,))
        cell = o.slice(matrix, axes=(1, 2), starts=(t, t), stops=(t + 1, t + 1))
        step = o.div(o.sub(whole, mine), o.squeeze(cell, axis=2))
        p = o.div(o.add(p, o.mul(step, np.eye(classes, dtype=np.float32)[t])), o.add(step, 1.0))
    return o.where(o.less(error, NEAR / classes), start, p)


def _products(p: Any, matrix: Any) -> tuple[Any, Any]:
    """(matrix @ p [N, C], p @ matrix @ p [N, 1]) of each row."""
    product = o.squeeze(o.matmul(o.unsqueeze(p, axis=1), matrix), axis=1)
    return product, o.reduce_sum(o.mul(product, p), axis=1, keepdims=True)
