from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.train import progress as module
from noria.train.progress import Progress, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that stands still until told how many seconds pass."""
    now = [1000.0]
    monkeypatch.setattr(module, "_clock", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def without_controls(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_off_a_terminal_each_epoch_is_one_plain_line(passes) -> None:
    log = io.StringIO()
    with Progress(2, 3, file=log) as progress:
        for epoch in range(2):
            for step in range(3):
                passes(0.5)
                progress.step(64, loss=1 / (step + 1))
            progress.finish(accuracy=0.5 + epoch / 4)
    assert log.getvalue() == (
        "epoch 1/2  loss 0.3333  accuracy 0.5000  128 samples/s  1.5 s  left 1.5 s\n"
        "epoch 2/2  loss 0.3333  accuracy 0.7500  128 samples/s  1.5 s\n"
    )


def test_nothing_is_known_but_the_steps(passes) -> None:
    log = io.StringIO()
    with Progress(file=log) as progress:
        for _ in range(4):
            passes(20)
            progress.step()
        progress.finish()
    assert log.getvalue() == "epoch 1  0.05 steps/s  1:20\n"


def test_time_left_is_of_all_epochs_to_come_at_the_pace_of_this_run(passes) -> None:
    log = io.StringIO()
    with Progress(100, file=log) as progress:
        for epoch, seconds in ((89, 400), (90, 1000)):
            progress.start(epoch)
            passes(seconds)
            progress.finish()
    assert log.getvalue().splitlines() == [
        "epoch  90/100  6:40  left 1:06:40",
        "epoch  91/100  16:40  left 1:45:00",
    ]


def test_values_of_one_epoch_are_not_shown_in_the_next(passes) -> None:
    log = io.StringIO()
    with Progress(2, file=log) as progress:
        passes(1)
        progress.finish(accuracy=1.0)
        passes(1)
        progress.finish(loss=2)
    assert log.getvalue().splitlines()[1] == "epoch 2/2  loss 2  1.0 s"


def test_block_left_inside_an_epoch_tells_how_far_it_came(passes) -> None:
    log = io.StringIO()
    with pytest.raises(ZeroDivisionError), Progress(3, 10, file=log) as progress:
        progress.start(0, done=4)
        for _ in range(2):
            passes(1)
            progress.step(8, loss=3.5)
        raise ZeroDivisionError
    assert log.getvalue() == "epoch 1/3 stopped at step 6/10  loss 3.5000  8 samples/s  2.0 s\n"


def test_hidden_progress_prints_nothing() -> None:
    log = io.StringIO()
    with Progress(1, 2, file=log, enabled=False) as progress:
        progress.step(1, loss=1)
        progress.finish()
        progress.step()
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.00001234, "1.234e-05"),
        (12345, "12,345"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (0.0, "0.0000"),
        (-3.5, "-3.5000"),
        (0.14949, "0.1495"),
        (1234.5678, "1235"),
        (np.float32(0.1), "0.1000"),
        (np.array(2.5), "2.5000"),
        ("warming up", "warming up"),
    ],
)
def test_values_of_any_kind_are_shown(passes, value: object, shown: str) -> None:
    log = io.StringIO()
    with Progress(file=log) as progress:
        progress.finish(x=value)
    assert log.getvalue() == f"epoch 1  x {shown}  0.0 s\n"


def test_value_is_not_made_a_number_before_it_is_shown(passes) -> None:
    class Pending:
        read = 0

        def __float__(self) -> float:
            Pending.read += 1
            return 1.5

    log = io.StringIO()
    with Progress(file=log) as progress:
        for _ in range(5):
            progress.step(loss=Pending())
        assert Pending.read == 0
        progress.finish()
    assert Pending.read == 1


def test_terminal_has_a_live_line_and_keeps_the_line_of_each_epoch(terminal, passes) -> None:
    with Progress(2, 3, file=terminal) as progress:
        for _ in range(2):
            for _ in range(3):
                passes(0.5)
                progress.step(64, loss=0.25)
            progress.finish(accuracy=0.5)
    text = without_controls(terminal.getvalue())
    assert "\x1b[" in terminal.getvalue()
    assert re.search(r"epoch 1/2 \S+ 2/3 loss 0.2500  128 samples/s  eta 0.5 s", text)
    assert "epoch 1/2  loss 0.2500  accuracy 0.5000  128 samples/s  1.5 s  left 1.5 s\n" in text
    assert "epoch 2/2  loss 0.2500  accuracy 0.5000  128 samples/s  1.5 s\n" in text
    assert "epoch 1/2" not in text.partition("left 1.5 s\n")[2]


def test_terminal_shows_brackets_as_they_are(terminal, passes) -> None:
    with Progress(1, 3, file=terminal) as progress:
        passes(1)
        progress.step(**{"f1[red]": 1.0})
        progress.finish()
    list(track([1], "[bold]x", file=terminal))
    text = without_controls(terminal.getvalue())
    assert text.count("f1[red] 1") >= 2
    assert "[bold]x  1" in text


def test_line_is_updated_at_most_ten_times_a_second(terminal, passes, monkeypatch) -> None:
    times = []
    with Progress(1, 1000, file=terminal) as progress:
        monkeypatch.setattr(progress._bar, "show", lambda *_: times.append(module._clock()))
        for _ in range(1000):
            passes(0.003)
            progress.step(1)
    assert 25 <= len(times) <= 31  # in three seconds
    assert np.diff(times).min() >= 0.1


def test_items_tracked_are_updated_at_most_ten_times_a_second(terminal, passes, monkeypatch):
    times = []
    monkeypatch.setattr(module._Bar, "show", lambda *_: times.append(module._clock()))
    for _ in track(range(1000), "work", file=terminal):
        passes(0.003)
    assert 25 <= len(times) <= 31


def test_step_between_updates_costs_under_five_microseconds(terminal, monkeypatch) -> None:
    loss = np.float32(0.5)
    with Progress(1, 10**6, file=terminal) as progress:
        progress.step(64, loss=loss)
        progress._due = float("inf")
        best = float("inf")
        for _ in range(5):  # the best of five: others use this computer too
            start = time.perf_counter()
            for _ in range(2000):
                progress.step(64, loss=loss)
            best = min(best, (time.perf_counter() - start) / 2000)
    assert best < 5e-6


def test_no_control_characters_in_a_pipe_even_with_colour_forced() -> None:
    code = """
from noria.train.progress import Progress, track
with Progress(1, 2) as progress:
    progress.step(1, loss=1.0); progress.finish()
list(track(range(3), "copying"))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "FORCE_COLOR": "1", "TTY_INTERACTIVE": "1"},
    )
    epoch, copying = ran.stdout.splitlines()
    assert epoch.startswith("epoch 1/1  loss 1.0000  ")
    assert copying.startswith("copying  3  ")
    assert re.fullmatch(r"[\x20-\x7e\n]+", ran.stdout)


def test_dumb_terminal_gets_plain_lines(terminal, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with Progress(1, file=terminal) as progress:
        progress.step()
        progress.finish()
    assert "\x1b" not in terminal.getvalue()


def test_tracked_items_pass_through_and_end_in_a_line(passes) -> None:
    log = io.StringIO()
    items = []
    for item in track("abc", "reading", file=log):
        passes(0.5)
        items.append(item)
    assert items == ["a", "b", "c"]
    assert log.getvalue() == "reading  3  2/s  1.5 s\n"


def test_tracking_a_generator_counts_without_a_total(passes) -> None:
    log = io.StringIO()
    assert list(track((i for i in range(3)), "reading", file=log)) == [0, 1, 2]
    assert log.getvalue() == "reading  3  0/s  0.0 s\n"


def test_tracked_work_left_early_tells_how_far_it_came(passes) -> None:
    log = io.StringIO()
    work = track(range(1000), "reading", file=log, total=2000)
    for _ in work:
        passes(1)
        if _ == 1:
            break
    work.close()
    assert log.getvalue() == "reading  1 of 2,000  0.5/s  2.0 s\n"


def test_tracked_work_on_a_terminal_has_a_bar(terminal, passes) -> None:
    for _ in track(range(3), "reading", file=terminal):
        passes(0.5)
    text = without_controls(terminal.getvalue())
    assert re.search(r"reading \S+ 2/3 2/s", text)
    assert text.rstrip().endswith("reading  3  2/s  1.5 s")


def test_speed_does_not_count_the_evaluation_after_the_last_step(passes) -> None:
    log = io.StringIO()
    with Progress(file=log) as progress:
        passes(1)
        progress.step(100)
        passes(4)
        progress.finish()
    assert log.getvalue() == "epoch 1  100 samples/s  5.0 s\n"


@pytest.mark.parametrize("name", ["epochs", "steps", "epoch", "done"])
def test_numbers_below_zero_are_errors(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name} must not be below zero"):
        if name in ("epochs", "steps"):
            Progress(**{name: -1})
        else:
            Progress(file=io.StringIO()).start(**{"epoch": 0, name: -1})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.99, "60 s"),
        (60, "1:00"),
        (3599.6, "1:00:00"),
        (90061, "25:01:01"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert module._duration(seconds) == text
