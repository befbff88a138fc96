"""Convolutional networks in PyTorch, channels last, which is its fastest layout here."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional as F

from bench import data, sizes
from bench.rivals.pytorch.common import LAST, Run, autocast, inference, training
from bench.rivals.pytorch.vision_networks import lenet, mobilenet_v2, resnet50


def train(workload: str) -> Run:
    images, labels = map(torch.from_numpy, data.classified(workload))
    small = workload == "lenet_train"
    model = (lenet() if small else resnet50()).to(memory_format=LAST)
    rate = sizes.RATE[workload]
    optimizer: torch.optim.Optimizer = (
        torch.optim.Adam(model.parameters(), rate, fused=True)
        if small
        else torch.optim.SGD(model.parameters(), rate, momentum=0.9, fused=True)
    )

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with autocast(workload):
            return F.cross_entropy(model(x), y)

    return training(loss_of, optimizer, [(images.contiguous(memory_format=LAST), labels)])


def infer(workload: str) -> Run:
    dtype = torch.bfloat16 if workload.endswith("_bf16") else torch.float32
    model = mobilenet_v2() if workload.startswith("mobilenet") else resnet50()
    images, _ = data.classified(workload)
    x = torch.from_numpy(images).to(dtype).contiguous(memory_format=LAST)
    return inference(model.to(dtype).to(memory_format=LAST), x)


TRAINED = ("lenet_train", "resnet50_train_fp32", "resnet50_train_bf16")
INFERRED = (
    "resnet50_infer_bs1",
    "resnet50_infer_bs16",
    "resnet50_infer_bs16_bf16",
    "mobilenet_v2_infer_bs1",
)
MAKERS = {w: partial(train, w) for w in TRAINED} | {w: partial(infer, w) for w in INFERRED}
