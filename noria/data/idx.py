"""IDX files, the format of MNIST and its relatives (LeCun, Cortes, Burges, 1998), plain or gzip.

u8 0 · u8 0 · u8 type · u8 n · n x u32 dims · the elements, row-major, all big-endian
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from noria.core.errors import DTypeError, FormatError, ShapeError
from noria.core.files import atomic_write

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _TYPES.items()}
_MAX_DIMS = 32
_GZIP_MAGIC = b"\x1f\x8b"
_DEFLATE_RATIO = 1032  # no stream expands more: https://zlib.net/zlib_tech.html
_CHUNK = 1 << 20


def read_idx(path: str | os.PathLike[str], *, sha256: str = "") -> NDArray[Any]:
    """The array of an IDX file: uint8, int8, int16, int32, float32 or float64, writable.

    sha256: if given, the sum (hex) the uncompressed file must have.
    Memory grows with what the file really holds, not with what its header claims.
    Raises FormatError if the file is no IDX file, is cut short, goes on after the array, or has
    another sum; OSError if it cannot be opened.
    """
    with open(path, "rb") as file, _format_errors(path):
        size = os.fstat(file.fileno()).st_size
        compressed = file.peek(2)[:2] == _GZIP_MAGIC
        stream: BinaryIO = gzip.GzipFile(fileobj=file) if compressed else file  # type: ignore[assignment]
        header, dtype, dims = _read_header(stream)
        claimed = math.prod(dims) * dtype.itemsize
        if claimed > size * (_DEFLATE_RATIO if compressed else 1):
            raise FormatError(
                "the IDX header claims more than the file can hold",
                expected=f"{claimed} bytes for dims {list(dims)}",
                got=f"a file of {size} bytes",
            )
        data = _read_exactly(stream, claimed)
    digest = hashlib.sha256(header)
    digest.update(data)
    if sha256 and digest.hexdigest() != sha256:
        raise FormatError(
            "the file is not the one expected",
            where=str(path),
            expected=f"sha256 {sha256} of the uncompressed file",
            got=digest.hexdigest(),
        )
    array = np.frombuffer(data, dtype).reshape(dims)
    return array.astype(dtype.newbyteorder("="), copy=False)


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Writes an array as an IDX file, gzip-compressed if the name ends in `.gz`.

    array: uint8, int8, int16, int32, float32 or float64, of 1 to 32 dimensions.
    Raises DTypeError or ShapeError for another array, EngineError if the disk is full.
    """
    array = np.asarray(array)
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        raise DTypeError(
            "IDX has no such element type",
            expected=", ".join(str(dtype) for dtype in _CODES),
            got=str(array.dtype),
        )
    if not 1 <= array.ndim <= _MAX_DIMS or max(array.shape) >= 2**32:
        expected = f"1 to {_MAX_DIMS} dims below 2**32"
        raise ShapeError("IDX cannot hold this shape", expected=expected, got=str(array.shape))
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    content = header + array.astype(_TYPES[code]).tobytes()
    zipped = Path(path).suffix == ".gz"
    atomic_write(path, gzip.compress(content, mtime=0) if zipped else content)


def _read_header(stream: BinaryIO) -> tuple[bytes, np.dtype[Any], tuple[int, ...]]:
    magic = bytes(_read_exactly(stream, 4, last=False))
    zeros, code, rank = struct.unpack(">HBB", magic)
    if zeros != 0 or code not in _TYPES or not 1 <= rank <= _MAX_DIMS:
        codes = ", ".join(f"{known:02x}" for known in _TYPES)
        expected = f"00 00, a type code ({codes}), 1 to {_MAX_DIMS} dims"
        raise FormatError("not an IDX file", expected=expected, got=f"begins with {magic.hex(' ')}")
    packed = bytes(_read_exactly(stream, 4 * rank, last=False))
    dims = struct.unpack(f">{rank}I", packed)
    if math.prod(max(d, 1) for d in dims) >= 2**60:  # NumPy refuses it even where one dim is 0
        raise FormatError("the dims of the IDX file are too large", got=str(list(dims)))
    return magic + packed, np.dtype(_TYPES[code]), dims


def _read_exactly(stream: BinaryIO, size: int, *, last: bool = True) -> bytearray:
    """`size` bytes, read in chunks; if they are the `last`, the stream must end there."""
    data = bytearray()
    while len(data) < size:
        chunk = stream.read(min(_CHUNK, size - len(data)))
        if not chunk:
            got = f"{len(data)} bytes"
            raise FormatError("the IDX file is cut short", expected=f"{size} bytes", got=got)
        data += chunk
    if last and stream.read(1):
        raise FormatError("the IDX file goes on after its array", expected=f"{size} bytes of it")
    return data


@contextmanager
def _format_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        raise error.at(str(path)) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError("broken gzip data", where=str(path), got=str(error)) from None
