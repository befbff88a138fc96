"""How far training is: a live line on a terminal, one plain line an epoch anywhere else."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

from noria.core.errors import ArgumentError

T = TypeVar("T")

_REFRESH = 0.1  # seconds between two updates of the live line
_clock = time.perf_counter


class Progress:
    """Shows the epochs of a training run.

        with Progress(epochs=10, steps=len(reader)) as progress:
            for epoch in range(10):
                progress.start(epoch)
                for batch in reader:
                    ...
                    progress.step(64, loss=loss)
                progress.finish(accuracy=accuracy)

    On a terminal the present epoch is a live line with a bar, updated at most ten times a second;
    each finished epoch stays as a line. Elsewhere (a log file, a pipe, a notebook) there are only
    the lines of the epochs, without control characters. A block left inside an epoch prints how
    far that epoch came.

    epochs: in all; None if not known. steps: of an epoch; None if not known.
    file: standard output by default. enabled: False prints nothing (ranks other than 0).
    Raises ArgumentError for numbers below zero.
    """

    def __init__(
        self,
        epochs: int | None = None,
        steps: int | None = None,
        *,
        file: TextIO | None = None,
        enabled: bool = True,
    ) -> None:
        _not_negative(epochs=epochs, steps=steps)
        self._epochs, self._steps = epochs, steps
        self._bar = _Bar(file) if enabled else None
        self._values: dict[str, Any] = {}
        self._finished = 0  # epochs, by this object
        self._begun = _clock()
        self.start(0)

    def start(self, epoch: int, done: int = 0) -> None:
        """Begins an epoch (counted from 0), in a resumed run after `done` of its steps."""
        _not_negative(epoch=epoch, done=done)
        self._epoch = epoch
        self._skipped = self._done = done
        self._samples = 0
        self._values.clear()
        self._start = self._now = self._due = _clock()  # due: the first step is shown at once

    def step(self, samples: int = 0, /, **values: Any) -> None:
        """Counts one step of so many samples. Costs a microsecond unless the line is due.

        values: numbers to show under their names; the latest of a name counts. They are turned into
        numbers only when they are shown, so that a result still being computed is not waited for.
        """
        self._done += 1
        self._samples += samples
        if values:
            self._values.update(values)
        self._now = now = _clock()
        if now >= self._due:
            self._due = now + _REFRESH
            self._refresh()

    def finish(self, /, **values: Any) -> None:
        """Prints the line of the epoch, with further values (of the evaluation), and begins the
        next one."""
        self._values.update(values)
        self._finished += 1
        if self._bar:
            self._bar.print("  ".join(filter(None, (*self._parts(), self._left()))))
        self.start(self._epoch + 1)

    def __enter__(self) -> Self:
        self._begun = _clock()
        self.start(self._epoch, self._done)
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()
            if self._done > self._skipped:
                of = f"/{self._steps}" if self._steps else ""
                self._bar.print("  ".join(self._parts(f" stopped at step {self._done}{of}")))

    def _refresh(self) -> None:
        if self._bar and self._bar.live:
            rest = ""
            if self._steps:
                pace = (self._now - self._start) / (self._done - self._skipped)
                rest = f"eta {_duration(max(self._steps - self._done, 0) * pace)}"
            note = "  ".join(filter(None, (_shown(self._values), self._rate(), rest)))
            self._bar.show(self._title(), self._done, self._steps, note)

    def _parts(self, state: str = "") -> list[str]:
        """`epoch 3/10`, `loss 0.42`, `5,000 samples/s`, `4.1 s`"""
        time_taken = _duration(_clock() - self._start)
        parts = [self._title() + state, _shown(self._values), self._rate(), time_taken]
        return [part for part in parts if part]

    def _left(self) -> str:
        """The time of the epochs to come, at the pace of those finished here."""
        to_come = (self._epochs or 0) - (self._epoch + 1)
        if to_come <= 0:
            return ""
        return f"left {_duration(to_come * (_clock() - self._begun) / self._finished)}"

    def _title(self) -> str:
        if not self._epochs:
            return f"epoch {self._epoch + 1}"
        return f"epoch {self._epoch + 1:{len(str(self._epochs))}}/{self._epochs}"

    def _rate(self) -> str:
        seconds = self._now - self._start  # to the last step, without the evaluation after it
        if self._samples:
            return f"{_rate(self._samples, seconds)} samples/s"
        steps = self._done - self._skipped
        return f"{_rate(steps, seconds)} steps/s" if steps else ""


def track(
    iterable: Iterable[T],
    description: str,
    *,
    total: int | None = None,
    file: TextIO | None = None,
) -> Iterator[T]:
    """The items of any long work, with a live bar on a terminal, and one line when it ends.

    total: the number of items, by default `len(iterable)` where that works.
    """
    if total is None:
        try:
            total = len(iterable)  # type: ignore[arg-type]
        except TypeError:
            total = None
    bar = _Bar(file)
    bar.start()
    done, start = 0, _clock()
    due = start
    try:
        for item in iterable:
            yield item
            done += 1
            now = _clock()
            if bar.live and now >= due:
                due = now + _REFRESH
                bar.show(description, done, total, f"{_rate(done, now - start)}/s")
    finally:
        bar.stop()
        seconds = _clock() - start
        of = f" of {total:,}" if total is not None and total != done else ""
        bar.print(f"{description}  {done:,}{of}  {_rate(done, seconds)}/s  {_duration(seconds)}")


class _Bar:
    """One live line at the foot of a terminal, or nothing; and lines above it."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file or sys.stdout
        # Asked of the stream itself: rich also counts as a terminal what FORCE_COLOR names one.
        self.live = self._file.isatty() and os.environ.get("TERM") != "dumb"
        if self.live:
            self._make_live()

    def _make_live(self) -> None:
        from rich import progress as rich_progress
        from rich.console import Console

        text = rich_progress.TextColumn
        self._rich = rich_progress.Progress(
            text("{task.description}", markup=False),
            rich_progress.BarColumn(bar_width=24),
            text("{task.fields[count]}"),
            text("{task.fields[note]}", markup=False),
            console=Console(file=self._file, force_terminal=True),
            auto_refresh=False,  # no thread: it would compete with the engine's own
            transient=True,
        )
        self._task = self._rich.add_task("", total=None, visible=False, count="", note="")

    def start(self) -> None:
        if self.live:
            self._rich.start()

    def stop(self) -> None:
        if self.live:
            self._rich.stop()

    def show(self, title: str, done: int, total: int | None, note: str) -> None:
        count = f"{done:,}/{total:,}" if total is not None else f"{done:,}"
        self._rich.update(
            self._task,
            description=title,
            completed=done,
            total=total,
            visible=True,
            count=count,
            note=note,
        )
        self._rich.refresh()

    def print(self, line: str) -> None:
        if self.live:
            self._rich.update(self._task, visible=False)
            self._rich.refresh()  # else the old live line would be drawn again below
            self._rich.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self._file, flush=True)


def _not_negative(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 0:
            raise ArgumentError(f"{name} must not be below zero", got=str(number))


def _shown(values: dict[str, Any]) -> str:
    return "  ".join(f"{name} {_number(value)}" for name, value in values.items())


def _number(value: Any) -> str:
    """Floats with four decimals, so that the lines of epochs stand in columns."""
    try:
        if isinstance(value, int):
            return f"{value:,}"
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    plain = number == 0 or 5e-5 <= abs(number) < 1000
    return f"{number:.4f}" if plain else f"{number:.4g}"


def _rate(count: int, seconds: float) -> str:
    rate = count / seconds if seconds > 0 else 0.0
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _duration(seconds: float) -> str:
    """`4.1 s`, `29 s`, `12:05`, `3:12:05`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
