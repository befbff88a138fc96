"""Tensor arrays: lists of values, in loops buffers; rank tables and what goes with them.

Outside loops an array is a list while the model is converted. A loop that writes an array gets a
buffer of as many elements as it may write, all of one shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.math import one
from noria.core.dims import Size
from noria.core.errors import ArgumentError, MissingError, ProgramError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops import join
from noria.ops.numeric import spec_of


@dataclass(frozen=True, eq=False)
class TensorArray:
    """Values by position; None where nothing was written."""

    items: tuple[Lod | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Buffer:
    """An array in a loop: values [room, ...], and how many were written, an int64 scalar."""

    values: Any
    length: Any


MAX_ITEMS = 1 << 14


class Recorder:
    """An empty array while it is found out what a loop writes to it."""

    spec: Spec | None = None


def as_buffer(array: TensorArray, room: Size, like: Spec) -> Buffer:
    """The array with room for `room` positions more; its elements have the spec of `like`."""
    count = len(array.items)
    zeros = o.fill(shape=like.shape, value=0, dtype=like.dtype)
    given = [zeros if item is None else item.values for item in array.items]
    empty = o.fill(shape=(room, *like.shape), value=0, dtype=like.dtype)
    both = o.concat(join.stack(*given, axis=0), empty, axis=0) if given else empty
    return Buffer(both, np.asarray(count, np.int64))


def _position(op: Op) -> int | None:
    """The position an operator names, None where only the run tells it."""
    known = op.frame.known.array(op.input("I"))
    if known is None:
        return None
    at = int(known.reshape(-1)[0])
    if not 0 <= at < MAX_ITEMS:
        raise ArgumentError("no position of an array", got=str(at))
    return at


def _place(op: Op) -> Any:
    return o.cast(o.reshape(op.input("I"), shape=(1,)), dtype="int64")


@fluid_op("write_to_array")
def write_to_array(op: Op) -> dict[str, Any]:
    before = op.frame.scope.find(op.outputs["Out"][0])
    value = op.held("X")[0]
    if isinstance(before, Buffer):
        place = _place(op)
        row = o.unsqueeze(value.values, axis=0)
        values = o.scatter_nd(before.values, o.reshape(place, shape=(1, 1)), row)
        length = o.maximum(before.length, o.reshape(o.add(place, 1), shape=()))
        return {"Out": [Buffer(values, length)]}
    if isinstance(before, Recorder):
        before.spec = spec_of(value.values)
        return {"Out": [before]}
    at = _position(op)
    if at is None:
        raise ProgramError(
            "an array is written at a position that only the run tells", where=op.where
        )
    items = list(before.items if isinstance(before, TensorArray) else ())
    items += [None] * (at + 1 - len(items))
    items[at] = value
    return {"Out": [TensorArray(tuple(items))]}


@fluid_op("read_from_array")
def read_from_array(op: Op) -> dict[str, Any]:
    array = op.held("X")[0]
    if isinstance(array, Buffer):
        return {"Out": Lod(_picked(array.values, op))}
    if isinstance(array, Recorder) and array.spec is not None:
        return {"Out": Lod(o.fill(shape=array.spec.shape, value=0, dtype=array.spec.dtype))}
    if not isinstance(array, TensorArray):
        raise ProgramError("read_from_array reads a tensor array", got=type(array).__name__)
    at = _position(op)
    if at is None:
        return {"Out": Lod(_picked(_stacked(array), op))}
    if at >= len(array.items) or array.items[at] is None:
        raise MissingError(f"nothing was written at position {at} of the array", where=op.where)
    return {"Out": array.items[at]}


def _picked(values: Any, op: Op) -> Any:
    return o.squeeze(o.gather(values, _place(op)), axis=(0,))


def _stacked(array: TensorArray) -> Any:
    values = [item.values for item in array.items if item is not None]
    if len(values) != len(array.items) or not values:
        raise MissingError("an array has positions where nothing was written")
    return join.stack(*values, axis=0)


@fluid_op("lod_array_length")
def lod_array_length(op: Op) -> dict[str, Any]:
    array = op.held("X")[0]
    if isinstance(array, Buffer):
        return {"Out": one(array.length)}
    return {"Out": np.array([len(array.items)], np.int64)}


@fluid_op("tensor_array_to_tensor")
def tensor_array_to_tensor(op: Op) -> dict[str, Any]:
    """The values of an array side by side, or stacked, and the size of each."""
    array, axis = op.held("X")[0], op.attr("axis", 0)
    if not isinstance(array, TensorArray):
        raise ProgramError("an array that a loop wrote has no fixed number of values")
    values = [item.values for item in array.items if item is not None]
    if op.attr("use_stack", False):
        index: Any = np.ones(len(values), np.int32)
        return {"Out": join.stack(*values, axis=axis), "OutIndex": index}
    sizes = [one(o.dim_value(dim=v.shape[axis])) for v in values]
    index = o.cast(o.concat(*sizes, axis=0), dtype="int32")
    return {"Out": o.concat(*values, axis=axis), "OutIndex": index}
