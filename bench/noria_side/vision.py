"""Convolutional networks in noria."""

from __future__ import annotations

from functools import partial
from typing import Any

import noria
from bench import data, sizes
from bench.noria_side.common import Run, inference, int_spec, training
from noria import optim
from noria.zoo.digits import classify
from noria.zoo.lenet import LeNet
from noria.zoo.mobilenet import MobileNetV2
from noria.zoo.resnet import ResNet

RESNET = "resnet50_train_fp32"


def training_program(workload: str, recompute: optim.Budget | None = None) -> Any:
    """Training Program of an image classifier."""
    lenet = workload == "lenet_train"
    model = LeNet() if lenet else ResNet()
    image = noria.spec("N", 1, 28, 28) if lenet else noria.spec("N", 3, 224, 224)
    forward = noria.trace(classify(model), name=workload, image=image, label=int_spec("N"))
    rate = sizes.RATE[workload]
    method = optim.Adam(rate) if lenet else optim.Momentum(rate, 0.9)
    return method.minimize(forward, recompute=recompute)


def budget() -> optim.Budget:
    """What ResNet-50's training may keep where memory is short: what does not fit is computed
    again."""
    return optim.Budget(sizes.KEPT_BYTES, N=sizes.BATCH[RESNET])


def train(workload: str, recompute: optim.Budget | None = None, **how: Any) -> Run:
    x, y = data.classified(workload)
    return training(training_program(workload, recompute), [{"image": x, "label": y}], **how)


def infer(workload: str, **how: Any) -> Run:
    x, _ = data.classified(workload)
    model = MobileNetV2() if workload.startswith("mobilenet") else ResNet()
    program = noria.trace(lambda image: model(image), image=noria.spec("N", 3, 224, 224))
    return inference(program, {"image": x}, **how)


MAKERS = {
    "lenet_train": partial(train, "lenet_train"),
    "resnet50_train_fp32": partial(train, "resnet50_train_fp32"),
    "mobilenet_v2_infer_bs1": partial(infer, "mobilenet_v2_infer_bs1"),
    "resnet50_infer_bs1": partial(infer, "resnet50_infer_bs1"),
    "resnet50_train_bf16": partial(train, "resnet50_train_bf16", precision="bf16"),
    "resnet50_infer_bs16": partial(infer, "resnet50_infer_bs16", streams="auto"),
    "resnet50_infer_bs16_bf16": partial(
        infer, "resnet50_infer_bs16_bf16", streams="auto", precision="bf16"
    ),
}
