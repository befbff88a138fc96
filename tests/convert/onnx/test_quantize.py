"""Quantised operators of ONNX; the suite of onnx judges the rest."""

from typing import Any

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
