"""Layers whose output is a structure: tags that depend on each other, a class found in a tree."""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.layers import positive
from noria.nn.module import Module, Parameter
from noria.nn.ragged import Ragged
from noria.ops.sampled import hsigmoid_loss


class CRF(Module):
    """A linear-chain conditional random field over the tags of each row.  (Lafferty et al., 2001)

        crf = nn.CRF(57)
        loss = ops.reduce_mean(crf.loss(emission, labels))
        path = crf(emission)

    transition: [tags + 2, tags]: the score of a tag at the start of a row, at its end, and, in row
    2 + a, column b, of tag b after tag a.
    """

    def __init__(self, tags: int) -> None:
        positive(tags=tags)
        self.transition = Parameter((tags + 2, tags), init.uniform(-0.1, 0.1))

    def __call__(self, emission: Ragged) -> Ragged:
        """The best tags of each row, int64 [T].  emission: the scores of tags, [T, tags]."""
        path, _ = o.crf_decode(emission.values, self.transition, emission.splits)
        return Ragged(path, emission.splits)

    def loss(self, emission: Ragged, labels: Any) -> Any:
        """-log of the probability of each row of labels, [N].  labels: integers [T], or Ragged."""
        labels = labels.values if isinstance(labels, Ragged) else labels
        return o.crf_sequence_loss(emission.values, self.transition, labels, emission.splits)[0]


class HSigmoidLoss(Module):
    """-log of the probability of a class, found in a binary tree of all classes: [N] of x [N, D].

    Costs the depth of the tree instead of the number of classes.  (Morin and Bengio, 2005)
    weight: [classes - 1, D] and bias: [classes - 1], of the inner nodes, which a tree of one's own
    (nodes and turns [N, L], see `ops.hsigmoid_loss`) may use as it likes.
    sparse: gradients are (ids, rows), and optimisers touch only those rows
    """

    def __init__(self, dim: int, classes: int, *, bias: bool = True, sparse: bool = False) -> None:
        positive(dim=dim, classes=classes - 1)
        self.weight = Parameter((classes - 1, dim), init.fan_in_uniform(dim))
        self.bias = Parameter((classes - 1,), init.fan_in_uniform(dim)) if bias else None
        self.classes, self.sparse = classes, sparse

    def __call__(self, x: Any, labels: Any, nodes: Any = None, turns: Any = None) -> Any:
        tree = {"classes": self.classes} if nodes is None else {"nodes": nodes, "turns": turns}
        return hsigmoid_loss(x, labels, self.weight, self.bias, sparse=self.sparse, **tree)
