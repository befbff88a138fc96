"""A saved Fluid or Paddle inference model: where its program and its parameters are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from noria.convert.fluid.desc import FEEDS, FETCHES, LOD_TENSOR, blocks_of
from noria.convert.fluid.parameters import read_combined, read_folder
from noria.convert.fluid.reader import read_program
from noria.convert.messages import read_message, schema
from noria.core.errors import MissingError
from noria.ir.program import Program
from noria.runtime.scope import Scope

PROGRAMS = ("__model__", "model")
COMBINED = ("__params__", "params", "weights")


def load(
    path: str | os.PathLike[str],
    *,
    model: str | None = None,
    params: str | None = None,
    constants: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[Any]] | None = None,
    outputs: Sequence[str] | None = None,
) -> tuple[Program, dict[str, np.ndarray]]:
    """(the Program, name -> array of its state) of a model for inference.

    path:   a folder with `__model__` and a file for each parameter, or one combined file; a
            `.pdmodel` file, or its path without the ending, beside the `.pdiparams` file
    model, params: names of the two files in the folder, where they have other names
    constants, shapes, outputs: as for `read_program`
    Raises MissingError where a file is not there, FormatError for a broken one,
    UnsupportedOperators for a model with operators nobody converts.
    """
    program_file, parameters = _files(Path(path), model, params)
    message = read_message(schema("fluid").ProgramDesc(), program_file)
    where = str(program_file)
    names = [
        v.name
        for v in {
            v.name: v for b in blocks_of(message, where) for v in b.variables.values()
        }.values()
        if v.persistable and v.kind not in (FEEDS, FETCHES) and v.kind == LOD_TENSOR
    ]
    state = (
        read_folder(parameters, names) if parameters.is_dir() else read_combined(parameters, names)
    )
    program = read_program(
        message,
        state=state,
        constants=constants,
        shapes=shapes,
        outputs=outputs,
        name=program_file.stem,
        where=where,
    )
    known = {n: a for n, a in state.items() if n in program.state}
    if program.state.keys() <= known.keys():
        return program, known
    return program, Scope().initialize(program, values=known).state()  # the key of random numbers


def _files(path: Path, model: str | None, params: str | None) -> tuple[Path, Path]:
    """(the file of the program, the combined file of parameters or the folder of theirs)."""
    if path.is_dir():
        program = path / model if model else _one_of(path)
    elif path.suffix == ".pdmodel" or path.is_file():
        program = path
    else:
        program = path.with_name(path.name + ".pdmodel")
    if not program.is_file():
        raise MissingError("no model of Fluid here", where=str(path), expected=str(program))
    folder = program.parent
    if params is not None:
        return program, folder / params
    if program.suffix == ".pdmodel":
        return program, program.with_suffix(".pdiparams")
    combined = [folder / n for n in COMBINED if (folder / n).is_file()]
    return program, combined[0] if combined else folder


def _one_of(folder: Path) -> Path:
    named = [folder / n for n in PROGRAMS if (folder / n).is_file()]
    found = named or sorted(folder.glob("*.pdmodel"))
    if len(found) != 1 and not named:
        raise MissingError(
            "a folder with one model of Fluid is needed",
            where=str(folder),
            expected="__model__, or one .pdmodel file",
            got=", ".join(p.name for p in found) or "none",
        )
    return found[0]
