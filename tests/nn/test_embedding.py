"""Bags and features in one table; `Embedding` itself is tested with the other layers."""

import numpy as np
import pytest

from noria import nn, optim
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor

IDS = np.array([[1, 2, 2], [0, 5, 1]])
PACKED, SPLITS = np.array([4, 1, 1, 0, 5, 5]), np.array([0, 2, 2, 5, 6])
WEIGHTS = np.linspace(-1, 2, 6, dtype=np.float32)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding_idx", [None, 1])
def test_bags_are_those_of_pytorch(mode, padding_idx):
    torch = pytest.importorskip("torch")
    layer = nn.EmbeddingBag(6, 3, mode=mode, padding_idx=padding_idx)
    table = torch.from_numpy(layer.state()["weight"])
    bag = torch.nn.EmbeddingBag.from_pretrained(table, mode=mode, padding_idx=padding_idx)
    np.testing.assert_allclose(layer(IDS), bag(torch.from_numpy(IDS)).numpy(), rtol=1e-6)
    want = bag(torch.from_numpy(PACKED), torch.from_numpy(SPLITS[:-1])).numpy()
    np.testing.assert_allclose(layer(PACKED, SPLITS), want, rtol=1e-6)


def test_weights_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    layer = nn.EmbeddingBag(6, 3, mode="sum")
    table = torch.from_numpy(layer.state()["weight"])
    bag = torch.nn.EmbeddingBag.from_pretrained(table, mode="sum")
    given = [torch.from_numpy(a) for a in (PACKED, SPLITS[:-1], WEIGHTS)]
    want = bag(*given).numpy()
    np.testing.assert_allclose(layer(PACKED, SPLITS, WEIGHTS), want, rtol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_a_bag_learns_what_was_asked_of_it(sparse, packed):
    layer = nn.EmbeddingBag(6, 2, mode="mean", sparse=sparse)
    splits = {"splits": spec("M", dtype="int64")} if packed else {}
    ids = spec("T", dtype="int64") if packed else spec("N", 3, dtype="int64")

    def step(ids, splits=None):
        return {"loss": o.reduce_mean(o.square(layer(ids, splits) - 1.0))}

    executor = Executor(optim.Adagrad(0.5).minimize(trace(step, ids=ids, **splits)))
    feeds = {"ids": PACKED, "splits": SPLITS[[0, 2, 3, 4]]} if packed else {"ids": IDS}
    losses = [float(executor.run(feeds)["loss"]) for _ in range(40)]
    assert losses[-1] < 0.02 * losses[0]
    others = np.setdiff1d(np.arange(6), feeds["ids"])
    np.testing.assert_array_equal(executor.scope["weight"][others], layer.state()["weight"][others])


def test_features_have_their_own_rows_of_one_table():
    layer = nn.FieldEmbedding([3, 1, 5], 2, sparse=True)
    assert {n: p.shape for n, p in layer.state().items()} == {"table.weight": (9, 2)}
    table = layer.state()["table.weight"]
    ids = np.array([[0, 0, 4], [2, 0, 0]])
    np.testing.assert_array_equal(layer(ids), table[[[0, 3, 8], [2, 3, 4]]])
    program = trace(layer, ids=spec("N", 3, dtype="int64"))
    np.testing.assert_array_equal(Predictor(program, layer.state())(ids=ids), layer(ids))


@pytest.mark.parametrize("wrong", [[3, 0, 0], [0, 1, 0], [0, 0, 5], [-1, 0, 0]])
def test_an_id_of_another_feature_is_refused(wrong):
    layer = nn.FieldEmbedding([3, 1, 5], 2)
    predictor = Predictor(trace(layer, ids=spec("N", 3, dtype="int64")), layer.state())
    for call in (layer, lambda ids: predictor(ids=ids)):
        with pytest.raises(ArgumentError, match="outside feature"):
            call(np.array([[0, 0, 0], wrong]))


def test_bad_sizes_and_modes_are_refused():
    for make in (
        lambda: nn.EmbeddingBag(6, 3, mode="min"),
        lambda: nn.EmbeddingBag(0, 3),
        lambda: nn.FieldEmbedding([3, 0], 2),
        lambda: nn.FieldEmbedding([3, 1.5], 2),
    ):
        with pytest.raises(ArgumentError):
            make()
    with pytest.raises(ShapeError, match="features"):
        nn.FieldEmbedding([3, 4], 2)(np.zeros((2, 3), int))
