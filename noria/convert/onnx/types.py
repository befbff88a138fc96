"""What an ONNX model says of its inputs, as specs of a Program."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from noria.convert.onnx.tensors import dtype_of
from noria.core.dim_nodes import RESERVED
from noria.core.dims import Size, symbol
from noria.core.dtypes import as_dtype
from noria.core.errors import DTypeError, FormatError
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
