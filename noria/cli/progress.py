"""A bar on standard error for commands that measure: nothing is drawn while something is timed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn

from noria.cli.console import console, is_terminal

Tick = Callable[[float], None]  # called between runs with the share that is over
Stage = Callable[[str], Tick]


@contextmanager
def progress(stages: int) -> Iterator[Stage]:
    """A bar on standard error, drawn between runs (no thread competes with what is timed)."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        console=console(sys.stderr),
        auto_refresh=False,
        transient=True,
        disable=not is_terminal(sys.stderr),
    )
    task = bar.add_task("", total=stages)
    done = -1
    due = 0.0

    def stage(label: str) -> Tick:
        nonlocal done, due
        done, due = done + 1, 0.0
        bar.update(task, description=label)

        def tick(share: float) -> None:
            nonlocal due
            if (now := time.perf_counter()) >= due:
                due = now + 0.1
                bar.update(task, completed=done + min(share, 1.0))
                bar.refresh()

        tick(0.0)
        return tick

    with bar:
        yield stage
