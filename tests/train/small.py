"""A small network with everything that makes resuming hard, and a trainer of it.

Run as a program it trains in a process of its own: `python small.py DIRECTORY THREADS KILLED_AT`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from noria.data.dataset import ArrayDataset
from noria.data.reader import Reader
from noria.ir.program import Program
from noria.ir.trace import spec, trace
from noria.nn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU
from noria.nn.module import Module, Sequential
from noria.optim.optimizer import Adam
from noria.optim.schedules import cosine
from noria.train.trainer import Trainer
from noria.zoo.digits import classify

EPOCHS, BATCH, SAMPLES = 3, 8, 50
STEPS = 7  # of an epoch; the last one takes two samples


class SmallNet(Module):
    """[N, 1, 4, 4] -> logits [N, 3], through batch norm and dropout."""

    def __init__(self, hidden: int = 8) -> None:
        self.body = Sequential(
            Conv2d(1, 4, 3, padding=1, bias=False),
            BatchNorm2d(4),
            ReLU(),
            MaxPool2d(2),  # [N, 4, 2, 2]
            Flatten(),
            Dropout(0.3),
            Linear(16, hidden),
            ReLU(),
            Linear(hidden, 3),
        )

    def __call__(self, image: Any) -> Any:
        return self.body(image)


def forward(hidden: int = 8, name: str = "small") -> Program:
    inputs = {"image": spec("N", 1, 4, 4), "label": spec("N", dtype="int64")}
    return trace(classify(SmallNet(hidden)), name=name, **inputs)


def training(hidden: int = 8, name: str = "small") -> Program:
    rate = cosine(2e-2, EPOCHS * STEPS, 1e-4)
    return Adam(rate).minimize(forward(hidden, name))


def samples(count: int = SAMPLES, seed: int = 0) -> ArrayDataset:
    """Three classes, each a bright row or column among noise."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, count)
    image = rng.normal(0, 0.5, (count, 1, 4, 4)).astype(np.float32)
    image[label == 0, 0, 0, :] += 1
    image[label == 1, 0, 3, :] += 1
    image[label == 2, 0, :, 1] += 1
    return ArrayDataset({"image": image, "label": label})


def trainer(directory: Path | None = None, **options: Any) -> Trainer:
    options.setdefault("evaluation", samples(20, seed=1))
    options.setdefault("threads", 1)
    reader = options.pop("reader", None) or Reader(samples(), BATCH, seed=5)
    program = options.pop("program", None) or training()
    return Trainer(program, reader, directory=directory, seed=3, progress=False, **options)


def main(directory: str, threads: str, killed_at: str) -> None:
    """Trains, killed by SIGKILL after a step; resumes where there is something to resume."""

    def kill(step: int, numbers: dict[str, float]) -> None:
        if step == int(killed_at):
            os.kill(os.getpid(), signal.SIGKILL)

    made = trainer(Path(directory), threads=int(threads), every=4)
    made.fit(EPOCHS, resume=(Path(directory) / "checkpoints").is_dir(), on_step=kill)


if __name__ == "__main__":
    main(*sys.argv[1:])
