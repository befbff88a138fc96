"""Numbers of 8 bits in Caffe2."""

from typing import Any

import numpy as np
import pytest

from noria.convert.caffe2.reader import load
from noria.convert.messages import schema
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope

RNG = np.random.default_rng(9)
X = RNG.normal(size=(3, 5)).astype(np.float32)


def test_rows_carry_their_scale(run: Any) -> None:
    fused = run("FloatToFused8BitRowwiseQuantized", X)
    assert fused.shape == (3, 13) and fused.dtype == np.uint8
    tail = fused[:, 5:].copy().view("<f4")
    assert np.allclose(tail[:, 1], X.min(1)) and np.allclose(tail[:, 0], np.ptp(X, axis=1) / 255)
    back = run("Fused8BitRowwiseQuantizedToFloat", fused)
    assert np.abs(back - X).max() <= tail[:, 0].max() / 2 + 1e-6
    ids, lengths = np.array([2, 0, 1], np.int64), np.array([2, 1], np.int32)
    weights = np.array([1.0, -2.0, 0.5], np.float32)
    out = run("SparseLengthsWeightedSumFused8BitRowwise", fused, weights, ids, lengths)
    assert np.allclose(out, [back[2] - 2 * back[0], back[1] / 2], atol=1e-6)


@pytest.mark.parametrize("bits", [4, 2])
def test_rows_of_few_bits_are_packed(run: Any, bits: int) -> None:
    fused = run(f"FloatToFused{bits}BitRowwiseQuantized", X)
    each = 8 // bits
    assert fused.shape == (3, -(-5 // each) + 4)
    scale, low = fused[:, -4:].copy().view("<f2").astype("f4").T
    levels = np.clip(np.round((X - low[:, None]) / scale[:, None]), 0, 2**bits - 1).astype(int)
    first = sum(levels[:, k] << (bits * k) for k in range(each))
    assert np.array_equal(fused[:, 0], first)
    back = run(f"Fused{bits}BitRowwiseQuantizedToFloat", fused)[:, :5]
    assert np.allclose(back, levels * scale[:, None] + low[:, None], atol=1e-5)


def test_a_layer_of_8_bits_computes_on_the_numbers_meant() -> None:
    net, init = schema("caffe2").NetDef(), schema("caffe2").NetDef()

    def add(to: Any, kind: str, inputs: str, output: str, scale: float, zero: int) -> Any:
        message = to.op.add(type=kind, input=inputs.split(), output=[output])
        message.arg.add(name="Y_scale").f = scale
        message.arg.add(name="Y_zero_point").i = zero
        return message

    w = RNG.integers(0, 256, (2, 5)).astype(np.uint8)
    weight = add(init, "Int8GivenTensorFill", "", "w", 0.02, 120)
    weight.arg.add(name="values").s = w.tobytes()
    weight.arg.add(name="shape").ints.extend(w.shape)
    bias = add(init, "Int8GivenIntTensorFill", "", "b", 0.001, 0)
    bias.arg.add(name="values").ints.extend([500, -300])
    bias.arg.add(name="shape").ints.append(2)
    add(net, "Int8Quantize", "x", "q", 0.05, 128)
    add(net, "Int8FC", "q w b", "y", 0.1, 100)
    net.op.add(type="Int8Relu", input=["y"], output=["r"]).arg.add(name="Y_scale").f = 0.1
    net.op[-1].arg.add(name="Y_zero_point").i = 100
    net.op.add(type="Int8Dequantize", input=["r"], output=["out"])
    net.external_output.extend(["y", "out"])
    program, state = load(init, net, {"x": X.shape})
    got = Executor(program, Scope().initialize(program, values=state)).run({"x": X})
    levels = np.clip(np.round(X / np.float32(0.05)) + 128, 0, 255)
    real = (levels - 128) * 0.05 @ ((w.astype(float) - 120) * 0.02).T + np.array([0.5, -0.3])
    assert got["y"].dtype == np.uint8
    assert np.abs(got["y"] - np.clip(np.round(real / 0.1) + 100, 0, 255)).max() <= 1
    assert np.allclose(got["out"], np.maximum((got["y"].astype(float) - 100) * 0.1, 0), atol=1e-5)


@pytest.mark.parametrize("kind", ["Float", "HalfFloat"])
def test_scales_may_be_halves(run: Any, kind: str) -> None:
    x = X.astype(np.float16 if kind == "HalfFloat" else np.float32)
    fused = run(f"{kind}ToFused8BitRowwiseQuantizedHalfScaleBias", x)
    assert fused.shape == (3, 9)
    scale, low = np.hsplit(fused[:, 5:].copy().view("<f2").astype(np.float32), 2)
    assert np.allclose(low[:, 0], x.min(1), rtol=1e-3)
    back = run(f"Fused8BitRowwiseQuantizedHalfScaleBiasTo{kind}", fused)
    assert back.dtype == x.dtype
    assert np.allclose(back, fused[:, :5] * scale + low, atol=4e-3)
    assert np.allclose(back, x, atol=0.03)
