"""Broken models of Fluid: ten thousand mutations of programs, each refused or converted."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np
import pytest

from noria.convert.fluid.reader import read_program
from noria.convert.messages import parse_message, schema
from noria.core.errors import NoriaError
from tests.convert.fluid.describing import Desc
from tests.convert.fluid.test_tables import dynamic_rnn


def network() -> Desc:
    """Convolution, normalisation, pooling, a reshape and a product."""
    desc = Desc().var("x", [-1, 3, 8, 8]).var("w", [4, 3, 3, 3], kept=True)
    for name in ("scale", "bias", "mean", "variance"):
        desc.var(name, [4], kept=True)
    desc.var("dense", [64, 2], kept=True)
    desc.op("feed", {"X": "feed"}, {"Out": "x"}, col=0)
    how = {"strides": [1, 1], "paddings": [1, 1], "dilations": [1, 1], "groups": 1}
    desc.op("conv2d", {"Input": "x", "Filter": "w"}, {"Output": "a"}, **how)
    inputs = {"X": "a", "Scale": "scale", "Bias": "bias", "Mean": "mean", "Variance": "variance"}
    desc.op("batch_norm", inputs, {"Y": "b"}, is_test=True, epsilon=1e-5)
    how = {"pooling_type": "avg", "ksize": [2, 2], "strides": [2, 2], "paddings": [0, 0]}
    desc.op("pool2d", {"X": "b"}, {"Out": "c"}, **how)
    desc.op("reshape2", {"X": "c"}, {"Out": "d"}, shape=[0, 64])
    desc.op("slice", {"Input": "d"}, {"Out": "e"}, axes=[0], starts=[0], ends=[1])
    desc.op("mul", {"X": "e", "Y": "dense"}, {"Out": "f"}, x_num_col_dims=1, y_num_col_dims=1)
    desc.op("softmax", {"X": "f"}, {"Out": "y"}, axis=-1)
    return desc.op("fetch", {"X": "y"}, {"Out": "fetch"}, col=0)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, left out, put in; or the end cut off."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, len(out)))
        kind = rng.integers(0, 10)
        if kind < 7:
            out[at] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(0, 256))]))
        elif kind == 7:
            del out[at : at + int(rng.integers(1, 9))]
        elif kind == 8:
            out[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 9))).tolist())
        else:
            del out[max(at, 1) :]
    return bytes(out) or b"\0"


NUMBERS = [-(1 << 31), -2, -1, 0, 1, 2, 3, 7, 1000, (1 << 31) - 1]
SIZES = [-2, -1, 0, 1, 2, 1 << 40, 1 << 62]


def twisted(message, rng: np.random.Generator):
    """A program that can be read but whose numbers, names or types are others."""
    for _ in range(int(rng.integers(1, 4))):
        block = message.blocks[int(rng.integers(0, len(message.blocks)))]
        step = block.ops[int(rng.integers(0, len(block.ops)))]
        kind = int(rng.integers(0, 6))
        if kind == 0 and block.vars:
            tensor = block.vars[int(rng.integers(0, len(block.vars)))].type.lod_tensor.tensor
            dims = list(tensor.dims) or [1]
            dims[int(rng.integers(0, len(dims)))] = int(rng.choice(SIZES))
            tensor.dims[:] = dims
        elif kind == 1 and block.vars:
            var = block.vars[int(rng.integers(0, len(block.vars)))]
            var.type.type = int(rng.integers(0, 25))
        elif kind in (2, 3) and step.attrs:
            _twist(step.attrs[int(rng.integers(0, len(step.attrs)))], rng)
        elif kind == 4 and step.inputs:
            slot = step.inputs[int(rng.integers(0, len(step.inputs)))]
            slot.arguments[:] = [str(rng.choice(["x", "y", "a", "go", "w", "feed", ""]))]
        else:
            other = block.ops[int(rng.integers(0, len(block.ops)))]
            step.type = other.type
    return message


def _twist(attr, rng: np.random.Generator) -> None:
    number = int(rng.choice(NUMBERS))
    field = {0: "i", 8: "block_idx", 9: "l"}.get(attr.type)
    if field:
        setattr(attr, field, number)
    elif attr.type in (3, 11):
        many = attr.ints if attr.type == 3 else attr.longs
        if len(many) and rng.integers(0, 2):
            many[int(rng.integers(0, len(many)))] = number
        else:
            many.append(number)
    elif attr.type == 1:
        attr.f = float(rng.choice([np.nan, np.inf, -1.0, 0.0, 1e30]))
    elif attr.type == 2:
        attr.s = b"what"
    else:
        attr.type = int(rng.integers(0, 16))


@pytest.mark.parametrize("how", ["bytes", "meaning"])
@pytest.mark.parametrize("part", range(4))
def test_mutated_programs_are_refused_or_converted(how, part):
    bases = [d.message.SerializeToString() for d in (network(), dynamic_rnn())]
    rng = np.random.default_rng(part)
    for _ in range(1500):
        data, message = bases[int(rng.integers(0, 2))], schema("fluid").ProgramDesc()
        start = time.perf_counter()
        with suppress(NoriaError):
            if how == "bytes":
                parse_message(message, mutated(data, rng), "here")
            else:
                twisted(parse_message(message, data, "here"), rng)
            read_program(message, outputs=["y"])
        assert time.perf_counter() - start < 5.0  # a second on a machine with nothing else to do
