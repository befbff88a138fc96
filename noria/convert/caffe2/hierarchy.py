"""Softmax over a tree of words: a softmax at each node of the path to the word.
(Morin and Bengio, 2005)"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.convert.caffe2.ragged import places_of
from noria.convert.messages import parse_message, schema
from noria.core.dims import product
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o

LEAST = 1e-20  # a probability is no smaller, so that its logarithm is finite
MAX_CELLS = 1 << 24  # of the table of paths
LOWEST = -1e30


class _Paths(NamedTuple):
    """Paths by word, filled up to the longest one and the widest node.

    rows: int64 [words, nodes, width], rows of the weights; there: bool, which of them are real
    target: int64 [words, nodes]; nodes: bool [words, nodes]
    word:   int64 [words], the word itself; where it has no path, a number that names no word
    """

    rows: np.ndarray
    there: np.ndarray
    target: np.ndarray
    nodes: np.ndarray
    word: np.ndarray


def _paths(op: Node, count: Any) -> _Paths:
    """The table of the argument `hierarchy`; count: how many rows the weights have."""
    given = op.args.get("hierarchy")
    if given is None:
        raise ArgumentError("the argument 'hierarchy' is missing", where=op.where())
    message = parse_message(schema("hsm").HierarchyProto(), given.s, op.where())
    paths = {
        p.word_id: [(n.index, n.length, n.target) for n in p.path_nodes] for p in message.paths
    }
    for steps in paths.values():
        for index, length, target in steps:
            if min(index, target) < 0 or target >= length or index + length > count:
                raise ArgumentError(
                    "a node does not fit the weights",
                    expected=f"rows below {count}",
                    got=f"index {index}, length {length}, target {target}",
                )
    words = max(paths, default=-1) + 1
    depth = max(map(len, paths.values()), default=0)
    width = max((n[1] for p in paths.values() for n in p), default=0)
    if min(paths, default=0) < 0 or not 0 < words * depth * width <= MAX_CELLS:
        raise ArgumentError("bad hierarchy", got=f"{words} words, {depth} nodes of {width}")
    table, known = np.zeros((words, depth, 3), np.int64), np.full(words, words)
    for word, steps in paths.items():
        table[word, : len(steps)], known[word] = steps, word
    index, length, target = np.moveaxis(table, -1, 0)
    there = np.arange(width) < length[..., None]
    rows = np.where(there, index[..., None] + np.arange(width), 0)
    return _Paths(rows, there, target, length > 0, known)


class _Walk:
    """The softmaxes on the way to the word of each sample.

    x: [N, K]; rows, there, logits, probs: [N, nodes, width]; hit: which child is on the way
    """

    def __init__(self, op: Node, x: Any, w: Any, b: Any, labels: Any) -> None:
        if len(w.shape) < 2 or len(b.shape) != 1 or not isinstance(w.shape[0], int):
            raise ShapeError("weights are a matrix, the bias a vector", got=f"{w}, {b}")
        samples = x.shape[0] if len(x.shape) > 1 else 1
        self.x = o.reshape(x, shape=(samples, product(x.shape[1:]) if len(x.shape) > 1 else -1))
        self.w = o.reshape(w, shape=(w.shape[0], product(w.shape[1:])))
        paths = _paths(op, w.shape[0])
        labels = o.cast(o.reshape(labels, shape=(samples,)), dtype="int64")
        labels = o.gather(paths.word, labels)
        self.rows, self.there = o.gather(paths.rows, labels), o.gather(paths.there, labels)
        self.nodes = o.gather(paths.nodes, labels)
        target = o.unsqueeze(o.gather(paths.target, labels), axis=2)
        self.hit = o.logical_and(o.equal(target, np.arange(paths.rows.shape[2])), self.there)
        every = o.add(o.matmul(self.x, self.w, transpose_y=True), b)
        flat = o.reshape(self.rows, shape=(samples, product(self.rows.shape[1:])))
        picked = o.take_along_axis(every, flat, axis=1)
        self.logits = o.reshape(picked, shape=self.rows.shape)
        masked = o.where(self.there, self.logits, LOWEST)
        self.probs = o.where(self.there, o.softmax(masked, axis=2), 0.0)

    def chosen(self) -> Any:
        """The probability of each step: [N, nodes]; 1 behind the end of a path."""
        p = o.reduce_sum(o.where(self.hit, self.probs, 0.0), axis=2)
        return o.where(self.nodes, o.maximum(p, LEAST), 1.0)

    def packed(self, op: Node, first: Any, second: Any) -> Any:
        """What each node holds of both, behind one another, sample by sample."""
        pair = [o.unsqueeze(v, axis=2) for v in (first, second)]
        flags = [o.unsqueeze(self.there, axis=2)] * 2
        values, there = o.concat(*pair, axis=2), o.concat(*flags, axis=2)
        count = product(values.shape)
        kept = places_of(op, o.reshape(there, shape=(count,)))
        return o.gather(o.reshape(values, shape=(count,)), kept)


@caffe2_op("HSoftmax")
def hsoftmax(op, x, w, b, labels):
    """(-log of the probability of each label [N], logits and probabilities of all nodes met)"""
    walk = _Walk(op, x, w, b, labels)
    loss = o.neg(o.reduce_sum(o.log(walk.chosen()), axis=1))
    return loss, walk.packed(op, walk.logits, walk.probs)


@caffe2_op("HSoftmaxGradient")
def hsoftmax_gradient(op, x, w, b, labels, met, dy):
    """Gradients of x, w, b, and of the logits and probabilities of the nodes met."""
    walk = _Walk(op, x, w, b, labels)
    share = o.neg(o.div(o.reshape(dy, shape=(walk.x.shape[0], 1)), walk.chosen()))
    of_probs = o.where(walk.hit, o.unsqueeze(share, axis=2), 0.0)
    along = o.reduce_sum(o.mul(walk.probs, of_probs), axis=2, keepdims=True)
    of_logits = o.mul(walk.probs, o.sub(of_probs, along))
    size = product(walk.rows.shape[1:])
    samples = walk.x.shape[0]
    zeros = o.fill(shape=(samples, w.shape[0]), value=0.0, dtype=w.dtype)
    rows = o.unsqueeze(o.reshape(walk.rows, shape=(samples, size)), axis=2)
    owner = o.unsqueeze(o.unsqueeze(o.arange(stop=samples), axis=1), axis=2)
    owner = o.broadcast_to(owner, shape=(samples, size, 1))
    flat = o.reshape(of_logits, shape=(samples, size))
    every = o.scatter_nd(zeros, o.concat(owner, rows, axis=2), flat, reduction="add")
    return (
        o.reshape(o.matmul(every, walk.w), shape=x.shape),
        o.reshape(o.matmul(every, walk.x, transpose_x=True), shape=w.shape),
        o.reduce_sum(every, axis=0),
        walk.packed(op, of_logits, of_probs),
    )
