"""Checkpoints: Program, state, reader position and counters in one atomic directory.

    runs/digits/checkpoints/step-00000230/
        program.json  state.safetensors     as saved by `ir/save.py`
        checkpoint.json                     step, epoch, reader position, metrics, Program hash

A directory appears complete or not at all; the newest complete one is what `--resume` takes.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noria.core.errors import FormatError, MissingError, NoriaError
from noria.core.files import atomic_directory, recover
from noria.ir.compare import structural_hash
from noria.ir.program import Program
from noria.ir.save import load, save

FORMAT, VERSION = "noria-checkpoint", 1
_NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What training needs to go on as if it had never stopped.

    step, epoch: finished ones; reader: `Reader.state()`; extra: anything JSON can hold.
    """

    program: Program
    state: dict[str, np.ndarray]
    step: int
    epoch: int
    reader: dict[str, Any]
    extra: dict[str, Any]


def save_checkpoint(directory: str | Path, checkpoint: Checkpoint, keep: int = 3) -> Path:
    """Write one checkpoint below `directory`, then remove all but the newest `keep`.

    Raises EngineError if the disk is full; older checkpoints are then still whole.
    """
    path = Path(directory) / f"step-{checkpoint.step:08d}"
    about = {
        "format": FORMAT,
        "version": VERSION,
        "step": checkpoint.step,
        "epoch": checkpoint.epoch,
        "reader": checkpoint.reader,
        "program_hash": structural_hash(checkpoint.program),
        "extra": checkpoint.extra,
    }
    with atomic_directory(path) as temporary:
        save(checkpoint.program, temporary / "model", checkpoint.state)
        (temporary / "checkpoint.json").write_text(json.dumps(about, indent=1))
    for old in list_checkpoints(directory)[: -max(keep, 1)]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def list_checkpoints(directory: str | Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    folder = Path(directory)
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=lambda p: int(p.name[5:]))


def load_checkpoint(path: str | Path, program: Program | None = None) -> Checkpoint:
    """Read one checkpoint.

    program: what is about to be trained; raises FormatError if the checkpoint is of another one.
    """
    path = Path(path)
    recover(path)
    about = _read_about(path / "checkpoint.json")
    saved, state = load(path / "model")
    found = structural_hash(saved)
    if found != about["program_hash"]:
        raise FormatError(
            "the checkpoint's Program is not the one it was written with",
            where=str(path),
            expected=about["program_hash"],
            got=found,
            hint="use an older checkpoint",
        )
    if program is not None and structural_hash(program) != found:
        raise FormatError(
            "the checkpoint is of another Program",
            where=str(path),
            expected=f"'{program.name}' with {len(program.state)} states",
            got=f"'{saved.name}' with {len(saved.state)} states",
            hint="train in a new directory, or build the model as it was",
        )
    return Checkpoint(saved, state, about["step"], about["epoch"], about["reader"], about["extra"])


def latest_checkpoint(directory: str | Path, program: Program | None = None) -> Checkpoint:
    """The newest checkpoint that can be read; damaged ones are passed over.

    Raises MissingError if there is none, FormatError if the newest is of another Program.
    """
    problems: list[str] = []
    for path in reversed(list_checkpoints(directory)):
        try:
            return load_checkpoint(path, program)
        except NoriaError as error:
            if "another Program" in error.what:
                raise
            problems.append(f"{path.name}: {error.what}")
    raise MissingError(
        "no checkpoint to resume from",
        where=str(directory),
        got="; ".join(problems) or "no checkpoints",
        hint="train without --resume first",
    )


_FIELDS: Mapping[str, type] = {
    "step": int,
    "epoch": int,
    "reader": dict,
    "program_hash": str,
    "extra": dict,
}


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FormatError(
            "not a checkpoint", where=str(path), got=str(error), hint="use an older checkpoint"
        ) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise FormatError("not a checkpoint", where=str(path), expected=f"format {FORMAT}")
    if about.get("version") != VERSION:
        raise FormatError(
            "the checkpoint has another version",
            where=str(path),
            expected=f"version {VERSION}",
            got=str(about.get("version")),
        )
    for name, kind in _FIELDS.items():
        if not isinstance(about.get(name), kind):
            raise FormatError(
                f"checkpoint.json has no valid '{name}'",
                where=str(path),
                expected=kind.__name__,
                got=repr(about.get(name))[:60],
            )
    return about
