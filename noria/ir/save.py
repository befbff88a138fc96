"""Programs on disk: a directory, or one zip file where the path ends with `.noria` or `.zip`.

    program.json       the Program: readable, diffable, versioned   (form: `ir/encode.py`)
    state.safetensors  its state, and constants of more than 16 elements

Loading runs no code that the file brings, and is bounded by the file's size. What is written
appears whole or not at all; equal Programs give equal bytes. The zip form is put together in
memory: for models of many GB take the directory.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from noria.core import shapes
from noria.core.dtypes import as_dtype
from noria.core.errors import (
    ArgumentError,
    DTypeError,
    FormatError,
    MissingError,
    NoriaError,
    nearest,
)
from noria.core.files import atomic_directory, atomic_write, recover
from noria.ir.decode import Decoder
from noria.ir.encode import Encoder, json_text
from noria.ir.program import Program, Spec
from noria.ir.tensors import read_tensors, tensor_bytes, write_tensors
from noria.ir.verify import verify

PROGRAM, TENSORS = "program.json", "state.safetensors"
ZIPPED = (".noria", ".zip")
ENCRYPTED = 1  # bit of a zip entry's flags
MAX_JSON = 64 << 20  # bytes of program.json: about 200,000 operators

_BAD_ZIP = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, NotImplementedError)

Path_ = str | os.PathLike[str]
Arrays = dict[str, np.ndarray]

# ---- writing -----------------------------------------------------------------------------------


def save(program: Program, path: Path_, state: Mapping[str, Any] | None = None) -> None:
    """Write the Program, and the arrays of its state if given, in the place of what is at `path`.

    state: state name -> array, for all the Program's state; None saves the Program alone.
    Raises ProgramError if the Program breaks a rule of the IR, MissingError, DTypeError or
    ShapeError if `state` is not the Program's, ArgumentError if `path` is a directory of something
    else, EngineError if the disk is full or refuses.
    """
    verify(program)
    encoder = Encoder(program)
    text = json_text(encoder.data(has_state=state is not None)) + "\n"
    arrays = encoder.constants | ({} if state is None else checked_state(program, state))
    if len(text) > MAX_JSON:
        raise ArgumentError(f"the Program takes {len(text)} bytes", expected=f"at most {MAX_JSON}")
    if str(path).endswith(ZIPPED):
        atomic_write(path, lambda file: _write_zip(file, text, arrays))
        return
    _refuse_other_directory(Path(path))
    with atomic_directory(path) as folder:
        (folder / PROGRAM).write_text(text, encoding="utf-8")
        write_tensors(folder / TENSORS, arrays)


def checked_state(program: Program, state: Mapping[str, Any]) -> Arrays:
    """`state` as arrays: all of the Program's state, nothing else, dtypes and shapes as declared.

    Raises MissingError, DTypeError or ShapeError.
    """
    missing = [n for n in program.state if n not in state]
    if missing:
        raise MissingError(
            f"{len(missing)} of the Program's {len(program.state)} state arrays are not given",
            got=f"no {', '.join(missing[:20])}",
        )
    arrays = {}
    for name, array in state.items():
        if name not in program.state:
            hint = nearest(name, program.state)
            raise MissingError(f"the Program has no state '{name}'", hint=hint)
        arrays[name] = _checked(name, np.asarray(array), program.state[name].value)
    return arrays


def _checked(name: str, array: np.ndarray, declared: Spec) -> np.ndarray:
    shapes.solve(declared.shape, array.shape, where=f"state '{name}'", checks=[])
    if as_dtype(array.dtype) != declared.dtype:
        raise DTypeError(
            "the array has another dtype than declared",
            where=f"state '{name}'",
            expected=declared.dtype,
            got=as_dtype(array.dtype),
        )
    return array


def _refuse_other_directory(path: Path) -> None:
    if path.is_dir() and any(path.iterdir()) and not (path / PROGRAM).is_file():
        raise ArgumentError(
            "a directory that holds other things is not replaced",
            where=str(path),
            expected="a new or empty directory, or a saved Program",
            hint=f"save to {path / 'model'}",
        )


def _write_zip(file: BinaryIO, text: str, arrays: Arrays) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(_entry(PROGRAM, zipfile.ZIP_DEFLATED), text)
        archive.writestr(_entry(TENSORS, zipfile.ZIP_STORED), tensor_bytes(arrays))


def _entry(name: str, compression: int) -> zipfile.ZipInfo:
    """A fixed date (the default, 1980), so that equal Programs give equal files."""
    info = zipfile.ZipInfo(name)
    info.compress_type = compression
    info.external_attr = 0o644 << 16
    return info


# ---- reading -----------------------------------------------------------------------------------


def load(path: Path_, *, mapped: bool = False) -> tuple[Program, Arrays]:
    """(the Program, its state by name), as `save` wrote them; the state is {} if none was saved.

    mapped: large arrays of a directory are not read but mapped (`core/mapped.py`). The directory
            may be replaced meanwhile, its files must not be written into.

    Ops of your own must be defined before. Raises MissingError if nothing is at `path`, FormatError
    with the place for anything that is not a whole, valid Program of a version known here.
    """
    recover(path)
    place = Path(path)
    if not place.exists():
        raise MissingError(f"there is no saved Program at '{path}'")
    with _whole(str(path)):
        if place.is_dir():
            return _load_from(*_read_directory(place), mapped)
        return _load_from(*_read_zip(place))


def _load_from(text: bytes, tensors: Path | bytes, mapped: bool = False) -> tuple[Program, Arrays]:
    data = _parsed(text)
    with read_tensors(tensors, TENSORS, mapped=mapped) as arrays:
        program, has_state = Decoder(arrays.take).program(data)
        verify(program)
        values = [s.value for s in program.state.values()] if has_state else []
        state = {v.name: arrays.take(v.name, v, f"state '{v.name}'") for v in values}
        arrays.end()
    return program, state


@contextmanager
def _whole(path: str) -> Iterator[None]:
    """Any way in which a file can be wrong becomes one FormatError that names the file."""
    try:
        yield
    except FormatError as error:
        error.where = f"{path}, {error.where}" if error.where else path
        raise
    except NoriaError as error:
        raise FormatError(
            f"the file does not hold a valid Program: {error.what}",
            where=f"{path}, {error.where}",
            expected=error.expected,
            got=error.got,
            hint=error.hint,
        ) from error
    except RecursionError:
        raise FormatError("the file is nested too deep", where=path) from None


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(
            text.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant
        )
    except ValueError as error:  # also UnicodeDecodeError, JSONDecodeError, too many digits
        if isinstance(error, FormatError):
            raise
        raise FormatError("this is not JSON", where=PROGRAM, got=str(error)) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("a JSON object has a field twice", where=PROGRAM)
    return found


def _no_constant(name: str) -> Any:
    raise FormatError(f"{name} is not JSON", where=PROGRAM, hint='{"float": "nan"}')


def _read_directory(folder: Path) -> tuple[bytes, Path]:
    for name in (PROGRAM, TENSORS):
        if not (folder / name).is_file():
            raise FormatError(f"the directory has no {name}", expected="a saved Program")
    with open(folder / PROGRAM, "rb") as file:
        text = file.read(MAX_JSON + 1)
    _limit(len(text))
    return text, folder / TENSORS


def _limit(size: int) -> None:
    if size > MAX_JSON:
        raise FormatError("the file is too large", where=PROGRAM, expected=f"{MAX_JSON} bytes")


def _read_zip(path: Path) -> tuple[bytes, bytes]:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            text, state = _checked_entries(archive, size)
            with archive.open(text) as file:
                found = file.read(MAX_JSON + 1)
            if len(found) != text.file_size:
                raise zipfile.BadZipFile(f"{PROGRAM} has {len(found)} bytes, not {text.file_size}")
            return found, archive.read(state)
    except (*_BAD_ZIP, OSError) as error:
        if isinstance(error, FormatError):
            raise
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise  # not of a damaged offset, to which one cannot seek
        raise FormatError(
            "this is not a zip file, or it is damaged",
            expected="a Program saved as .noria",
            got=f"{size} bytes, {error}",
        ) from None


def _checked_entries(
    archive: zipfile.ZipFile, size: int
) -> tuple[zipfile.ZipInfo, zipfile.ZipInfo]:
    """The two entries, which must be of the sizes they claim before anything is unpacked."""
    entries = sorted(archive.infolist(), key=lambda info: info.filename)
    if [info.filename for info in entries] != [PROGRAM, TENSORS]:
        got = ", ".join(info.filename for info in entries[:5]) or "an empty archive"
        raise FormatError("not a saved Program", expected=f"{PROGRAM} and {TENSORS}", got=got)
    text, state = entries
    known = text.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if not known or (text.flag_bits | state.flag_bits) & ENCRYPTED:
        raise FormatError("the zip file is encrypted, or compressed in a way noria does not use")
    _limit(text.file_size)
    stored = state.compress_type == zipfile.ZIP_STORED and state.file_size == state.compress_size
    if not stored or text.compress_size + state.compress_size > size:
        raise FormatError(
            "the sizes in the zip file make no sense",
            expected=f"parts of {size} bytes, {TENSORS} not compressed",
            got=f"{text.compress_size} and {state.compress_size} for {state.file_size} bytes",
        )
    return text, state
