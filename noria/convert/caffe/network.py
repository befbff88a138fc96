"""Caffe's two files: the network as text, the weights as a message; both of any age."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from noria.convert.messages import parse_text, read_message, schema
from noria.core.errors import FormatError

SPELLINGS = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "CONVOLUTION": "Convolution",
    "DECONVOLUTION": "Deconvolution", "EUCLIDEAN_LOSS": "EuclideanLoss", "HDF5_DATA": "HDF5Data",
    "INNER_PRODUCT": "InnerProduct", "LRN": "LRN", "MVN": "MVN", "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH",
}  # fmt: skip
"""Types of layers before 2015 whose names are not just spelt otherwise."""
TEST = 1
MAX_LAYERS = 100_000


def read_network(path: str | os.PathLike[str]) -> Any:
    """The network of a .prototxt file, layers in today's form. Raises FormatError, OSError."""
    file = Path(path)
    text = file.read_text("utf-8", errors="replace")
    message = parse_text(schema("caffe").NetParameter(), text, str(path))
    return _today(message, str(path))


def read_weights(path: str | os.PathLike[str]) -> dict[str, list[np.ndarray]]:
    """The arrays of a .caffemodel file, by layer. Raises FormatError, OSError."""
    message = read_message(schema("caffe").Weights(), path)
    layers = [*message.layer, *message.layers]
    found: dict[str, list[np.ndarray]] = {}
    for layer in layers:
        if layer.blobs:
            where = f"{path}, layer '{layer.name}'"
            found[layer.name] = [_array(blob, where) for blob in layer.blobs]
    if not layers:
        raise FormatError("no network is in this file", where=str(path))
    return found


def _array(blob: Any, where: str) -> np.ndarray:
    """A blob. Raises FormatError where its shape is not that of its numbers."""
    data = np.frombuffer(_joined(blob.data, 4, where), "<f4")
    if blob.double_data:
        data = np.frombuffer(_joined(blob.double_data, 8, where), "<f8").astype(np.float32)
    shape = tuple(blob.shape.dim)
    if not blob.HasField("shape"):
        shape = blob.num, blob.channels, blob.height, blob.width
        shape = shape if any(shape) else (data.size,)
    if any(n < 0 for n in shape) or math.prod(shape) != data.size:
        raise FormatError(
            "an array has another number of elements than its shape",
            where=where,
            expected=str(list(shape)),
            got=f"{data.size} elements",
        )
    return data.reshape(shape)


def _joined(parts: Collection[bytes], unit: int, where: str) -> bytes:
    if any(len(part) % unit for part in parts):
        raise FormatError("numbers are cut off", where=where)
    return next(iter(parts)) if len(parts) == 1 else b"".join(parts)


# ---- networks before 2015 ------------------------------------------------------------------------


def _today(message: Any, where: str) -> Any:
    """The same network without V1 layers."""
    if message.layer and message.layers:
        raise FormatError("layers of two generations are mixed", where=where)
    if len(message.layer) + len(message.layers) > MAX_LAYERS:
        raise FormatError("the network has too many layers", where=where)
    kinds = schema("caffe").V1LayerParameter.LayerType
    for old in message.layers:
        new = message.layer.add(name=old.name, bottom=old.bottom, top=old.top)
        new.type = _spelt(kinds.Name(old.type))
        for field, value in old.ListFields():
            if field.name.endswith("_param"):
                getattr(new, field.name).CopyFrom(value)
            elif field.name in ("include", "exclude"):
                getattr(new, field.name).extend(value)
    del message.layers[:]
    return message


def _spelt(kind: str) -> str:
    return SPELLINGS.get(kind) or "".join(word.capitalize() for word in kind.split("_"))


# ---- phases --------------------------------------------------------------------------------------


def layers_of(network: Any, stages: Collection[str] = (), level: int = 0) -> list[Any]:
    """The layers that are there at test time."""
    return [layer for layer in network.layer if _included(layer, set(stages), level)]


def _included(layer: Any, stages: set[str], level: int) -> bool:
    if layer.HasField("phase") and layer.phase != TEST:
        return False
    if layer.include:
        return any(_meets(rule, stages, level) for rule in layer.include)
    return not any(_meets(rule, stages, level) for rule in layer.exclude)


def _meets(rule: Any, stages: set[str], level: int) -> bool:
    return (
        (not rule.HasField("phase") or rule.phase == TEST)
        and (not rule.HasField("min_level") or level >= rule.min_level)
        and (not rule.HasField("max_level") or level <= rule.max_level)
        and stages.issuperset(rule.stage)
        and stages.isdisjoint(rule.not_stage)
    )
