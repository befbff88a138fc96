"""Softmax over a tree of words in Caffe2."""

from typing import Any

import numpy as np
import pytest

from noria.convert.messages import schema
from noria.core.errors import NoriaError

RNG = np.random.default_rng(9)
TREE = {0: [(0, 3, 0)], 2: [(0, 3, 1), (3, 2, 0)], 3: [(0, 3, 1), (3, 2, 1)], 5: [(0, 3, 2)]}
X, W = RNG.normal(size=(3, 4)).astype(np.float32), RNG.normal(size=(5, 4)).astype(np.float32)
B, LABELS = RNG.normal(size=5).astype(np.float32), np.array([3, 0, 2], np.int32)


def encoded(tree: dict[int, Any]) -> bytes:
    message = schema("hsm").HierarchyProto(size=len(tree))
    for word, nodes in tree.items():
        path = message.paths.add(word_id=word)
        for index, length, target in nodes:
            path.path_nodes.add(index=index, length=length, target=target)
    return message.SerializeToString()


def walked(x: Any, w: Any, b: Any) -> tuple[Any, Any]:
    loss, met = np.zeros(len(x)), []
    for n, label in enumerate(LABELS):
        for index, length, target in TREE[int(label)]:
            logits = w[index : index + length] @ x[n] + b[index : index + length]
            probs = np.exp(logits - logits.max())
            probs /= probs.sum()
            loss[n] -= np.log(probs[target])
            met += [logits, probs]
    return loss, np.concatenate(met)


def test_the_loss_adds_up_along_the_path(run: Any) -> None:
    loss, met = run("HSoftmax", X, W, B, LABELS, outputs=2, hierarchy=encoded(TREE))
    want = walked(X, W, B)
    assert np.allclose(loss, want[0], atol=1e-5) and np.allclose(met, want[1], atol=1e-5)


def test_gradients_are_slopes_of_the_loss(run: Any) -> None:
    met, dy = walked(X, W, B)[1].astype(np.float32), np.array([1.0, -2.0, 0.5], np.float32)
    given = (X, W, B, LABELS, met, dy)
    grads = run("HSoftmaxGradient", *given, outputs=4, hierarchy=encoded(TREE))
    assert grads[3].shape == met.shape
    for i, grad in enumerate(grads[:3]):
        for at in np.ndindex(*grad.shape):
            sides = []
            for step in (1e-5, -1e-5):
                moved = [v.astype(np.float64) for v in (X, W, B)]
                moved[i][at] += step
                sides.append((walked(*moved)[0] * dy).sum())
            assert np.isclose(grad[at], (sides[0] - sides[1]) / 2e-5, atol=1e-4)


def test_a_tree_that_does_not_fit_is_refused(run: Any) -> None:
    with pytest.raises(NoriaError, match="does not fit the weights"):
        run("HSoftmax", X, W, B, LABELS, outputs=2, hierarchy=encoded({0: [(3, 4, 0)]}))
    with pytest.raises(NoriaError):
        run("HSoftmax", X, W, B, LABELS - 2, outputs=2, hierarchy=encoded(TREE))
    with pytest.raises(NoriaError):  # no path leads to word 1
        run("HSoftmax", X, W, B, LABELS * 0 + 1, outputs=2, hierarchy=encoded(TREE))
    with pytest.raises(NoriaError, match="HierarchyProto"):
        run("HSoftmax", X, W, B, LABELS, outputs=2, hierarchy=b"\x12\xff")
