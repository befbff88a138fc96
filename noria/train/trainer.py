"""The training loop: epochs, evaluation, progress, metrics, checkpoints, early stop, resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, EngineError
from noria.data.dataset import Dataset
from noria.data.reader import Reader
from noria.ir.program import Program
from noria.ir.save import save
from noria.passes.for_test import for_test
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope
from noria.train.checkpoint import Checkpoint, latest_checkpoint, save_checkpoint
from noria.train.events import EventWriter
from noria.train.progress import Progress
from noria.train.signals import StopSignals


@dataclass(slots=True)
class History:
    """What happened: one row per finished epoch, with 'epoch', 'loss' and the metrics."""

    rows: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""  # why training ended: 'finished', 'early stop', 'interrupted'

    def last(self, name: str) -> float:
        """The newest value of a metric, NaN if it was never measured."""
        return next((r[name] for r in reversed(self.rows) if name in r), float("nan"))


class Trainer:
    """Trains a Program on a Reader.

    program:    training Program (after an optimiser's `minimize`)
    reader:     batches whose names are the Program's inputs
    evaluation: data set measured after each epoch with the test form of the Program
    metric:     output that is shown, watched for early stop and called best
    directory:  where checkpoints, event files and the best model go; None: nothing is written
    every:      steps between checkpoints, besides one at the end of each epoch
    patience:   stop after so many epochs without a better evaluation metric; None: never
    """

    def __init__(
        self,
        program: Program,
        reader: Reader,
        *,
        evaluation: Dataset | None = None,
        loss: str = "loss",
        metric: str = "accuracy",
        higher_is_better: bool = True,
        directory: str | Path | None = None,
        every: int | None = None,
        keep: int = 3,
        patience: int | None = None,
        seed: int = 0,
        threads: int | None = None,
        progress: bool = True,
    ) -> None:
        program.output(loss)
        if metric not in program.outputs:
            metric = loss
            higher_is_better = False
        if patience is not None and evaluation is None:
            raise ArgumentError("early stop needs an evaluation data set", got=f"{patience=}")
        self.program, self.reader, self.evaluation = program, reader, evaluation
        self.loss, self.metric, self.higher = loss, metric, higher_is_better
        self.directory = Path(directory) if directory is not None else None
        self.every, self.keep, self.patience = every, keep, patience
        self.show = progress
        self.executor = Executor(program, seed=seed, threads=threads)
        self.scope: Scope = self.executor.scope
        self.tester = Executor(for_test(program), self.scope, threads=threads)
        self.history = History()
        self.step = 0
        self.best: float | None = None
        self.waited = 0
        self._signals = StopSignals()
        self._within_step = False

    # ---- the loop ------------------------------------------------------------------------------

    def fit(
        self,
        epochs: int,
        *,
        resume: bool = False,
        on_step: Callable[[int, dict[str, float]], None] | None = None,
    ) -> History:
        """Train until `epochs` epochs are finished (those before a resume counted).

        resume:  go on from the newest checkpoint of the directory, bit for bit
        on_step: called after each step with its number and the fetched numbers
        Ctrl-C or SIGTERM ends training when the present step is complete: a checkpoint is saved and
        history.stopped is 'interrupted'. A second one ends it at once, without a checkpoint.
        """
        if resume:
            self._resume()
        events = self._events(resume)
        self.history.stopped = "finished"
        try:
            progress = Progress(epochs, len(self.reader), enabled=self.show)
            with self._signals, progress as bar:
                for epoch in range(self.reader.epoch, epochs):
                    self._signals.check()
                    self._epoch(epoch, bar, events, on_step)
                    if self._should_stop():
                        self.history.stopped = "early stop"
                        break
        except KeyboardInterrupt:
            if self._within_step:
                raise  # state may be half updated: the last checkpoint is the one to go on from
            self.history.stopped = "interrupted"
            self.checkpoint()
        finally:
            if events is not None:
                events.close()
        return self.history

    def _epoch(self, epoch: int, bar: Progress, events: EventWriter | None, on_step: Any) -> None:
        totals = _Means()
        bar.start(epoch, done=self.reader.batch)
        start = time.perf_counter()
        for batch in self.reader:
            size = len(next(iter(batch.values())))
            numbers = self._step(batch)
            totals.add(numbers, size)
            bar.step(size, **numbers)
            if on_step is not None:
                on_step(self.step, numbers)
            if self.reader.batch:  # an epoch's last step is saved after its evaluation
                self._signals.check()
                if self.every and self.step % self.every == 0:
                    self.checkpoint()
        row = {"epoch": epoch + 1, **{f"train_{k}": v for k, v in totals.means().items()}}
        row["samples_per_second"] = totals.weight / max(time.perf_counter() - start, 1e-9)
        if self.evaluation is not None:
            row.update(self.evaluate(self.evaluation))
        self.history.rows.append(row)
        tested = {f"test_{k}": row[k] for k in (self.loss, self.metric) if k in row}
        bar.finish(**totals.means(), **tested)
        if events is not None:
            for k, v in row.items():
                if k != "epoch":
                    events.scalar(k, v, self.step)
            events.flush()
        self._remember_best(row)
        self.checkpoint()

    def _step(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        self._within_step = True
        got = self.executor.run(batch, _unique(self.loss, self.metric))
        self._within_step = False
        self.step += 1
        numbers = {k: float(v) for k, v in got.items()}
        if not np.isfinite(numbers[self.loss]):
            raise EngineError(
                f"the loss became {numbers[self.loss]} at step {self.step}",
                hint="a smaller learning rate, clip_norm=..., or look for bad input",
            )
        return numbers

    # ---- evaluation ----------------------------------------------------------------------------

    def evaluate(self, dataset: Dataset, batch_size: int | None = None) -> dict[str, float]:
        """Means of loss and metric over a data set, with the test form of the Program."""
        names = _unique(self.loss, self.metric)
        totals = _Means()
        size = batch_size or self.reader.batch_size
        for batch in Reader(dataset, min(size, len(dataset)), shuffle=False):
            got = self.tester.run(batch, names)
            totals.add({k: float(v) for k, v in got.items()}, len(next(iter(batch.values()))))
        return totals.means()

    # ---- checkpoints ---------------------------------------------------------------------------

    @property
    def checkpoints(self) -> Path | None:
        return None if self.directory is None else self.directory / "checkpoints"

    def checkpoint(self) -> Path | None:
        """Write a checkpoint now; None if the trainer has no directory."""
        if self.checkpoints is None:
            return None
        extra = {"history": self.history.rows, "best": self.best, "waited": self.waited}
        state = self.scope.state()
        point = Checkpoint(
            self.program, state, self.step, self.reader.epoch, self.reader.state(), extra
        )
        return save_checkpoint(self.checkpoints, point, self.keep)

    def _resume(self) -> None:
        if self.checkpoints is None:
            raise ArgumentError("resume needs the directory of the interrupted training")
        point = latest_checkpoint(self.checkpoints, self.program)
        for name, array in point.state.items():
            self.scope[name] = array
        self.reader.restore(point.reader)
        self.step = point.step
        self.history.rows = list(point.extra.get("history", []))
        self.best, self.waited = point.extra.get("best"), int(point.extra.get("waited", 0))

    def _events(self, resume: bool) -> EventWriter | None:
        if self.directory is None:
            return None
        return EventWriter(self.directory / "events", resume_step=self.step if resume else None)

    # ---- best model, early stop ----------------------------------------------------------------

    def _remember_best(self, row: Mapping[str, float]) -> None:
        value = row.get(self.metric)
        if value is None:
            return
        better = self.best is None or (value > self.best if self.higher else value < self.best)
        if not better:
            self.waited += 1
            return
        self.best, self.waited = value, 0
        if self.directory is not None:
            self.save_model(self.directory / "best.noria")

    def save_model(self, path: str | Path) -> None:
        """Save the test form of the Program with the present parameters."""
        program = self.tester.source
        arrays = self.scope.arrays
        save(program, path, {n: arrays[n].copy() for n in program.state})

    def _should_stop(self) -> bool:
        return self.patience is not None and self.waited >= self.patience


class _Means:
    """Running means weighted by batch size."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.weight = 0

    def add(self, numbers: Mapping[str, float], size: int) -> None:
        for k, v in numbers.items():
            self.sums[k] = self.sums.get(k, 0.0) + v * size
        self.weight += size

    def means(self) -> dict[str, float]:
        return {k: v / max(self.weight, 1) for k, v in self.sums.items()}


def _unique(*names: str) -> list[str]:
    return list(dict.fromkeys(names))
