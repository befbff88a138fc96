"""What an ONNX model says of its inputs, as specs of a Program."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from noria.convert.onnx.tensors import dtype_of
from noria.core.dim_nodes import RESERVED
from noria.core.dims import Size, symbol
from noria.core.dtypes import as_dtype
from noria.core.errors import DTypeError, FormatError, ShapeError
from noria.ir.program import Spec

MAX_SIZE = 1 << 48  # of one axis
_UNKNOWN = {"", "?", "None", "none", "-1"}


def spec_of(info: Any, sizes: dict[str, Size]) -> Spec | None:
    """The spec of a ValueInfoProto; None for what is no tensor that a Program can hold.

    sizes: symbol of the model -> size; what is met first is added. A size without a name, or
    with one that stands for nothing, gets a name after the input.
    """
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type" or not info.type.tensor_type.HasField("shape"):
        return None
    dtype = program_dtype(dtype_of(info.type.tensor_type.elem_type, f"input '{info.name}'"))
    if dtype is None:
        return None
    dims = info.type.tensor_type.shape.dim
    return Spec([_size(d, info.name, i, sizes) for i, d in enumerate(dims)], dtype)


def symbols_told(info: Any) -> set[str]:
    """What the sizes of an input that the model leaves open may be called by who fixes them."""
    found = set()
    for axis, dim in enumerate(info.type.tensor_type.shape.dim):
        if not dim.HasField("dim_value") or dim.dim_value < 0:
            name = dim.dim_param.strip()
            found |= {f"{info.name}_{axis}"} if name in _UNKNOWN else {name, _identifier(name)}
    return found | {_identifier(name) for name in found}


def checked_constant(value: Any, info: Any) -> np.ndarray:
    """What a caller gives for an input that is a tensor, with the dtype the model declares.

    Raises DTypeError or ShapeError where the model declares another dtype or shape.
    """
    array, kind, where = np.asarray(value), info.type.tensor_type, f"input '{info.name}'"
    if array.dtype.kind in "US":
        array = array.astype(object)
    declared = dtype_of(kind.elem_type, where) if kind.elem_type else array.dtype
    exact = isinstance(value, np.ndarray | np.generic)
    if not exact and np.can_cast(array.dtype, declared, "same_kind"):
        array = array.astype(declared)
    if array.dtype != declared and "V" not in array.dtype.kind + declared.kind:
        raise DTypeError(
            "a constant has another dtype",
            where=where,
            expected=f"{declared}",
            got=f"{array.dtype}",
        )
    dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in kind.shape.dim]
    fits = len(dims) == array.ndim and all(
        d == n for d, n in zip(dims, array.shape, strict=True) if isinstance(d, int) and d >= 0
    )
    if kind.HasField("shape") and not fits:
        told = f"[{', '.join(str(d or '?') for d in dims)}]"
        raise ShapeError(
            "a constant has another shape", where=where, expected=told, got=f"{list(array.shape)}"
        )
    return array


def program_dtype(dtype: np.dtype[Any]) -> str | None:
    """The name of a dtype in Programs; None if they do not know it."""
    try:
        return as_dtype(dtype)
    except DTypeError:
        return None


def _size(dim: Any, name: str, axis: int, sizes: dict[str, Size]) -> Size:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        if dim.dim_value > MAX_SIZE:
            raise FormatError(
                f"axis {axis} of input '{name}' is too large",
                expected=f"at most {MAX_SIZE:,}",
                got=f"{dim.dim_value:,}",
            )
        return int(dim.dim_value)
    told = dim.dim_param.strip()
    key = f"{name}_{axis}" if told in _UNKNOWN else told
    plain = _identifier(key)
    if key not in sizes and isinstance(sizes.get(plain), int):  # fixed by its name in Programs
        sizes[key] = sizes[plain]
    if key not in sizes:
        taken = {str(s) for s in sizes.values()}
        sizes[key] = symbol(_unused(plain, taken))
    return sizes[key]


def _identifier(text: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", text)[:60] or "n"
    return f"n_{plain}" if plain[0].isdigit() or plain in RESERVED else plain


def _unused(base: str, taken: set[str]) -> str:
    name, n = base, 1
    while name in taken:
        name, n = f"{base}_{n}", n + 1
    return name
