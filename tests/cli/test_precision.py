from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noria.core.flags import flags


def test_passes_tell_what_runs_on_halves(noria, model: Path) -> None:
    told = noria("passes", model, "--precision", "bf16", "--why", "lower_precision")
    assert told.code == 0 and told.out.startswith("lower_precision: fired")
    assert noria("passes", model, "--why", "lower_precision").out.startswith(
        "lower_precision: fired 0"
    )
    assert flags.precision == "float32"  # the option is gone with its command


@pytest.mark.parametrize("command", ["train", "run", "bench", "show", "passes"])
def test_every_command_that_plans_a_model_takes_it(noria, command: str) -> None:
    assert "--precision [float32|bf16]" in noria(command, "--help").out


def test_an_unknown_one_is_told(noria, model: Path) -> None:
    assert noria("show", model, "--precision", "int3").code == 2


def test_a_model_runs_in_bf16(noria, model: Path, tmp_path: Path) -> None:
    arrays = {}
    x = tmp_path / "x.npy"
    np.save(x, np.random.default_rng(0).standard_normal((3, 4), np.float32))
    for precision in ("float32", "bf16"):
        out = tmp_path / f"{precision}.npz"
        where = ["--input", f"image={x}", "--fetch", "logits", "--output", out]
        ran = noria("run", model, *where, "--precision", precision)
        assert ran.code == 0, ran.err
        arrays[precision] = dict(np.load(out))
    for name, want in arrays["float32"].items():
        got = arrays["bf16"][name]
        assert got.dtype == want.dtype
        assert 0 < np.abs(got - want).max() < 0.02 * np.abs(want).max()
