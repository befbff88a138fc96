from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from noria.cli import train
from noria.core.errors import ArgumentError
from noria.ir.save import load
from noria.train.trainer import Trainer


def run(noria, out: Path, *more: object):
    return noria("train", "digits", "--out", out, "--epochs", 2, *more)


def test_training_leaves_a_model_checkpoints_and_scalars(noria, tmp_path: Path) -> None:
    ran = run(noria, tmp_path / "run")
    assert ran.code == 0, ran.err
    assert "\x1b" not in ran.out and "\r" not in ran.out
    lines = ran.out.splitlines()
    assert lines[0].startswith("digits: 151,402 parameters, 1,437 images")
    assert [line.split()[1] for line in lines[1:3]] == ["1/2", "2/2"]
    assert lines[-1].startswith("test accuracy: ")
    accuracy = float(lines[-1].removeprefix("test accuracy: "))
    assert accuracy > 0.9
    program, _ = load(tmp_path / "run" / "best.noria")
    assert not program.updates and "logits" in program.outputs
    assert list((tmp_path / "run" / "events").iterdir())


def test_a_used_directory_is_not_touched_until_told(noria, tmp_path: Path) -> None:
    run(noria, tmp_path)
    before = (tmp_path / "best.noria").stat().st_mtime_ns
    refused = run(noria, tmp_path)
    assert refused.code == 1 and "--resume to go on, --fresh to start over" in refused.err
    assert (tmp_path / "best.noria").stat().st_mtime_ns == before
    assert run(noria, tmp_path, "--fresh").code == 0
    assert len(list((tmp_path / "events").iterdir())) == 1


def interrupted_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    """The signal arrives in the middle of a step."""
    plain = Trainer._step

    def _step(self, batch):
        if self.step + 1 == step:
            os.kill(os.getpid(), number)
        return plain(self, batch)

    monkeypatch.setattr(Trainer, "_step", _step)


@pytest.mark.parametrize("step", [20, 45])  # of 45 an epoch: within one, and its last
def test_an_interrupted_run_goes_on_bit_for_bit(
    noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run(noria, tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupted_at(patch, step, signal.SIGINT if step == 20 else signal.SIGTERM)
        stopped = run(noria, tmp_path / "parts")
    assert stopped.code == 130
    assert f"noria train digits --out {tmp_path / 'parts'} --resume" in stopped.out
    went_on = noria("train", "digits", "--out", tmp_path / "parts", "--resume")
    assert went_on.code == 0, went_on.err
    for name in ("best.noria", "checkpoints/step-00000090/model/state.safetensors"):
        whole, parts = (tmp_path / d / name for d in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


def test_a_second_signal_ends_with_the_code_of_interrupted(
    noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Trainer._step

    def _step(self, batch):
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return plain(self, batch)

    monkeypatch.setattr(Trainer, "_step", _step)
    ran = run(noria, tmp_path)
    assert ran.code == 130 and "stopped at once" in ran.out
    assert not (tmp_path / "checkpoints").exists()


def test_a_fresh_run_that_cannot_begin_costs_no_earlier_one(
    noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(noria, tmp_path)
    before = sorted(tmp_path.rglob("*"))

    def refuse(*args: object, **options: object) -> None:
        raise ArgumentError("no such data")

    monkeypatch.setattr(train, "Trainer", refuse)
    assert run(noria, tmp_path, "--fresh").code == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_resumed_run_refuses_other_settings(noria, tmp_path: Path) -> None:
    run(noria, tmp_path)
    ran = noria("train", "digits", "--out", tmp_path, "--resume", "--epochs", 3)
    assert ran.code == 1
    assert "expected --epochs 2, as it began" in ran.err and "got      --epochs 3" in ran.err


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["digits", "--resume", "--fresh"], 1, "exclude each other"),
        (["digits", "--resume", "--out", "nowhere"], 1, "no run to resume here"),
        (["digits", "--out", "file"], 1, "not a directory"),
        (["digits", "--epochs", "0"], 2, "0 is not in the range"),
        (["digits", "--data", "nowhere"], 2, "'nowhere' does not exist"),
        (["digitz"], 2, "'digitz' is not one of 'digits', 'fashion-mnist'"),
    ],
)
def test_bad_arguments_are_told(
    noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    ran = noria("train", *args)
    assert ran.code == code
    assert text in ran.err
    assert {p.name for p in tmp_path.iterdir()} == {"file"}
