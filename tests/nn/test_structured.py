import numpy as np
import pytest

from noria import nn, optim
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.ops.crf import crf_decode
from noria.runtime.executor import Executor

SPLITS = np.array([0, 3, 3, 7])
TRUE = np.array([0, 1, 2, 1, 2, 0, 1])  # 0 1 2 0 1 2: only the order tells


def test_a_field_learns_the_order_of_tags():
    crf = nn.CRF(3)

    def step(e, labels, splits):
        return {"loss": o.reduce_sum(crf.loss(nn.Ragged(e, splits), labels))}

    specs = {
        "e": spec("T", 3),
        "labels": spec("T", dtype="int64"),
        "splits": spec(4, dtype="int64"),
    }
    program = optim.SGD(0.5).minimize(trace(step, **specs))
    executor = Executor(program, threads=1)
    feeds = {"e": np.zeros((7, 3), np.float32), "labels": TRUE, "splits": SPLITS}
    losses = [executor.run(feeds)["loss"] for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
    weights = executor.scope.state()["transition"]
    assert crf_decode(feeds["e"], weights, SPLITS)[0].tolist() == TRUE.tolist()


def test_a_path_is_as_ragged_as_the_scores():
    crf = nn.CRF(2)
    emission = nn.Ragged(np.array([[5, 0], [0, 5], [0, 5]], np.float32), np.array([0, 2, 2, 3]))
    path = crf(emission)
    assert [r.tolist() for r in path.rows()] == [[0, 1], [], [1]]
    assert crf.loss(emission, path).shape == (3,)


def test_a_tree_of_classes_is_learnt():
    layer = nn.HSigmoidLoss(4, 6)
    program = trace(
        lambda x, y: {"loss": o.reduce_mean(layer(x, y))},
        x=spec("N", 4),
        y=spec("N", dtype="int64"),
    )
    executor = Executor(optim.SGD(1.0).minimize(program), threads=1)
    feeds = {"x": np.eye(4, dtype=np.float32), "y": np.array([0, 5, 2, 3])}
    losses = [executor.run(feeds)["loss"] for _ in range(50)]
    assert losses[-1] < 0.2 * losses[0]


def test_a_tree_of_ones_own_needs_no_labels():
    layer = nn.HSigmoidLoss(4, 3, bias=False)
    cost = layer(np.zeros((2, 4), np.float32), None, np.array([[0, 1], [1, -1]]), np.ones((2, 2)))
    assert np.allclose(cost, [2 * np.log(2), np.log(2)])


@pytest.mark.parametrize("make", [lambda: nn.CRF(0), lambda: nn.HSigmoidLoss(4, 1)])
def test_what_makes_no_sense_is_refused(make):
    with pytest.raises(ArgumentError):
        make()
