"""ONNX tensors as NumPy arrays, and their types; nothing is allocated before lengths are compared.

Types that noria's Programs do not know (eight-bit floats, four-bit integers, complex numbers,
strings) are arrays too: what converts a model can compute on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from noria.core.errors import FormatError

STRING = 8
DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(kind)
    for number, kind in {
        1: np.float32,
        2: np.uint8,
        3: np.int8,
        4: np.uint16,
        5: np.int16,
        6: np.int32,
        7: np.int64,
        STRING: np.object_,
        9: np.bool_,
        10: np.float16,
        11: np.float64,
        12: np.uint32,
        13: np.uint64,
        14: np.complex64,
        15: np.complex128,
        16: ml_dtypes.bfloat16,
        17: ml_dtypes.float8_e4m3fn,
        18: ml_dtypes.float8_e4m3fnuz,
        19: ml_dtypes.float8_e5m2,
        20: ml_dtypes.float8_e5m2fnuz,
        21: ml_dtypes.uint4,
        22: ml_dtypes.int4,
        23: ml_dtypes.float4_e2m1fn,
        24: ml_dtypes.float8_e8m0fnu,
        25: ml_dtypes.uint2,
        26: ml_dtypes.int2,
        27: ml_dtypes.float6_e2m3fn,
        28: ml_dtypes.float6_e3m2fn,
    }.items()
}
BITS = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2, 27: 6, 28: 6}  # of the types that are packed
MAX_DENSE = 1 << 31  # bytes of a sparse tensor written out

_FIELDS = {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data"}
_FIELDS |= {13: "uint64_data", 14: "float_data", 15: "double_data"}


def dtype_of(number: int, where: str = "") -> np.dtype[Any]:
    """The NumPy dtype of ONNX's number for an element type. Raises FormatError."""
    try:
        return DTYPES[number]
    except KeyError:
        raise FormatError("an unknown element type", where=where, got=str(number)) from None


def array_of(tensor: Any, folder: Path | None = None, where: str = "") -> np.ndarray:
    """The numbers of a TensorProto, read-only.

    folder: where a model's external data may lie; nothing outside it is opened. Raises
    FormatError where lengths and sizes do not fit, or data are said to be elsewhere.
    """
    where = where or f"tensor '{tensor.name}'"
    dtype = dtype_of(tensor.data_type, where)
    shape = tuple(tensor.dims)
    if any(d < 0 for d in shape):
        raise FormatError("a size is negative", where=where, got=str(list(shape)))
    if tensor.HasField("segment"):
        raise FormatError("tensors in segments are not part of ONNX since 2017", where=where)
    count = math.prod(shape)
    if tensor.data_type == STRING:
        return _strings(tensor, count, where).reshape(shape)
    if tensor.data_location == 1:
        flat = _from_bytes(_external(tensor, count, folder, where), tensor.data_type, count, where)
    elif tensor.HasField("raw_data"):
        flat = _from_bytes(tensor.raw_data, tensor.data_type, count, where)
    else:
        flat = _from_field(tensor, dtype, count, where)
    flat.flags.writeable = False
    return flat.reshape(shape)


def dense_of(sparse: Any, where: str = "") -> np.ndarray:
    """A SparseTensorProto with its zeros written out. Raises FormatError."""
    values = array_of(sparse.values, where=where)
    indices = array_of(sparse.indices, where=where)
    shape = tuple(sparse.dims)
    count = math.prod(shape)
    if any(d < 0 for d in shape) or count * values.itemsize > MAX_DENSE:
        raise FormatError("a sparse tensor is too large", where=where, got=str(list(shape)))
    if indices.ndim == 2 and indices.shape == (values.size, len(shape)):
        inside = (indices >= 0) & (indices < np.array(shape, np.int64))
        if not inside.all():
            raise FormatError("an index lies outside its sparse tensor", where=where)
        indices = np.ravel_multi_index(tuple(indices.T), shape) if shape else indices[:, :0].sum(1)
    if indices.shape != (values.size,) or (indices.size and not _inside(indices, count)):
        raise FormatError(
            "the indices of a sparse tensor do not fit",
            where=where,
            expected=f"[{values.size}] below {count}, or [{values.size}, {len(shape)}]",
            got=str(list(indices.shape)),
        )
    out = np.zeros(count, values.dtype)
    out[indices] = values.reshape(-1)
    return out.reshape(shape)


def _inside(indices: np.ndarray, count: int) -> bool:
    return bool(indices.min() >= 0 and indices.max() < count)


def _need_length(got: int, wanted: int, what: str, where: str, shape: Any) -> None:
    if got != wanted:
        raise FormatError(
            f"a tensor has the wrong number of {what}",
            where=where,
            expected=f"{wanted:,}, for the sizes {list(shape)}",
            got=f"{got:,}",
        )


def _strings(tensor: Any, count: int, where: str) -> np.ndarray:
    _need_length(len(tensor.string_data), count, "strings", where, tensor.dims)
    out = np.empty(count, object)
    for i, data in enumerate(tensor.string_data):
        try:
            out[i] = data.decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError("a string is not UTF-8", where=where, got=repr(data[:40])) from None
    return out


def bytes_of(number: int, count: int) -> int:
    """How many bytes `count` elements of an element type take."""
    return -(-count * BITS[number] // 8) if number in BITS else count * DTYPES[number].itemsize


def _from_bytes(data: bytes, number: int, count: int, where: str) -> np.ndarray:
    _need_length(len(data), bytes_of(number, count), "bytes", where, [count])
    if number in BITS:
        return _unpacked(np.frombuffer(data, np.uint8), number, count)
    dtype = DTYPES[number]
    if dtype == np.bool_:
        return np.frombuffer(data, np.uint8) != 0
    little = dtype.newbyteorder("<") if dtype.kind in "iufc" and dtype.itemsize > 1 else dtype
    return np.frombuffer(data, little).astype(dtype)  # a copy: aligned, and apart from the message


def _unpacked(packed: np.ndarray, number: int, count: int) -> np.ndarray:
    """Elements of less than a byte, the first in the lowest bits."""
    bits, dtype = BITS[number], DTYPES[number]
    ones = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    codes = np.packbits(ones, axis=1, bitorder="little").reshape(count)
    if dtype in (np.dtype(ml_dtypes.int4), np.dtype(ml_dtypes.int2)):
        half = 1 << (bits - 1)
        return ((codes.astype(np.int8) ^ half) - half).astype(dtype)
    return codes.view(dtype)


def _from_field(tensor: Any, dtype: np.dtype[Any], count: int, where: str) -> np.ndarray:
    number = tensor.data_type
    data: Sequence[Any] = getattr(tensor, _FIELDS.get(number, "int32_data"))
    if number in BITS and BITS[number] != 6:  # an element of the field holds a byte of them
        size = bytes_of(number, count)
        _need_length(len(data), size, "elements", where, tensor.dims)
        return _unpacked(np.array(data, np.int32).astype(np.uint8), number, count)
    _need_length(len(data), 2 * count if dtype.kind == "c" else count, "elements", where, [count])
    if dtype.kind == "c":
        return np.array(data, np.float32 if number == 14 else np.float64).view(dtype)
    if number in (10, 16):  # halves, as their bits
        return np.array(data, np.int32).astype(np.uint16).view(dtype)
    if number >= 16:  # small floats, as their bits
        return np.array(data, np.int32).astype(np.uint8).view(dtype)
    if dtype.kind in "iub" and number not in (7, 12, 13):
        return np.array(data, np.int32).astype(dtype)
    if number in (12, 13):
        return np.array(data, np.uint64).astype(dtype)
    return np.array(data, dtype)


def _external(tensor: Any, count: int, folder: Path | None, where: str) -> bytes:
    """The bytes of a tensor that lies in a file of its own."""
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise FormatError(
            "the data of a tensor lie in another file",
            where=where,
            got=repr(location),
            hint="load the model by its path, not as bytes",
        )
    base = folder.resolve()
    path = (base / location).resolve()
    if not location or not path.is_relative_to(base) or not path.is_file():
        raise FormatError(
            "external data must be a file in the folder of the model",
            where=where,
            got=repr(location),
        )
    wanted = bytes_of(tensor.data_type, count)
    offset = _number(entries.get("offset", "0"), "offset", where)
    length = _number(entries.get("length", str(wanted)), "length", where)
    _need_length(length, wanted, "bytes", where, tensor.dims)
    if offset + length > path.stat().st_size:
        raise FormatError(
            "external data reach beyond the end of their file",
            where=where,
            expected=f"at most {path.stat().st_size:,} bytes",
            got=f"{length:,} bytes at {offset:,}",
        )
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _number(text: str, what: str, where: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise FormatError(f"the {what} of external data is no number", where=where, got=repr(text))
    return int(text)
