"""Checkpoints come back bit for bit, survive damage and full disks, and refuse what is foreign."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria.core import dtypes
from noria.core.errors import ArgumentError, EngineError, FormatError, MissingError
from noria.ir.compare import same
from noria.ir.program import Program
from noria.runtime.scope import RANDOM
from noria.train.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from tests.train.small import forward, training

ROOT = Path(__file__).parents[2]
PROGRAM = training()
READER = {"epoch": 1, "batch": 2, "seed": 2**64 - 1, "shard": [0, 1]}
EXTRA = {"history": [{"loss": 0.1 + 0.2, "worst": float("inf")}], "best": None, "name": "größer"}


def state_of(program: Program, step: int) -> dict[str, np.ndarray]:
    """Numbers that a detour over text or another dtype would change."""
    rng = np.random.default_rng(step)
    state = {}
    for name, declared in program.state.items():
        dtype = dtypes.to_numpy(declared.value.dtype)
        shape = tuple(int(d) for d in declared.value.shape)
        count = int(np.prod(shape)) * dtype.itemsize
        state[name] = np.frombuffer(rng.bytes(count), dtype).reshape(shape)  # NaN, denormals, -0.0
    return state


def point(step: int, program: Program = PROGRAM, **changes: Any) -> Checkpoint:
    fields = {"epoch": 1, "reader": READER, "extra": EXTRA} | changes
    return Checkpoint(program, state_of(program, step), step, **fields)


def names(folder: Path) -> list[str]:
    return [p.name for p in list_checkpoints(folder)]


def assert_same(got: Checkpoint, want: Checkpoint) -> None:
    assert same(got.program, want.program)
    assert list(got.state) == list(want.state)
    for name, array in want.state.items():
        assert got.state[name].dtype == array.dtype and got.state[name].shape == array.shape
        assert got.state[name].tobytes() == array.tobytes(), name
    for name in ("step", "epoch", "reader", "extra"):
        assert getattr(got, name) == getattr(want, name)


# ---- writing and reading -----------------------------------------------------------------------


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    assert {RANDOM, "optimizer.step", "body.0.weight.moment2"} <= PROGRAM.state.keys()
    path = save_checkpoint(tmp_path / "deep" / "run", point(230))
    assert path == tmp_path / "deep" / "run" / "step-00000230"
    assert_same(load_checkpoint(path), point(230))
    assert_same(load_checkpoint(path, PROGRAM), point(230))
    assert_same(latest_checkpoint(path.parent, training(name="renamed")), point(230))


def test_a_step_saved_again_replaces_the_first(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, point(5))
    save_checkpoint(tmp_path, point(5, epoch=2))
    assert latest_checkpoint(tmp_path).epoch == 2
    assert os.listdir(tmp_path) == ["step-00000005"]


@pytest.mark.parametrize(("keep", "left"), [(0, [30]), (1, [30]), (2, [20, 30]), (9, [5, 20, 30])])
def test_only_the_newest_are_kept(tmp_path: Path, keep: int, left: list[int]) -> None:
    for step in (5, 20, 30):
        save_checkpoint(tmp_path, point(step), keep)
    assert names(tmp_path) == [f"step-{k:08d}" for k in left]


def test_order_is_by_step_also_past_eight_digits(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        save_checkpoint(tmp_path, point(step))
    assert latest_checkpoint(tmp_path).step == 100_000_000
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-00000007").write_text("a file")
    (tmp_path / "notes").mkdir()
    assert len(names(tmp_path)) == 2


def test_a_new_checkpoint_stays_and_damaged_later_ones_go(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, point(step))
    cut(tmp_path / "step-00000020" / "checkpoint.json")
    cut(tmp_path / "step-00000030" / "checkpoint.json")
    assert latest_checkpoint(tmp_path).step == 10
    save_checkpoint(tmp_path, point(15), keep=1)
    assert names(tmp_path) == ["step-00000015"]


@pytest.mark.parametrize("extra", [{"x": np.float32(1)}, {"x": {1, 2}}, {(1, 2): 3}])
def test_what_json_cannot_hold_is_refused_before_anything_is_written(
    tmp_path: Path, extra: dict
) -> None:
    with pytest.raises(ArgumentError, match="only what JSON can"):
        save_checkpoint(tmp_path / "run", point(1, extra=extra))
    assert not (tmp_path / "run").exists()


# ---- damage ------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def fill(path: Path) -> None:
    path.write_bytes(os.urandom(100))


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


DAMAGE = [
    *((do, f) for do in (cut, fill) for f in ("model/state.safetensors", "model/program.json")),
    *((do, "checkpoint.json") for do in (cut, fill)),
    *((remove, f) for f in ("model/state.safetensors", "model/program.json")),
    *((remove, f) for f in ("model", "checkpoint.json")),
]


@pytest.mark.parametrize(("do", "file"), DAMAGE, ids=[f"{d.__name__} {f}" for d, f in DAMAGE])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, do: Callable[[Path], None], file: str
) -> None:
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, point(step))
    do(tmp_path / "step-00000030" / file)
    with pytest.raises((FormatError, MissingError)):
        load_checkpoint(tmp_path / "step-00000030")
    assert_same(latest_checkpoint(tmp_path, PROGRAM), point(20))
    do(tmp_path / "step-00000020" / file)
    assert_same(latest_checkpoint(tmp_path, PROGRAM), point(10))
    do(tmp_path / "step-00000010" / file)
    with pytest.raises(MissingError, match="no checkpoint to resume from") as told:
        latest_checkpoint(tmp_path, PROGRAM)
    for step in (10, 20, 30):
        assert f"step-000000{step}: " in told.value.got


def test_a_model_exchanged_for_another_is_damage(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, point(10))
    path = save_checkpoint(tmp_path, point(20))
    other = save_checkpoint(tmp_path / "other", point(20, training(9)))
    shutil.rmtree(path / "model")
    shutil.copytree(other / "model", path / "model")
    with pytest.raises(FormatError, match="not the one it was written with"):
        load_checkpoint(path)
    assert latest_checkpoint(tmp_path, PROGRAM).step == 10


def test_a_checkpoint_the_disk_will_not_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import noria.train.checkpoint as module

    save_checkpoint(tmp_path, point(10))
    save_checkpoint(tmp_path, point(20))
    real = module.load

    def load(path: Path):
        if "step-00000020" in str(path):
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(module, "load", load)
    assert latest_checkpoint(tmp_path).step == 10


@pytest.mark.parametrize("place", ["absent", "empty"])
def test_no_checkpoint_at_all_is_told(tmp_path: Path, place: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="no checkpoint to resume from") as told:
        latest_checkpoint(tmp_path / place)
    assert told.value.got == "no checkpoints" and told.value.where == str(tmp_path / place)
    assert list_checkpoints(tmp_path / place) == []


# ---- what is not for this training -------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path, point(10))
    return save_checkpoint(tmp_path, point(20))


def test_another_program_is_refused_and_told_how_it_differs(path: Path) -> None:
    for read in (lambda p: load_checkpoint(path, p), lambda p: latest_checkpoint(path.parent, p)):
        with pytest.raises(FormatError, match="of another Program") as told:
            read(training(hidden=9))
        mine, other = told.value.got.splitlines()[-2:]
        assert mine.strip().startswith("this training: linear: float32[N, 9] = ")
        assert other.strip().startswith("the checkpoint: linear: float32[N, 8] = ")


def test_programs_that_differ_in_declarations_alone_are_told_apart(path: Path) -> None:
    other = training()
    other.outputs["second"] = other.outputs["loss"]
    with pytest.raises(FormatError, match="of another Program") as told:
        load_checkpoint(path, other)
    lines = told.value.got.splitlines()
    assert "--- this training" in lines and "+++ the checkpoint" in lines
    assert any(line.startswith("-") and "output second" in line for line in lines)


def test_a_program_without_its_optimiser_is_another_one(path: Path) -> None:
    with pytest.raises(FormatError, match="of another Program") as told:
        load_checkpoint(path, forward())
    mine, other = told.value.got.splitlines()[-2:]
    assert mine.strip() == "this training: (no operator)" and other.endswith("by grad")


def rewrite(path: Path, **changes: Any) -> None:
    file = path / "checkpoint.json"
    about = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({k: v for k, v in about.items() if v is not ...}))


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused_not_passed_over(path: Path, version: Any) -> None:
    rewrite(path, version=version)
    with pytest.raises(FormatError, match="another version") as told:
        latest_checkpoint(path.parent)
    assert told.value.expected == "version 1" and told.value.got == str(version)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": "other"}, "not a checkpoint"),
        ({"step": "20"}, "no valid 'step'"),
        ({"step": True}, "no valid 'step'"),
        ({"step": -1}, "no valid 'step'"),
        ({"epoch": 1.5}, "no valid 'epoch'"),
        ({"reader": [1, 2]}, "no valid 'reader'"),
        ({"program_hash": 7}, "no valid 'program_hash'"),
        ({"extra": None}, "no valid 'extra'"),
        ({"extra": ...}, "no valid 'extra'"),
        ({"program_hash": "0" * 64}, "not the one it was written with"),
    ],
)
def test_wrong_fields_are_told(path: Path, changes: dict, match: str) -> None:
    rewrite(path, **changes)
    with pytest.raises(FormatError, match=match) as told:
        load_checkpoint(path)
    assert str(path) in told.value.where
    assert latest_checkpoint(path.parent).step == 10


@pytest.mark.parametrize("text", ["[]", "7", "[" * 100_000, '{"format": "noria-checkpoint"}', ""])
def test_json_of_other_things_is_told(path: Path, text: str) -> None:
    (path / "checkpoint.json").write_text(text)
    with pytest.raises(FormatError):
        load_checkpoint(path)


# ---- full disks and kills ----------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Room for one checkpoint and a half."""
    probe = save_checkpoint(tmp_path / "probe", point(1))
    size = sum(-(-p.stat().st_size // 4096) * 4 for p in probe.rglob("*") if p.is_file())
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={size * 3 // 2}k", "tmpfs", str(place)]
    if not mount or subprocess.run([mount, *options], capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_keeps_the_last_good_checkpoint(tiny_disk: Path) -> None:
    save_checkpoint(tiny_disk, point(10))
    with pytest.raises(EngineError, match="disk full"):
        save_checkpoint(tiny_disk, point(20), keep=1)
    assert os.listdir(tiny_disk) == ["step-00000010"]
    assert_same(latest_checkpoint(tiny_disk, PROGRAM), point(10))


LIMITED = """
import resource, sys
from noria.core.errors import EngineError
from noria.train.checkpoint import latest_checkpoint, save_checkpoint
from tests.train.test_checkpoint import point
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    save_checkpoint(sys.argv[1], point(20), keep=1)
except EngineError as error:
    print(error.what)
"""


@pytest.mark.parametrize("file", ["program.json", "state.safetensors"])
def test_a_limit_on_file_sizes_keeps_the_last_good_checkpoint(tmp_path: Path, file: str) -> None:
    path = save_checkpoint(tmp_path, point(10))
    limit = (path / "model" / file).stat().st_size - 1
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "file too large" in ran.stdout
    assert os.listdir(tmp_path) == ["step-00000010"]
    assert_same(latest_checkpoint(tmp_path, PROGRAM), point(10))


def test_what_a_killed_save_left_is_ignored_and_cleaned_by_the_next(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, point(10))
    shutil.copytree(path, tmp_path / ".step-00000017.0123456789ab.tmp")
    (tmp_path / ".step-00000099.0123456789ab.tmp").mkdir()
    (tmp_path / ".mine").mkdir()
    assert names(tmp_path) == ["step-00000010"]
    assert latest_checkpoint(tmp_path).step == 10
    save_checkpoint(tmp_path, point(20))
    assert sorted(os.listdir(tmp_path)) == [".mine", "step-00000010", "step-00000020"]


def test_a_checkpoint_left_moved_aside_by_a_crash_is_found(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, point(10))
    path = save_checkpoint(tmp_path, point(20))
    path.rename(tmp_path / ".step-00000020.0123456789ab.old")
    assert_same(latest_checkpoint(tmp_path), point(20))
    assert sorted(os.listdir(tmp_path)) == ["step-00000010", "step-00000020"]
