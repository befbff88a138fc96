from __future__ import annotations

from pathlib import Path

import pytest

from noria.ir.save import load
from noria.ir.text import parse_program


def test_everything_but_the_steps_is_shown(noria, model: Path) -> None:
    ran = noria("show", model)
    assert (ran.code, ran.err) == (0, "")
    assert "\x1b" not in ran.out
    places = [ran.out.index(t) for t in ("program small {", "\nState\n", "\nOperators\n", "\nMemo")]
    assert places == sorted(places)
    assert "body.0.weight  float32  [5, 4]        20  yes" in ran.out
    assert "43 elements, 172 B" in ran.out
    assert "\nSteps" not in ran.out


def test_the_text_alone_can_be_parsed_again(noria, model: Path) -> None:
    out = noria("show", model, "--text").out
    program, _ = load(model)
    assert str(parse_program(out)) == str(program)


@pytest.mark.parametrize(
    ("option", "title"), [("--state", "State"), ("--operators", "Operators"), ("--plan", "Steps")]
)
def test_one_part_can_be_chosen(noria, model: Path, option: str, title: str) -> None:
    out = noria("show", model, option).out
    assert out.startswith(f"\n{title}")
    assert "program small" not in out


@pytest.mark.usefixtures("fast_kernels")
def test_operators_tell_their_work(noria, model: Path) -> None:
    table = noria("show", model, "--operators", "--size", "N=100").out
    (products,) = [line.split() for line in table.splitlines() if line.startswith("linear ")]
    (fused,) = [line.split() for line in table.splitlines() if line.startswith("fused_linear ")]
    assert products[1:3] == ["2", "1"] and fused[1] == "1"
    multiply_add = 2 * 100 * (4 * 5 + 5 * 3) / 1e6
    assert float(products[3]) + float(fused[2]) == pytest.approx(multiply_add, abs=2e-3)


def test_the_plan_is_for_the_sizes_asked_for(noria, model: Path) -> None:
    assert "plan for N=1:" in noria("show", model, "--plan").out
    assert "plan for N=7:" in noria("show", model, "--plan", "--size", "N=7").out


def test_the_training_program_of_a_checkpoint_can_be_shown(noria, tmp_path: Path) -> None:
    assert noria("train", "digits", "--epochs", 1, "--out", tmp_path).code == 0
    (checkpoint,) = (tmp_path / "checkpoints").iterdir()
    ran = noria("show", checkpoint / "model", "--operators", "--plan")
    assert ran.code == 0, ran.err
    assert "conv2d_weight_grad" in ran.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--size", "M=3"], ["no input has a size 'M'", "one of N"]),
        (["--size", "N"], ["not a size", "--size N=8"]),
        (["--size", "N=1,2"], ["one size at a time"]),
    ],
)
def test_wrong_sizes_are_told_before_anything_is_printed(
    noria, model: Path, args: list[str], words: list[str]
) -> None:
    ran = noria("show", model, *args)
    assert (ran.code, ran.out) == (1, "")
    assert all(word in ran.err for word in words)


def test_damaged_models_are_errors(noria, model: Path, tmp_path: Path) -> None:
    whole = model.read_bytes()
    for n in range(0, len(whole), 251):
        path = tmp_path / "damaged.noria"
        path.write_bytes(whole[:n])
        ran = noria("show", path)
        assert ran.code == 1 and ran.err.startswith("error: "), n
