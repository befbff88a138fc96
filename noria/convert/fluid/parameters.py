"""Fluid's parameter files, read and written: one file a variable, or all in one.

A record, little endian: u32 0, u64 number of levels, for each level u64 bytes and u64 offsets,
u32 0, i32 n, n bytes of a TensorDesc, the raw numbers in row-major order. A combined file holds the
records of all persistable variables in sorted order of their names, without the names.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from noria.convert.fluid.handlers import CODES, dtype_of
from noria.convert.messages import parse_message, schema
from noria.core.dtypes import as_dtype, to_numpy
from noria.core.errors import ArgumentError, DTypeError, FormatError, MissingError
from noria.core.files import atomic_write

MAX_LEVELS = 16
MAX_RANK = 64
MAX_DESC = 1 << 12  # bytes of a TensorDesc
MAX_SIZE = 1 << 48  # elements along an axis


def read_parameter(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of a file with one variable. Raises FormatError for what is no such file."""
    data = _content(path)
    array, end = _record(data, 0, str(path))
    if end != len(data):
        raise FormatError(
            "more than one variable in the file",
            where=str(path),
            expected=f"{end} bytes",
            got=f"{len(data)} bytes",
        )
    return array


def read_combined(path: str | os.PathLike[str], names: Iterable[str]) -> dict[str, np.ndarray]:
    """The variables of a combined file; `names` in any order.

    Raises FormatError for a file that is broken, or that holds another number of variables.
    """
    data, at = _content(path), 0
    found = {}
    for name in sorted(names):
        found[name], at = _record(data, at, f"'{name}' in {path}")
    if at != len(data):
        raise FormatError(
            "the file holds more variables than the model",
            where=str(path),
            expected=f"{len(found)} variables in {at} bytes",
            got=f"{len(data)} bytes",
        )
    return found


def read_folder(folder: str | os.PathLike[str], names: Iterable[str]) -> dict[str, np.ndarray]:
    """The variables of a folder with a file for each.

    Raises MissingError, naming all files that are not there, FormatError for a broken one and for
    a name that leads out of the folder.
    """
    paths = {name: _inside(Path(folder), name) for name in names}
    missing = sorted(name for name, path in paths.items() if not path.is_file())
    if missing:
        raise MissingError(
            f"{len(missing)} of {len(paths)} parameter files are not there",
            where=str(folder),
            got=", ".join(missing[:10]) + (", ..." if len(missing) > 10 else ""),
        )
    return {name: read_parameter(path) for name, path in paths.items()}


def write_parameter(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """One variable as a file. Raises DTypeError for a dtype Fluid has no number for."""
    atomic_write(path, record(array))


def write_folder(folder: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> None:
    """A file for each variable, under its name."""
    for name, array in state.items():
        write_parameter(_inside(Path(folder), name), array)


def write_combined(path: str | os.PathLike[str], state: Mapping[str, np.ndarray]) -> None:
    """All variables in one file, in sorted order of their names."""
    atomic_write(path, b"".join(record(state[name]) for name in sorted(state)))


def record(array: np.ndarray) -> bytes:
    """The bytes of one variable. Raises DTypeError for a dtype Fluid has no number for."""
    array = np.asarray(array)
    name = as_dtype(array.dtype)
    if name not in CODES:
        raise DTypeError(f"Fluid has no number for {name}", expected=", ".join(CODES))
    desc = schema("fluid").TensorDesc(data_type=CODES[name], dims=array.shape).SerializeToString()
    head = struct.pack("<IQIi", 0, 0, 0, len(desc))
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return head + desc + little.tobytes()


# ---- one record --------------------------------------------------------------------------------


def _content(path: str | os.PathLike[str]) -> memoryview:
    file = Path(path)
    if not file.is_file():
        raise MissingError("no such parameter file", where=str(file))
    return memoryview(file.read_bytes())


def _record(data: memoryview, at: int, where: str) -> tuple[np.ndarray, int]:
    """(the array, where the next record begins)."""
    version, at = _number(data, at, "<I", where)
    levels, at = _number(data, at, "<Q", where)
    if version != 0 or levels > MAX_LEVELS:
        raise FormatError(
            "not a variable of Fluid",
            where=where,
            expected=f"version 0 and at most {MAX_LEVELS} levels of rows",
            got=f"version {version}, {levels} levels",
        )
    for _ in range(levels):  # offsets of rows: parameters have none that mean anything
        size, at = _number(data, at, "<Q", where)
        at = _skipped(data, at, size, where)
    version, at = _number(data, at, "<I", where)
    size, at = _number(data, at, "<i", where)
    if version != 0 or not 0 <= size <= MAX_DESC:
        raise FormatError(
            "not a tensor of Fluid",
            where=where,
            expected=f"version 0 and a description of 0 to {MAX_DESC} bytes",
            got=f"version {version}, {size} bytes",
        )
    end = _skipped(data, at, size, where)
    desc = parse_message(schema("fluid").TensorDesc(), bytes(data[at:end]), where)
    return _numbers(data, end, desc.data_type, list(desc.dims), where)


def _numbers(
    data: memoryview, at: int, code: int, dims: list[int], where: str
) -> tuple[np.ndarray, int]:
    if len(dims) > MAX_RANK or any(not 0 <= d <= MAX_SIZE for d in dims):
        raise FormatError("a shape that cannot be", where=where, got=str(dims[:MAX_RANK]))
    try:
        dtype = to_numpy(dtype_of(code))
    except DTypeError as error:
        raise FormatError(error.what, where=where, expected=error.expected) from None
    count = math.prod(dims)
    end = _skipped(data, at, count * dtype.itemsize, where)
    array = np.frombuffer(data[at:end], np.uint8).view(dtype.newbyteorder("<")).reshape(dims)
    if code == 0 and (np.frombuffer(data[at:end], np.uint8) > 1).any():
        raise FormatError("a bool that is neither 0 nor 1", where=where)
    return array.astype(dtype), end


def _number(data: memoryview, at: int, form: str, where: str) -> tuple[int, int]:
    end = _skipped(data, at, struct.calcsize(form), where)
    return struct.unpack(form, data[at:end])[0], end


def _skipped(data: memoryview, at: int, size: int, where: str) -> int:
    if size > len(data) - at:
        raise FormatError(
            "the file ends too early",
            where=where,
            expected=f"{size} more bytes at {at}",
            got=f"{len(data) - at}",
        )
    return at + size


def _inside(folder: Path, name: str) -> Path:
    """The file of a variable. A name is not trusted: it may not lead elsewhere."""
    path = PurePosixPath(name)
    if not name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise FormatError("the name of a variable leads out of its folder", got=repr(name[:100]))
    if len(name) > 1000:
        raise ArgumentError("the name of a variable is too long", got=f"{len(name)} characters")
    return folder / path
