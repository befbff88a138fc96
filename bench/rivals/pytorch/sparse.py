"""DeepFM in PyTorch. (Guo et al., 2017)"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from bench import data, sizes
from bench.rivals.pytorch.common import Run, predicting, training
from bench.rivals.pytorch.dense import perceptron


class DeepFm(nn.Module):
    """ids [N, 26], dense [N, 13] -> logit [N]."""

    def __init__(self, m: sizes.DeepFm) -> None:
        super().__init__()
        self.table, self.linear = nn.Embedding(m.rows, m.width), nn.Embedding(m.rows, 1)
        self.fc, self.mlp = nn.Linear(m.dense, 1), perceptron(m.mlp)

    def forward(self, ids: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        e = self.table(ids)
        fm = 0.5 * (e.sum(1).square() - e.square().sum(1)).sum(1)
        deep = self.mlp(torch.cat([e.flatten(1), dense], 1))
        return fm + self.linear(ids).sum((1, 2)) + (self.fc(dense) + deep)[:, 0]


def deepfm_train() -> Run:
    """With dense gradients and the fused update of all rows; PyTorch fuses none of sparse ones."""
    model = DeepFm(sizes.DEEPFM)
    rate = sizes.RATE["deepfm_train"]
    adagrad = torch.optim.Adagrad(model.parameters(), rate, fused=True)
    batches = [tuple(map(torch.from_numpy, b)) for b in data.click_batches()]

    def loss_of(ids: torch.Tensor, dense: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(model(ids, dense), label)

    return training(loss_of, adagrad, batches)


def deepfm_latency() -> Run:
    """NumPy in, NumPy out."""
    model = predicting(DeepFm(sizes.DEEPFM))
    ids, dense, _ = data.clicks(1)

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                model(torch.from_numpy(ids), torch.from_numpy(dense)).numpy()

    return run


MAKERS = {"deepfm_train": deepfm_train, "deepfm_latency": deepfm_latency}
