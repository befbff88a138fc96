"""Products of ONNX."""

from typing import Any

import numpy as np
import pytest

from noria.convert.onnx import load

onnx = pytest.importorskip("onnx")
node = onnx.helper.make_node
RNG = np.random.default_rng(1)
A, B, C = (RNG.normal(size=s).astype("f4") for s in ((2, 3), (4, 3), (4,)))


def test_a_gemm_of_rows_and_a_weight_is_a_layer(build: Any, run: Any) -> None:
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    (y,) = run(nodes, {"x": A}, ["y"], {"w": B, "b": C}, {"x": ["N", 3]})
    assert np.allclose(y, A @ B.T + C, atol=1e-5)
    model = build(nodes, {"x": ("f4", ["N", 3])}, ["y"], {"w": B, "b": C})
    program, _ = load(model.SerializeToString())
    assert [o.type for o in program.operators] == ["linear"]


def test_a_gemm_with_factors(run: Any) -> None:
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], transA=1, alpha=0.5, beta=2.0)]
    feeds = {"x": A, "w": B[:2], "b": np.ones((1, 3), "f4")}
    (y,) = run(nodes, feeds, ["y"])
    assert np.allclose(y, 0.5 * A.T @ B[:2] + 2, atol=1e-5)
