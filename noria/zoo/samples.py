"""Training Programs by name, to be profiled and looked at: the recipes, and larger networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from noria.core.errors import MissingError, nearest
from noria.ir.program import Program
from noria.ir.trace import spec, trace
from noria.nn.module import Module
from noria.optim.optimizer import Adam, Momentum
from noria.zoo.digits import classify
from noria.zoo.lenet import LeNet
from noria.zoo.mlp import MLP
from noria.zoo.recipes import RECIPES
from noria.zoo.resnet import ResNet


@dataclass(frozen=True, slots=True)
class Sample:
    """A training Program. sizes: those it is usually run with."""

    about: str
    program: Callable[[], Program]
    sizes: Mapping[str, int]


def _images(name: str, model: Callable[[], Module], image: tuple[int, ...]) -> Program:
    inputs = {"image": spec("N", *image), "label": spec("N", dtype="int64")}
    forward = trace(classify(model()), name=name, **inputs)
    small = 1e-4  # a batch that repeats must not be learnt: gradients would become denormal
    return (Momentum(small, 0.9) if name == "resnet50" else Adam(small)).minimize(forward)


SAMPLES: Mapping[str, Sample] = {
    "mlp": Sample(
        "perceptron 784-512-512-10, Adam",
        lambda: _images("mlp", lambda: MLP(784, 512, 512, 10), (784,)),
        {"N": 128},
    ),
    "lenet": Sample(
        "LeNet on 28x28, Adam", lambda: _images("lenet", LeNet, (1, 28, 28)), {"N": 64}
    ),
    "resnet50": Sample(
        "ResNet-50 v1.5 on 224x224, momentum",
        lambda: _images("resnet50", ResNet, (3, 224, 224)),
        {"N": 16},
    ),
    **{
        r.name: Sample(r.about, lambda r=r: r.program(r.epochs, 100), {"N": r.batch_size})  # type: ignore[misc]
        for r in RECIPES.values()
    },
}


def sample(name: str) -> Sample:
    """The sample of that name. Raises MissingError."""
    if name not in SAMPLES:
        raise MissingError(f"no sample is called '{name}'", hint=nearest(name, SAMPLES))
    return SAMPLES[name]
