"""Sizes that only data tell: `Range(0, ReduceMax(lengths))`, a Reshape whose target is an input.

Each number of such a tensor becomes a symbol (`ops.dim_from`) that stands in shapes and attributes,
except where it can be seen how the tensor was put together, and a part is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from noria.convert.onnx.sizes import Sizes
from noria.core.dtypes import is_integer
from noria.ir.emit import Builder, building
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Value

MOST = 16  # numbers in one tensor of sizes
_SAME = ("reshape", "squeeze", "unsqueeze", "flatten", "identity", "cast")

Settle = Callable[[Value], Any]  # what is known of a value: an array, a Sizes, or None
Name = Callable[[str], str]  # a fresh name for a symbol


def measured(value: Value, known: Settle, name: Name) -> np.ndarray | None:
    """The numbers of an integer tensor as ints and Dims; None where it is no tensor of sizes."""
    if not is_integer(value.dtype) or not all(isinstance(d, int) for d in value.shape):
        return None
    if math.prod(int(d) for d in value.shape) > MOST:
        return None
    return _numbers(value, known, name).reshape(value.shape)


def _numbers(value: Value, known: Settle, name: Name) -> np.ndarray:
    """Flat, in row-major order."""
    found = known(value)
    if found is not None:
        array = found.array if isinstance(found, Sizes) else found
        return np.asarray(array, object).reshape(-1)
    maker = _maker(value)
    if maker is not None and maker.type == "concat" and value.ndim == 1:
        return np.concatenate([_numbers(v, known, name) for v in maker.operands])
    if maker is not None and maker.type in _SAME and is_integer(maker.operands[0].dtype):
        return _numbers(maker.operands[0], known, name)
    return _symbols(value, name)


def _symbols(value: Value, name: Name) -> np.ndarray:
    flat = o.reshape(value, shape=(-1,))
    out: np.ndarray = np.empty(flat.shape, object)
    for i in range(out.size):
        number = o.reshape(o.slice(flat, axes=(0,), starts=(i,), stops=(i + 1,)), shape=())
        out[i] = o.dim_from(number, size=name("size")).shape[0]
    return out


def _maker(value: Value) -> Operator | None:
    """The operator that makes a value, here or in a block around this one."""
    builder: Builder | None = building()
    while builder is not None:
        for operator in reversed(builder.block.operators):
            if value in operator.outputs:
                return operator
        value = next((v for v, seen in builder.captures.items() if seen is value), value)
        builder = builder.parent
    return None
