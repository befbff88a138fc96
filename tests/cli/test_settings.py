from __future__ import annotations

from pathlib import Path

import pytest

from noria.cli.settings import Settings, clear_run, is_used, load_settings, save_settings
from noria.core.errors import ArgumentError, FormatError, MissingError

SETTINGS = Settings("digits", 20, 32, 0)


def test_settings_are_found_again(tmp_path: Path) -> None:
    save_settings(tmp_path / "run", SETTINGS)
    assert load_settings(tmp_path / "run") == SETTINGS


def test_nothing_to_resume_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no run to resume"):
        load_settings(tmp_path / "run")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}",
        "null",
        '{"recipe": "digits", "epochs": "20", "batch_size": 32, "seed": 0}',
        '{"recipe": "digits", "epochs": true, "batch_size": 32, "seed": 0}',
        '{"recipe": 3, "epochs": 20, "batch_size": 32, "seed": 0}',
        '{"recipe": "digits", "epochs": 20, "batch_size": 32, "seed": 0, "more": 1}',
    ],
)
def test_damaged_settings_are_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(FormatError, match="settings"):
        load_settings(tmp_path)


def test_a_resumed_run_keeps_what_it_began_with() -> None:
    assert SETTINGS.must_agree("digits", {"epochs": None, "batch_size": 32, "seed": 0}) is SETTINGS
    with pytest.raises(ArgumentError, match=r"expected --batch-size 32, as it began\n.*--batch-s"):
        SETTINGS.must_agree("digits", {"epochs": None, "batch_size": 16, "seed": None})
    with pytest.raises(ArgumentError, match="expected digits"):
        SETTINGS.must_agree("fashion-mnist", {})


def test_only_files_of_a_run_are_removed(tmp_path: Path) -> None:
    save_settings(tmp_path, SETTINGS)
    for name in ("checkpoints/step-00000010/model", "checkpoints/mine", "events"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("events/events.out.tfevents.1.host.2", "events/notes.txt", "best.noria", "own"):
        (tmp_path / name).write_text("")
    assert is_used(tmp_path)
    clear_run(tmp_path)
    assert not is_used(tmp_path)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")}
    assert left == {"checkpoints", "checkpoints/mine", "events", "events/notes.txt", "own"}


def test_there_may_be_nothing_to_remove(tmp_path: Path) -> None:
    clear_run(tmp_path / "none")
    assert not is_used(tmp_path / "none")
