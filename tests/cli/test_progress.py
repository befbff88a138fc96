"""The bar of commands that measure: on a terminal only, and drawn only when it is told to."""

from __future__ import annotations

import io
import sys

import pytest

from noria.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(1) as stage:
        stage("one")(0.5)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_each_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    error = Terminal()
    monkeypatch.setattr(sys, "stderr", error)
    with progress(2) as stage:
        stage("first")(1.0)
        stage("second")(1.0)
    text = error.getvalue()
    assert "first" in text and "second" in text
