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

from noria.core.errors import ArgumentError, FormatError, MissingError, NoriaError
from noria.core.files import atomic_directory, recover, sweep
from noria.ir.compare import difference, structural_hash
from noria.ir.program import Program
from noria.ir.save import load, save

FORMAT, VERSION = "noria-checkpoint", 1
_NAME = re.compile(r"step-(\d{8,})")
_LEFT = re.compile(r"\.(step-\d{8,})\.[0-9a-f]{12}\.(tmp|old)")  # by a save that was killed
_MAX_CHANGES = 8  # lines that tell how another Program differs


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


class _Foreign(FormatError):
    """A whole checkpoint that is not for this training: nothing to be passed over in silence."""


def save_checkpoint(directory: str | Path, checkpoint: Checkpoint, keep: int = 3) -> Path:
    """Write one checkpoint below `directory`, then remove all but the newest `keep`.

    Those of later steps go too: this run did not go on from them. So does what killed saves left.
    Raises ArgumentError if `extra` is not JSON, EngineError if the disk is full; older checkpoints
    are then still whole.
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
    text = _json(about)
    for target in _left_behind(path.parent):
        sweep(target)
    with atomic_directory(path) as temporary:
        save(checkpoint.program, temporary / "model", checkpoint.state)
        (temporary / "checkpoint.json").write_text(text, encoding="utf-8")
    found = list_checkpoints(directory)
    kept = [p for p in found if _step(p) <= checkpoint.step][-max(keep, 1) :]
    for other in set(found) - set(kept):
        shutil.rmtree(other, ignore_errors=True)
    return path


def list_checkpoints(directory: str | Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    folder = Path(directory)
    if not folder.is_dir():
        return []
    return sorted(
        (p for p in folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()), key=_step
    )


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _left_behind(folder: Path) -> set[Path]:
    """The checkpoints that killed saves were about to write."""
    if not folder.is_dir():
        return set()
    return {folder / m[1] for p in folder.iterdir() if (m := _LEFT.fullmatch(p.name))}


def _json(about: dict[str, Any]) -> str:
    try:
        return json.dumps(about, indent=1)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            "a checkpoint can hold only what JSON can", where="reader, extra", got=str(error)
        ) from None


def load_checkpoint(path: str | Path, program: Program | None = None) -> Checkpoint:
    """Read one checkpoint.

    program: what is about to be trained
    Raises FormatError if the checkpoint is damaged, of another version or of another Program,
    MissingError if its model is not there.
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
        raise _Foreign(
            "the checkpoint is of another Program",
            where=str(path),
            got=_first_changes(program, saved),
            hint="train in a new directory, or build the model as it was",
        )
    return Checkpoint(saved, state, about["step"], about["epoch"], about["reader"], about["extra"])


def latest_checkpoint(directory: str | Path, program: Program | None = None) -> Checkpoint:
    """The newest checkpoint that can be read; damaged ones are passed over.

    Raises MissingError if there is none, FormatError if the newest whole one is of another Program
    or version.
    """
    for path in _left_behind(Path(directory)):
        recover(path)  # where a disk cannot replace a directory in one step
    problems: list[str] = []
    for path in reversed(list_checkpoints(directory)):
        try:
            return load_checkpoint(path, program)
        except _Foreign:
            raise
        except (NoriaError, OSError) as error:  # OSError: the disk, or permissions
            problems.append(f"{path.name}: {getattr(error, 'what', error)}")
    raise MissingError(
        "no checkpoint to resume from",
        where=str(directory),
        got="; ".join(problems) or "no checkpoints",
        hint="train without --resume first",
    )


def _first_changes(program: Program, saved: Program) -> str:
    """The first operators that differ; if none does, the first declarations."""
    mine, other = program.copy(), saved.copy()
    mine.name, other.name = "this training", "the checkpoint"
    told, _, diff = (difference(mine, other) or "").partition("\n---")
    if "\n" in told:
        return told
    changes = [line for line in f"---{diff}".splitlines() if line[0] in "+-"]
    return "\n".join([told, *changes[:_MAX_CHANGES]])


_FIELDS: Mapping[str, type] = {
    "step": int,
    "epoch": int,
    "reader": dict,
    "program_hash": str,
    "extra": dict,
}


def _read_about(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(
            "not a checkpoint", where=str(path), got=str(error), hint="use an older checkpoint"
        ) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise FormatError("not a checkpoint", where=str(path), expected=f"format {FORMAT}")
    if about.get("version") != VERSION:
        raise _Foreign(
            "the checkpoint has another version",
            where=str(path),
            expected=f"version {VERSION}",
            got=str(about.get("version"))[:60],
            hint="go on with the version of noria that wrote it, or train in a new directory",
        )
    for name, kind in _FIELDS.items():
        value = about.get(name)
        if type(value) is not kind or (isinstance(value, int) and value < 0):
            raise FormatError(
                f"checkpoint.json has no valid '{name}'",
                where=str(path),
                expected=f"{kind.__name__}{' >= 0' if kind is int else ''}",
                got=repr(value)[:60],
            )
    return about
