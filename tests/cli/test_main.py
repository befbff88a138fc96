from __future__ import annotations

from pathlib import Path

import pytest

from noria.cli import main as module
from noria.cli.main import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_its_options_told(noria, name: str) -> None:
    ran = noria(name, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: noria {name}")
    options = [line.split() for line in ran.out.splitlines() if line.startswith("  --")]
    assert all(len(words) > 1 for words in options)


def test_help_lists_every_command(noria) -> None:
    ran = noria("--help")
    assert all(f"  {name}" in ran.out and about in ran.out for name, about in COMMANDS.items())


def test_version_is_that_of_the_package(noria) -> None:
    import noria as package

    assert noria("--version").out == f"noria, version {package.__version__}\n"


def test_a_misspelt_command_is_met_with_the_nearest(noria) -> None:
    ran = noria("trian")
    assert ran.code == 2
    assert "No such command 'trian': did you mean 'train'?" in ran.err


def test_an_error_is_four_lines_without_a_stack(noria, tmp_path: Path) -> None:
    (tmp_path / "x.noria").write_bytes(b"nonsense")
    ran = noria("show", tmp_path / "x.noria")
    assert (ran.code, ran.out) == (1, "")
    what, *rest = ran.err.splitlines()
    assert what.startswith("error: ")
    assert [line.split()[0] for line in rest] == ["at", "expected", "got"]


def test_debug_adds_the_stack(noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_DEBUG", "1")
    ran = noria("show", tmp_path / "nothing.noria")
    assert ran.code == 1
    assert "Traceback" in ran.err and "error: there is no saved Program" in ran.err


def test_a_wrong_flag_is_an_error_like_others(noria, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_DEBUG", "much")
    ran = noria("flags")
    assert ran.code == 1
    assert "environment variable NORIA_DEBUG" in ran.err and "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("raised", "begin"),
    [
        (PermissionError(13, "no"), "error: PermissionError"),
        (AttributeError("x"), "internal error"),
    ],
)
def test_what_nobody_foresaw_is_one_line_too(
    noria, monkeypatch: pytest.MonkeyPatch, raised: Exception, begin: str
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise raised

    monkeypatch.setattr(module.cli, "main", fail)
    ran = noria("flags")
    assert ran.code == 1
    assert ran.err.startswith(begin) and "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tr"], {"train"}),
        (["train", ""], {"digits", "fashion-mnist"}),
        (["train", "digits", "--re"], {"--resume"}),
        (["passes", "m.noria", "--why", "fuse_l"], {"fuse_linear"}),
    ],
)
def test_tab_completes(words: list[str], found: set[str]) -> None:
    from click.shell_completion import BashComplete

    complete = BashComplete(module.cli, {}, "noria", "_NORIA_COMPLETE")
    assert {c.value for c in complete.get_completions(words[:-1], words[-1])} == found
