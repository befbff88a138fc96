"""`noria profile`: samples and saved models, training and inference."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from noria.cli.main import cli
from noria.ir.save import save
from noria.runtime.scope import Scope
from noria.zoo.samples import sample
from tests.runtime.profiling.machine import machine  # noqa: F401

pytestmark = pytest.mark.usefixtures("machine")


def test_a_saved_model_is_profiled_as_it_predicts(model: Path, noria) -> None:
    ran = noria("profile", model, "--size", "N=8", "--fetch", "logits", "--steps", 2)
    assert ran.code == 0
    assert ran.out.startswith("small: N=8; ")
    assert "steps by lost" in ran.out and "fused_linear" in ran.out and "backward" not in ran.out


def test_a_sample_is_profiled_as_it_trains(noria) -> None:
    ran = noria("profile", "mlp", "--steps", 1, "--size", "N=4", "--group", "layer")
    assert ran.code == 0
    assert "mlp: N=4" in ran.out and "backward" in ran.out and "by layer" in ran.out
    assert "body.0" in ran.out


def test_its_test_form_too_with_the_usual_sizes(noria) -> None:
    ran = noria("profile", "lenet", "--test", "--steps", 1, "--sort", "time", "--top", 2)
    assert ran.code == 0 and "lenet: N=64" in ran.out
    assert "backward" not in ran.out and "steps by time" in ran.out and " more: " in ran.out


def test_a_saved_training_program_trains_on_its_state(tmp_path: Path, noria) -> None:
    program = sample("mlp").program()
    save(program, tmp_path / "t.noria", Scope().initialize(program).state())
    ran = noria("profile", tmp_path / "t.noria", "--size", "N=2", "--steps", 1, "--top", 40)
    assert ran.code == 0 and "adam_update" in ran.out


def test_an_unknown_target_is_told_with_the_samples(noria) -> None:
    ran = noria("profile", "resnet5")
    assert ran.code == 1 and "did you mean 'resnet50'" in ran.err


@pytest.mark.parametrize("bad", [["--size", "M=2"], ["--sort", "x"], ["--steps", 0]])
def test_options_that_make_no_sense_are_refused(bad, model: Path, noria) -> None:
    assert noria("profile", model, *bad).code in (1, 2)


def test_help_has_samples_and_examples(noria) -> None:
    text = noria("profile", "--help").out
    assert "resnet50" in text and "noria profile best.noria" in text and "--group" in text


def test_targets_and_groups_complete() -> None:
    complete = ShellComplete(cli, {}, "noria", "_NORIA_COMPLETE")

    def words(args: list[str], start: str) -> list[str]:
        return [item.value for item in complete.get_completions(args, start)]

    assert "resnet50" in words(["profile"], "res")
    assert words(["profile", "mlp", "--group"], "la") == ["layer"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("color", [True, False])
def test_colours_can_be_left_out(
    color: bool, model: Path, noria, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    option = "--color" if color else "--no-color"
    assert noria("profile", model, "--steps", 1, option).code == 0
    assert ("\x1b[" in out.getvalue()) is color


def test_files_are_written_where_they_are_wanted(tmp_path: Path, noria) -> None:
    names = {"--trace": "t.json", "--memory": "m.svg", "--picture": "p.svg", "--json": "n.json"}
    files = [part for option, name in names.items() for part in (option, tmp_path / name)]
    ran = noria("profile", "mlp", "--size", "N=4", "--steps", 1, *files)
    assert ran.code == 0 and {p.name for p in tmp_path.iterdir()} == set(names.values())
    assert all(str(tmp_path / name) in ran.err for name in names.values())
