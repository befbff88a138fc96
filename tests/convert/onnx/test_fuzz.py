"""Damaged and hostile ONNX files: a clear error in bounded time and memory, or a Program."""

import random
import resource
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from noria.convert.messages import schema
from noria.convert.onnx import load
from noria.core.errors import NoriaError

onnx = pytest.importorskip("onnx")
SECONDS = 2.0  # for one file, on a machine that others use too
MEMORY = 1 << 31


@pytest.fixture
def model(build: Any) -> bytes:
    """Weights, a function, a branch, shape arithmetic: something of everything."""
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("lab", 1)]
    branches = {
        f"{name}_branch": onnx.helper.make_graph([node(kind, ["h"], ["r"])], name, [],
                                                 [info("r", 1, None)])
        for name, kind in (("then", "Relu"), ("else", "Neg"))
    }  # fmt: skip
    nodes = [
        node("Twice", ["x"], ["d"], domain="lab"),
        node("Gemm", ["d", "w", "b"], ["h"], transB=1, alpha=0.5),
        node("If", ["c"], ["z"], **branches),
        node("Shape", ["z"], ["s"]),
        node("Gather", ["s", "first"], ["n"]),
        node("Unsqueeze", ["n", "zero"], ["n1"]),
        node("Concat", ["n1", "rest"], ["to"], axis=0),
        node("Reshape", ["z", "to"], ["y"]),
        node("Tile", ["b", "four"], ["t"]),
        node("ReduceMean", ["y"], ["m"], keepdims=0),
    ]
    weights = {
        "w": np.ones((4, 3), "f4"),
        "b": np.ones(4, "f4"),
        "first": np.array(0),
        "zero": np.array([0]),
        "rest": np.array([2, -1]),
        "four": np.array([4]),
    }
    function = onnx.helper.make_function("lab", "Twice", ["a"], ["b"],
                                         [node("Add", ["a", "a"], ["b"])], opsets)  # fmt: skip
    inputs = {"x": ("f4", ["N", 3]), "c": ("?", [])}
    made = build(nodes, inputs, ["y", "t", "m"], weights, functions=[function], opsets=opsets)
    return made.SerializeToString()


def damaged(data: bytes, count: int) -> Iterator[bytes]:
    rng = random.Random(8)
    for _ in range(count):
        out = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(out))
            how = rng.randrange(5)
            if how == 0:
                out[at] ^= 1 << rng.randrange(8)
            elif how == 1:
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif how == 2:
                del out[at : at + rng.randrange(1, 9)]
            elif how == 3:
                out[at:at] = out[at : at + rng.randrange(1, 30)]
            else:
                out[at : at + 1] = b"\xff" * 8 + b"\x7f"  # a number of 63 bits
            if not out:
                out = bytearray(b"\x00")
        yield bytes(out[: rng.randrange(len(out))] if rng.random() < 0.05 else out)


NUMBERS = (-1, 0, 1, 2, 7, 1 << 31, 1 << 62, -(1 << 62))
FLOATS = (0.0, -1.0, 1e30, float("nan"), float("inf"))


def changed(data: bytes, count: int) -> Iterator[bytes]:
    """Sound messages with other numbers, names exchanged, parts left out or put twice."""
    rng = random.Random(9)
    for _ in range(count):
        model = schema("onnx").ModelProto.FromString(data)
        for _ in range(rng.choice((1, 2, 3))):
            message, field = rng.choice(list(fields(model)))
            change(message, field, rng)
        yield model.SerializeToString()


def fields(message: Any) -> Iterator[tuple[Any, Any]]:
    for field, value in message.ListFields():
        yield message, field
        for part in value if field.is_repeated else [value]:
            if field.type == field.TYPE_MESSAGE:
                yield from fields(part)


def change(message: Any, field: Any, rng: random.Random) -> None:
    values = getattr(message, field.name)
    if field.is_repeated:
        at = rng.randrange(len(values))
        if rng.random() < 0.3:
            del values[at]
        elif rng.random() < 0.4:
            values.append(values[at])
        elif field.type != field.TYPE_MESSAGE:
            values[at] = other(field, values[at], rng)
    elif field.type == field.TYPE_MESSAGE or rng.random() < 0.2:
        message.ClearField(field.name)
    else:
        small = (1 << 31) - 1 if field.type == field.TYPE_INT32 else 1 << 63
        value = other(field, values, rng)
        setattr(message, field.name, value % small if isinstance(value, int) else value)


def other(field: Any, value: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice(("x", "y", "z", "w", "zero", "", "lab", "Loop", "Gather", "Concat"))
    if field.type == field.TYPE_BYTES:
        return value[: rng.randrange(len(value) + 1)] + bytes(rng.randrange(9))
    return rng.choice(FLOATS) if field.type == field.TYPE_FLOAT else rng.choice(NUMBERS)


@pytest.mark.parametrize(("how", "count"), [(damaged, 7_000), (changed, 3_000)])
def test_ten_thousand_damaged_files_are_errors_or_programs(
    model: bytes, how: Any, count: int
) -> None:
    program, _ = load(model)
    assert list(program.outputs) == ["y", "t", "m"]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    errors, slowest = 0, 0.0
    for data in how(model, count):
        start = time.process_time()
        try:
            load(data)
        except NoriaError:
            errors += 1
        slowest = max(slowest, time.process_time() - start)
    assert count // 4 < errors < count
    assert slowest < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY
