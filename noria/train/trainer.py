"""The training loop: epochs, evaluation, progress, metrics, checkpoints, early stop, resume."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from noria.core.errors import (
    ArgumentError,
    EngineError,
    ExtraMissing,
    FormatError,
    ShapeError,
)
from noria.data.dataset import Dataset
from noria.data.reader import Reader
from noria.ir.program import Program
from noria.ir.save import save
from noria.passes.for_test import for_test
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope
from noria.train.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    list_checkpoints,
    save_checkpoint,
)
from noria.train.events import EventWriter
from noria.train.progress import Progress
from noria.train.signals import StopAsked, StopSignals


@dataclass(slots=True)
class History:
    """What happened: one row per finished epoch, with 'epoch', 'loss' and the metrics."""

    rows: list[dict[str, float]] = field(default_factory=list)
    stopped: str = ""  # why: 'finished', 'early stop', 'interrupted'; '' while it runs or failed

    def last(self, name: str) -> float:
        """The newest value of a metric, NaN if it was never measured."""
        return next((r[name] for r in reversed(self.rows) if name in r), float("nan"))


class Trainer:
    """Trains a Program on a Reader.

    program:    training Program (after an optimiser's `minimize`)
    reader:     batches whose names are the Program's inputs
    evaluation: data set measured after each epoch with the test form of the Program
    loss:       scalar output that training lowers
    metric:     scalar output that is shown, watched for early stop and called best; by default
                'accuracy' if the Program has it, else the loss
    higher_is_better: of the metric; by default for all but the loss
    directory:  where checkpoints, event files and the best model go; None: nothing is written
    every:      steps between checkpoints, besides one at the end of each epoch
    keep:       so many of the newest checkpoints
    check_finite: as of `Executor`: stop at the operator that gives the first NaN, and name it
    patience:   stop after so many epochs without a better evaluation metric; None: never
    precision:  of the Executors, default the flag `precision`

    Raises ArgumentError for numbers that make no sense or a Program that updates no parameter,
    MissingError for an output it does not have, ShapeError for one that is not a scalar.
    """

    def __init__(
        self,
        program: Program,
        reader: Reader,
        *,
        evaluation: Dataset | None = None,
        loss: str = "loss",
        metric: str | None = None,
        higher_is_better: bool | None = None,
        directory: str | Path | None = None,
        every: int | None = None,
        keep: int = 3,
        patience: int | None = None,
        seed: int = 0,
        threads: int | None = None,
        precision: str | None = None,
        progress: bool = True,
        check_finite: bool | str | None = None,
    ) -> None:
        if metric is None:
            metric = "accuracy" if "accuracy" in program.outputs else loss
        _check_numbers(every=every, keep=keep, patience=patience)
        _check_program(program, loss, metric)
        if patience is not None and evaluation is None:
            raise ArgumentError("early stop needs an evaluation data set", got=f"{patience=}")
        self.program, self.reader, self.evaluation = program, reader, evaluation
        self.loss, self.metric = loss, metric
        self.higher = metric != loss if higher_is_better is None else higher_is_better
        self.directory = Path(directory) if directory is not None else None
        self.every, self.keep, self.patience = every, keep, patience
        self.show = progress
        how: dict[str, Any] = {"threads": threads, "precision": precision}
        self.executor = Executor(program, seed=seed, check_finite=check_finite, **how)
        self.scope: Scope = self.executor.scope
        self.tester = Executor(for_test(program), self.scope, **how)
        self.history = History()
        self.step = 0
        self.best: float | None = None
        self.waited = 0
        self._means = _Means()  # of the present epoch
        self._signals = StopSignals()

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
        history.stopped is 'interrupted'. A second one ends it at once with KeyboardInterrupt and
        without a checkpoint.
        Raises EngineError if the loss is not finite (NonFiniteError where check_finite looks at
        every operator) or the disk is full, ArgumentError if the
        directory holds an earlier run that is not resumed, MissingError if there is none to resume.
        """
        self.history.stopped = ""
        if resume:
            self._resume()
        elif self.step == 0:
            self._need_unused()
        events = self._events(resume)
        try:
            progress = Progress(epochs, len(self.reader), enabled=self.show)
            with self._signals, progress as bar:
                self.history.stopped = self._epochs(epochs, bar, events, on_step)
        except StopAsked:
            self.checkpoint()
            self.history.stopped = "interrupted"
        finally:
            if events is not None:
                events.close()
        return self.history

    def _epochs(self, epochs: int, bar: Progress, events: EventWriter | None, on_step: Any) -> str:
        """Why it ended."""
        for epoch in range(self.reader.epoch, epochs):
            if self._should_stop():
                return "early stop"
            self._signals.check()
            bar.start(epoch, done=self.reader.batch)
            rate = self._steps(bar, on_step)
            row = self._finish(epoch, rate, bar)
            if events is not None:
                _write(events, row, self.step)
            self._remember_best(row)
            self.checkpoint()
        return "finished"

    def _steps(self, bar: Progress, on_step: Any) -> float:
        """The rest of the present epoch; samples per second."""
        if not self.reader.batch:
            self._means = _Means()
        start, before = time.perf_counter(), self._means.weight
        for batch in self.reader:
            size = len(next(iter(batch.values())))
            numbers = self._step(batch)
            self._means.add(numbers, size)
            bar.step(size, **numbers)
            if on_step is not None:
                on_step(self.step, numbers)
            if not self.reader.batch:  # a reader of several epochs would go on
                break  # and an epoch's last step is saved after its evaluation
            self._signals.check()
            if self.every and self.step % self.every == 0:
                self.checkpoint()
        return (self._means.weight - before) / max(time.perf_counter() - start, 1e-9)

    def _finish(self, epoch: int, rate: float, bar: Progress) -> dict[str, float]:
        """The row of a finished epoch, evaluation included."""
        means = self._means.means()
        row = {"epoch": epoch + 1, **{f"train_{k}": v for k, v in means.items()}}
        row["samples_per_second"] = rate
        if self.evaluation is not None:
            row.update(self.evaluate(self.evaluation))
        self.history.rows.append(row)
        tested = {f"test_{k}": row[k] for k in (self.loss, self.metric) if k in row}
        bar.finish(**means, **tested)
        return row

    def _step(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        got = self.executor.run(batch, _unique(self.loss, self.metric))
        self.step += 1
        numbers = {k: float(v) for k, v in got.items()}
        if not math.isfinite(numbers[self.loss]):
            raise EngineError(
                f"the loss became {numbers[self.loss]} at step {self.step}",
                hint="a smaller learning rate, clip_norm=..., or look for bad input; "
                "check_finite=True, or NORIA_CHECK_FINITE=1, names the operator",
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
        """Write a checkpoint now; None if the trainer has no directory.

        Raises EngineError if the disk is full; those before it are then still whole.
        """
        if self.checkpoints is None:
            return None
        extra = {
            "history": self.history.rows,
            "best": self.best,
            "waited": self.waited,
            "sums": self._means.sums,
            "weight": self._means.weight,
        }
        state = self.scope.state()
        point = Checkpoint(
            self.program, state, self.step, self.reader.epoch, self.reader.state(), extra
        )
        return save_checkpoint(self.checkpoints, point, self.keep)

    def _resume(self) -> None:
        if self.checkpoints is None:
            raise ArgumentError("resume needs the directory of the interrupted training")
        point = latest_checkpoint(self.checkpoints, self.program)
        extra = _checked(point.extra, str(self.checkpoints))
        self.reader.restore(point.reader)  # first: it may refuse
        for name, array in point.state.items():
            self.scope[name] = array
        self.step = point.step
        self.history.rows = extra["history"]
        self.best, self.waited = extra["best"], extra["waited"]
        self._means = _Means(extra["sums"], extra["weight"])

    def _need_unused(self) -> None:
        if self.checkpoints is not None and list_checkpoints(self.checkpoints):
            raise ArgumentError(
                "this directory holds an earlier run",
                where=str(self.directory),
                hint="fit(..., resume=True) to go on, or another directory",
            )

    def _events(self, resume: bool) -> EventWriter | None:
        if self.directory is None:
            return None
        first = self.step + 1 if resume else None  # what was written at `step` itself stays
        try:
            return EventWriter(self.directory / "events", resume_step=first)
        except ExtraMissing as error:
            warnings.warn(f"no event files: {error}", stacklevel=3)
            return None

    # ---- best model, early stop ----------------------------------------------------------------

    def _remember_best(self, row: Mapping[str, float]) -> None:
        value = row.get(self.metric)
        if value is None:
            return
        if not self._better(value):
            self.waited += 1
            return
        self.best, self.waited = value, 0
        if self.directory is not None:
            self.save_model(self.directory / "best.noria")

    def _better(self, value: float) -> bool:
        if math.isnan(value) or self.best is None:
            return not math.isnan(value)
        return value > self.best if self.higher else value < self.best

    def save_model(self, path: str | Path) -> None:
        """Save the test form of the Program with the present parameters."""
        program = self.tester.program
        arrays = self.scope.arrays
        save(program, path, {n: arrays[n].copy() for n in program.state})

    def _should_stop(self) -> bool:
        return self.patience is not None and self.waited >= self.patience


@dataclass(slots=True)
class _Means:
    """Running means weighted by batch size."""

    sums: dict[str, float] = field(default_factory=dict)
    weight: int = 0

    def add(self, numbers: Mapping[str, float], size: int) -> None:
        for k, v in numbers.items():
            self.sums[k] = self.sums.get(k, 0.0) + v * size
        self.weight += size

    def means(self) -> dict[str, float]:
        return {k: v / max(self.weight, 1) for k, v in self.sums.items()}


def _write(events: EventWriter, row: Mapping[str, float], step: int) -> None:
    for name, value in row.items():
        if name != "epoch":
            events.scalar(name, value, step)
    events.flush()


def _check_numbers(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ArgumentError(f"{name} must be at least 1", got=repr(number))


def _check_program(program: Program, *names: str) -> None:
    for name in names:
        value = program.output(name)
        if value.shape:
            raise ShapeError(f"output '{name}' is not a scalar", got=str(value))
    if not any(program.state[n].trainable for n in program.updates):
        raise ArgumentError(
            f"Program '{program.name}' updates no parameter",
            hint="Adam(1e-3).minimize(program)",
        )


_EXTRA: Mapping[str, type | tuple[type, ...]] = {
    "history": list,
    "best": (float, int, type(None)),
    "waited": int,
    "sums": dict,
    "weight": int,
}


def _checked(extra: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """What `Trainer.checkpoint` put into a checkpoint. Raises FormatError if it is not."""
    for name, kind in _EXTRA.items():
        if name not in extra or not isinstance(extra[name], kind):
            raise FormatError(
                f"the checkpoint's extra '{name}' is not a trainer's",
                where=where,
                got=repr(extra.get(name))[:60],
                hint="was it written by Trainer?",
            )
    numbers = [extra["sums"], *extra["history"]]
    if not all(isinstance(n, dict) and all(map(_is_number, n.values())) for n in numbers):
        raise FormatError("the checkpoint's history is not a trainer's", where=where)
    return extra


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _unique(*names: str) -> list[str]:
    return list(dict.fromkeys(names))
