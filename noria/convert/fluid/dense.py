"""What is done to the columns of a dense layer's result, done to its weights instead.

Fluid keeps the gates of its recurrent layers in another order than noria. Putting them in order
costs a copy of every step; put in order in the weights of the layer in front, it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noria.convert.fluid.handlers import Op
from noria.ir.emit import building
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value


def in_weights(op: Op, x: Any, columns: Callable[[Any], Any]) -> Any:
    """columns(x), in other words: of x = a @ weight + bias, a @ columns(weight) + columns(bias).

    columns: a linear function that only moves, scales or leaves out elements of the last axis.
    """
    vectors: list[Any] = []
    value = x
    while isinstance(value, Value):
        producer = op.frame.known.producer(value)
        if producer is None or producer.type not in ("add", "matmul"):
            break
        first, second = producer.inputs
        if producer.type == "add":
            if not _is_fixed(op, second, 1) or first is None or first.shape != value.shape:
                break
            vectors.append(second)
            value = first
            continue
        turned = producer.attrs["transpose_x"] or producer.attrs["transpose_y"]
        if turned or first is None or len(first.shape) != 2 or not _is_fixed(op, second, 2):
            break
        return _with_bias(o.matmul(first, columns(second)), vectors, columns)
    return columns(x)


def _with_bias(product: Any, vectors: list[Any], columns: Callable[[Any], Any]) -> Any:
    if not vectors:
        return product
    bias = vectors[0]
    for other in vectors[1:]:
        bias = o.add(bias, other)
    return o.add(product, columns(bias))


def _is_fixed(op: Op, value: Any, rank: int) -> bool:
    """Whether it has that rank, and no feed decides it."""
    if value is None or len(value.shape) != rank:
        return False
    feeds = building().root.program.inputs
    return not any(name in feeds for name in op.frame.known.inputs(value))
