"""What all families of noria's side share: a Program run on batches taken in turn."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import noria

Run = Callable[[int], None]
Feeds = Mapping[str, np.ndarray]


def training(program: Any, batches: Sequence[Feeds], **how: Any) -> Run:
    """Steps of a training Program with an output `loss`, read once at the end of a run."""
    executor = noria.Executor(program, **how)
    turn = itertools.cycle(batches)

    def run(steps: int) -> None:
        for _ in range(steps - 1):
            executor.run(next(turn), [])
        loss = executor.run(next(turn), ["loss"])["loss"]
        assert np.isfinite(loss)

    return run


def inference(program: Any, feeds: Feeds, **how: Any) -> Run:
    """Calls of a Predictor, arrays in and arrays out."""
    scope = noria.Scope().initialize(program)
    return _calls(noria.Predictor(program, scope.state(), **how), feeds)


def serving(path: Path, feeds: Feeds, **how: Any) -> Run:
    """The same with a saved model, as the rivals read theirs."""
    return _calls(noria.Predictor.load(path, **how), feeds)


def _calls(predictor: noria.Predictor, feeds: Feeds) -> Run:
    def run(steps: int) -> None:
        for _ in range(steps):
            predictor.run(feeds)

    return run


def int_spec(*shape: Any) -> Any:
    """The spec of ids and labels."""
    return noria.spec(*shape, dtype="int64")
