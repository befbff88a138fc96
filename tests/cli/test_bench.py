from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from noria.cli import bench
from noria.cli.bench import Times, measure


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()[3:]]


def test_each_size_is_a_row(noria, model: Path) -> None:
    ran = noria("bench", model, "--size", "N=1,16", "--seconds", 0.02)
    assert (ran.code, ran.err) == (0, "")
    assert "small: loss, accuracy, logits; threads: " in ran.out
    assert [row[0] for row in rows(ran.out)] == ["1", "16"]
    for _, median, p90, rate, share in rows(ran.out):
        assert 0 < float(median) <= float(p90)
        assert float(rate.replace(",", "")) > 0
        assert share.endswith("%") and float(share[:-1]) >= 0


def test_the_reference_can_be_left_out(noria, model: Path) -> None:
    ran = noria("bench", model, "--seconds", 0.01, "--no-reference", "--fetch", "logits")
    assert "reference" not in ran.out
    assert "small: logits;" in ran.out
    assert len(rows(ran.out)[0]) == 4


def test_threads_are_obeyed(noria, model: Path) -> None:
    assert "threads: 1\n" in noria("bench", model, "--seconds", 0.01, "--threads", 1).out


@pytest.mark.usefixtures("fast_kernels")
def test_the_reference_is_the_engine_without_kernels(
    noria, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = []

    def spy(predictor, case, seconds, stage):
        engines.append({s.engine.split(":")[0] for s in predictor.plan.steps})
        return Times(np.ones(1))

    monkeypatch.setattr(bench, "_time", spy)
    noria("bench", model)
    fast, slow = engines
    assert fast & {"onednn", "numba"}
    assert slow <= {"reference", "view"}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--size", "N=0"], "not a size"),
        (["--size", "M=1"], "no input has a size 'M'"),
        (["--fetch", "logit"], "did you mean 'logits'?"),
    ],
)
def test_a_wrong_call_is_told(noria, model: Path, args: list[str], text: str) -> None:
    ran = noria("bench", model, *args)
    assert (ran.code, ran.out) == (1, "")
    assert text in ran.err


# ---- measuring -----------------------------------------------------------------------------------


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def test_the_first_run_is_not_counted(clock: Clock) -> None:
    durations = iter([0.5, 0.25, 0.25, 0.25, 0.25])
    times = measure(lambda: clock.pass_(next(durations)), 1.0)
    assert times.seconds.tolist() == [0.25] * 4


def test_a_slow_first_run_is_the_only_one(clock: Clock) -> None:
    assert measure(lambda: clock.pass_(3.0), 1.0).seconds.tolist() == [3.0]


def test_what_the_progress_display_takes_is_not_counted(clock: Clock) -> None:
    shares = []

    def tick(share: float) -> None:
        shares.append(share)
        clock.pass_(0.125)

    times = measure(lambda: clock.pass_(0.25), 0.75, tick)
    assert set(times.seconds) == {0.25}
    assert shares == sorted(shares) and shares[-1] >= 1


def test_percentiles() -> None:
    times = Times(np.arange(11.0))
    assert (times.median, times.p90, times.mean) == (5.0, 9.0, 5.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("fast_kernels")
def test_progress_is_shown_on_a_terminal_and_gone_at_the_end(
    model: Path, noria, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    error = Terminal()
    monkeypatch.setattr(sys, "stderr", error)
    assert noria("bench", model, "--seconds", 0.01).code == 0
    text = error.getvalue()
    assert "engine N=1" in text and "reference N=1" in text
    assert text.endswith("\x1b[2K") or text.endswith("\x1b[?25h\r\x1b[1A\x1b[2K")
