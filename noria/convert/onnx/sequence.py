"""Sequences and optionals of ONNX: Python lists, and None, while a model is converted."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op, scalar
from noria.convert.onnx.shape import sizes_of
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.join import unstack


def _items(node: Node, sequence: Any) -> list[Any]:
    if not isinstance(sequence, list):
        raise FormatError("a sequence is needed", where=str(node), got=type(sequence).__name__)
    return sequence


def _position(node: Node, value: Any, most: int) -> int:
    at = int(scalar(node.const(value, "the position")))
    if not -most <= at < max(most, 1):
        raise FormatError("a position outside a sequence", where=str(node), got=f"{at} of {most}")
    return at


@onnx_op("SequenceEmpty")
def sequence_empty(node: Node) -> Any:
    return []


@onnx_op("SequenceConstruct")
def sequence_construct(node: Node, *xs: Any) -> Any:
    return list(xs)


@onnx_op("SequenceLength")
def sequence_length(node: Node, sequence: Any) -> Any:
    return np.array(len(_items(node, sequence)))


@onnx_op("SequenceAt")
def sequence_at(node: Node, sequence: Any, position: Any) -> Any:
    items = _items(node, sequence)
    at = _position(node, position, len(items))
    if not items:
        raise FormatError("an empty sequence has no element", where=str(node))
    return items[at]


@onnx_op("SequenceInsert")
def sequence_insert(node: Node, sequence: Any, x: Any, position: Any = None) -> Any:
    items = list(_items(node, sequence))
    if position is None:
        return [*items, x]
    at = int(scalar(node.const(position, "the position")))
    if not -len(items) <= at <= len(items):
        raise FormatError("a position outside a sequence", where=str(node), got=str(at))
    items.insert(at, x)
    return items


@onnx_op("SequenceErase")
def sequence_erase(node: Node, sequence: Any, position: Any = None) -> Any:
    items = list(_items(node, sequence))
    if not items:
        raise FormatError("an empty sequence has no element", where=str(node))
    del items[-1 if position is None else _position(node, position, len(items))]
    return items


@onnx_op("SplitToSequence")
def split_to_sequence(node: Node, x: Any, split: Any = None) -> Any:
    """Parts of one size, of sizes given one by one, or single slices without the axis."""
    axis = node.attr("axis", 0)
    total = sizes_of(x)[axis]
    if not isinstance(total, int):  # a list has a length
        x = node.const(x, "what is split")
        total = x.shape[axis]
    if split is None:
        if not node.attr("keepdims", 1):
            return unstack(x, axis=axis)
        parts = [1] * total
    else:
        given = node.const(split, "the parts")
        parts = given.tolist() if given.ndim else _chunks(total, int(given))
    if sum(parts) != total:
        raise FormatError("parts that do not make up the axis", where=str(node), got=str(parts))
    got = o.split(x, sizes=tuple(parts), axis=axis)
    return list(got) if isinstance(got, tuple) else [got]


def _chunks(total: int, each: int) -> list[int]:
    if each <= 0:
        raise FormatError("a part of a sequence has a positive size", got=str(each))
    return [min(each, total - start) for start in range(0, total, each)]


@onnx_op("ConcatFromSequence")
def concat_from_sequence(node: Node, sequence: Any) -> Any:
    items, axis = _items(node, sequence), node.need("axis")
    if not items:
        raise FormatError("nothing to concatenate", where=str(node))
    if node.attr("new_axis", 0):
        items = [o.unsqueeze(x, axis=axis) for x in items]
    return o.concat(*items, axis=axis)


@onnx_op("SequenceMap")
def sequence_map(node: Node, sequence: Any, *more: Any) -> Any:
    """The body for each element; other sequences give theirs, tensors are the same each time."""
    body: Any = node.graph("body")
    rows = []
    for i, item in enumerate(_items(node, sequence)):
        rows.append(body(item, *(m[i] if isinstance(m, list) else m for m in more)))
    if not rows:
        return tuple([] for _ in body.outputs)
    return tuple(list(column) for column in zip(*rows, strict=True))


# ---- optionals ---------------------------------------------------------------------------------


@onnx_op("Optional")
def optional(node: Node, x: Any = None) -> Any:
    return x


@onnx_op("OptionalHasElement")
def optional_has_element(node: Node, x: Any = None) -> Any:
    return np.array(x is not None)


@onnx_op("OptionalGetElement")
def optional_get_element(node: Node, x: Any = None) -> Any:
    if x is None:
        raise FormatError("an empty optional has no element", where=str(node))
    return x
