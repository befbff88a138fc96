"""What a directory of `noria train` remembers: the settings that a resumed run must share.

runs/digits/
    settings.json   recipe, epochs, batch size, seed
    checkpoints/    what --resume takes
    events/         scalars for TensorBoard
    best.noria      the model of the best epoch
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from noria.core.errors import ArgumentError, FormatError, MissingError
from noria.core.files import atomic_write
from noria.train.checkpoint import list_checkpoints

_FILE = "settings.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides the numbers of a run (the learning rate falls over all its steps)."""

    recipe: str
    epochs: int
    batch_size: int
    seed: int

    def must_agree(self, recipe: str, wanted: Mapping[str, int | None]) -> Settings:
        """These settings. Raises ArgumentError if other ones are wanted of a resumed run."""
        for name, value in {"recipe": recipe, **wanted}.items():
            mine = getattr(self, name)
            if value is not None and value != mine:
                option = "" if name == "recipe" else f"--{name.replace('_', '-')} "
                raise ArgumentError(
                    f"a resumed run keeps its {name.replace('_', ' ')}",
                    expected=f"{option}{mine}, as it began",
                    got=f"{option}{value}",
                    hint="--out DIR for another run, or --fresh to start this one over",
                )
        return self


def save_settings(directory: Path, settings: Settings) -> None:
    """Write them into the run's directory."""
    atomic_write(directory / _FILE, json.dumps(asdict(settings), indent=1).encode())


def load_settings(directory: Path) -> Settings:
    """Those of the run in a directory.

    Raises MissingError if there is no run to resume, FormatError for a damaged file.
    """
    path = directory / _FILE
    if not path.is_file():
        raise MissingError(
            "no run to resume here", where=str(directory), hint="leave --resume out to begin one"
        )
    try:
        return Settings(**_checked(json.loads(path.read_bytes())))
    except (ValueError, TypeError, KeyError) as error:
        raise FormatError(
            "not the settings of a run",
            where=str(path),
            expected=", ".join(f.name for f in fields(Settings)),
            got=str(error),
            hint="--fresh to start over",
        ) from None


def _checked(about: Any) -> dict[str, Any]:
    for field in fields(Settings):
        if type(about[field.name]).__name__ != field.type:
            raise ValueError(f"{field.name} = {about[field.name]!r}")
    return dict(about)


def is_used(directory: Path) -> bool:
    """Is there a run that could be resumed?"""
    return bool(list_checkpoints(directory / "checkpoints"))


def clear_run(directory: Path) -> None:
    """Remove what an earlier run wrote, and nothing else."""
    if not directory.is_dir():
        return
    for checkpoint in list_checkpoints(directory / "checkpoints"):
        shutil.rmtree(checkpoint)
    for name in (_FILE, "best.noria"):
        (directory / name).unlink(missing_ok=True)
    for file in (directory / "events").glob("events.out.tfevents.*"):
        file.unlink()
