"""DeepFM in PaddlePaddle."""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.nn import functional as F

from bench import data, sizes
from bench.rivals.paddle3.common import Run, latency, training
from bench.rivals.paddle3.dense import perceptron


class DeepFm(nn.Layer):
    """ids [N, 26], dense [N, 13] -> logit [N]; gradients of the tables are of touched rows."""

    def __init__(self, m: sizes.DeepFm) -> None:
        super().__init__()
        self.table = nn.Embedding(m.rows, m.width, sparse=True)
        self.linear = nn.Embedding(m.rows, 1, sparse=True)
        self.fc, self.mlp = nn.Linear(m.dense, 1), perceptron(m.mlp)

    def forward(self, ids: Any, dense: Any) -> Any:
        e = self.table(ids)
        fm = 0.5 * (e.sum(1).square() - e.square().sum(1)).sum(1)
        deep = self.mlp(paddle.concat([e.flatten(1), dense], 1))
        return fm + self.linear(ids).sum([1, 2]) + (self.fc(dense) + deep)[:, 0]


def deepfm_train() -> Run:
    model = DeepFm(sizes.DEEPFM)
    rate = sizes.RATE["deepfm_train"]
    adagrad = paddle.optimizer.Adagrad(rate, parameters=model.parameters())

    def loss_of(ids: Any, dense: Any, label: Any) -> Any:
        return F.binary_cross_entropy_with_logits(model(ids, dense), label)

    batches = [tuple(b) for b in data.click_batches()]
    return training(loss_of, adagrad, batches)


def deepfm_latency() -> Run:
    clicks = data.clicks(1)
    return latency(DeepFm(sizes.DEEPFM), clicks.ids, clicks.dense)


MAKERS = {"deepfm_train": deepfm_train, "deepfm_latency": deepfm_latency}
