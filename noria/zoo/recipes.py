"""Recipes: a model, its data and the settings that train it, by name. `noria train NAME`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from noria.core.errors import MissingError, nearest
from noria.data.dataset import ArrayDataset
from noria.data.reader import Reader
from noria.data.sources import digits, fashion_mnist
from noria.ir.program import Program
from noria.ir.trace import spec, trace
from noria.nn.module import Module
from noria.optim.optimizer import Adam
from noria.optim.schedules import cosine
from noria.zoo.digits import DigitsNet, classify
from noria.zoo.fashion_mnist import FashionNet

Load = Callable[..., ArrayDataset]


@dataclass(frozen=True)
class Recipe:
    """What `noria train` needs.

    image: shape of one image; rate: the first learning rate, which falls to a hundredth
    """

    name: str
    about: str
    model: Callable[[], Module]
    data: Load
    image: tuple[int, ...]
    epochs: int
    batch_size: int
    rate: float

    def program(self, epochs: int, batches: int) -> Program:
        """The training Program, its learning rate falling along a cosine over all steps."""
        image, label = spec("N", *self.image), spec("N", dtype="int64")
        step, name = classify(self.model()), self.name.replace("-", "_")
        forward = trace(step, name=name, image=image, label=label)
        return Adam(cosine(self.rate, max(1, epochs * batches), self.rate / 100)).minimize(forward)

    def readers(self, batch_size: int, seed: int, data: Path | None) -> tuple[Reader, ArrayDataset]:
        """(training reader, test set)."""
        train, test = self.data("train", data), self.data("test", data)
        return Reader(train, batch_size, seed=seed), test


RECIPES = {
    r.name: r
    for r in (
        Recipe(
            "digits",
            "UCI handwritten digits, 1,797 images of 8x8 (they come with scikit-learn)",
            DigitsNet,
            digits,
            (1, 8, 8),
            epochs=20,
            batch_size=32,
            rate=2e-3,
        ),
        Recipe(
            "fashion-mnist",
            "Fashion-MNIST, 70,000 images of clothes of 28x28 (downloaded if not here)",
            FashionNet,
            fashion_mnist,
            (1, 28, 28),
            epochs=6,
            batch_size=128,
            rate=2e-3,
        ),
    )
}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises MissingError."""
    if name not in RECIPES:
        raise MissingError(f"no recipe is called '{name}'", hint=nearest(name, RECIPES))
    return RECIPES[name]
