"""Quantised operators of ONNX; the suite of onnx judges the rest."""

from typing import Any

import ml_dtypes
import numpy as np

from noria import Predictor
from noria.convert.onnx import load


def test_products_of_bytes_come_back_as_bytes(build: Any) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (3, 40)).astype(np.uint8)
    b = rng.integers(-128, 128, (40, 2)).astype(np.int8)
    scalars = {
        "a_scale": np.float32(0.02),
        "a_zero": np.uint8(120),
        "b_scale": np.float32(0.01),
        "b_zero": np.int8(3),
        "scale": np.float32(0.1),
        "zero": np.uint8(128),
    }
    names = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "scale", "zero"]
    model = build(
        [("QLinearMatMul", names, ["y"])],
        {"a": ("u1", ["N", 40]), "b": ("i1", [40, 2])},
        ["y"],
        weights={k: np.asarray(v) for k, v in scalars.items()},
    )
    program, state = load(model.SerializeToString())
    got = Predictor(program, state).run({"a": a, "b": b})["y"]
    whole = (a.astype(np.int64) - 120) @ (b.astype(np.int64) - 3)
    wanted = np.clip(np.rint(whole * 0.02 * 0.01 / 0.1) + 128, 0, 255)
    assert got.dtype == np.uint8
    assert np.abs(got.astype(int) - wanted).max() <= 1  # a product may fall on a half


def test_a_range_is_found_while_running(build: Any) -> None:
    node = ("DynamicQuantizeLinear", ["x"], ["y", "scale", "zero"])
    program, state = load(
        build([node], {"x": ("f4", ["N"])}, ["y", "scale", "zero"]).SerializeToString()
    )
    got = Predictor(program, state).run({"x": np.array([-1.0, 0.0, 4.1], "f4")})
    assert got["y"].tolist() == [0, 50, 255]
    assert got["zero"] == 50


def test_bits_too_few_for_a_program_are_quantised_at_once(build: Any) -> None:
    node = ("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    back = ("DequantizeLinear", ["y", "scale", "zero"], ["z"])
    weights = {"scale": np.array(0.5, np.float32), "zero": np.array(1, ml_dtypes.int4)}
    x = np.array([-9, -1, 0.25, 0.3, 9], np.float32)
    model = build([node, back], {"x": ("f4", [5])}, ["z"], weights=weights, opset=21)
    program, state = load(model.SerializeToString(), {"x": x})
    assert Predictor(program, state).run({})["z"].tolist() == [-4.5, -1, 0, 0.5, 3]


def test_convolutions_of_integers_are_exact(build: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (1, 40, 4, 4)).astype(np.uint8)
    w = rng.integers(-128, 128, (2, 40, 3, 3)).astype(np.int8)
    weights = {"w": w, "xz": np.array(7, np.uint8), "wz": np.array([3, -2], np.int8)}
    node = ("ConvInteger", ["x", "w", "xz", "wz"], ["y"])
    model = build([node], {"x": ("u1", ["N", 40, 4, 4])}, ["y"], weights=weights)
    program, state = load(model.SerializeToString())
    got = Predictor(program, state).run({"x": x})["y"]
    centred = w.astype(np.int64) - np.array([3, -2])[:, None, None, None]
    windows = np.lib.stride_tricks.sliding_window_view(x[0].astype(np.int64) - 7, (3, 3), (1, 2))
    assert got.dtype == np.int32
    assert np.array_equal(got[0], np.einsum("chwij,ocij->ohw", windows, centred))
