from __future__ import annotations

import io
import sys

import pytest

from noria.cli.console import bytes_text, is_terminal, print_error, print_program, print_table
from noria.core.errors import ShapeError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest puts its own stream back before the test begins."""
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return out


ROWS = [("a", 1, ""), ("long name", 1_000, "[x]")]


def test_a_piped_table_is_aligned_text_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_table(["name", ">count", "note"], ROWS, "two in all")
    expected = "name       count  note\na              1\nlong name   1000  [x]\ntwo in all\n"
    assert capsys.readouterr().out == expected


def test_a_table_on_a_terminal_is_styled_and_says_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = on_terminal(monkeypatch)
    print_table(["name", ">count", "note"], ROWS)
    text = terminal.getvalue()
    assert "\x1b[1m" in text and "─" in text
    assert all(word in text for word in ("name", "count", "long name", "1000", "[x]"))


def test_an_empty_table_has_its_titles(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", ">count"], [])
    assert capsys.readouterr().out == "name  count\n"


def test_programs_are_coloured_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_terminal(monkeypatch)
    line = "  y: float32[N, 3] = relu(x)    # model.py:3"
    print_program(line)
    assert "\x1b[" in terminal.getvalue()
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stdout", plain)
    print_program(line + " " + "x" * 300)
    assert plain.getvalue() == line + " " + "x" * 300 + "\n"


def test_a_dumb_terminal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(Terminal())


def test_an_error_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(ShapeError("wrong [bold]", where="add", expected="[2]", got="[3]", hint="[/x]"))
    assert capsys.readouterr().err == (
        "error: wrong [bold]\n  at       add\n  expected [2]\n  got      [3]\n  try      [/x]\n"
    )
    print_error(KeyError("k"), "internal error")
    assert capsys.readouterr().err == "internal error: KeyError: 'k'\n"


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e9, "3 GB")]
)
def test_bytes_have_units(n: float, text: str) -> None:
    assert bytes_text(n) == text
