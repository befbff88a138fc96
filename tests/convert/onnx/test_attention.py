"""Attention of ONNX against onnxruntime where that has it; the suite of onnx judges the rest."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load
from noria.core.errors import FormatError

helper = pytest.importorskip("onnx").helper
RNG = np.random.default_rng(0)


def run(build: Any, name: str, feeds: dict[str, Any], outputs: list[str], **attrs: Any) -> Any:
    opset = attrs.pop("opset", 24)
    node = helper.make_node(name, list(feeds), outputs, **attrs)
    specs = {n: (v.dtype, v.shape) for n, v in feeds.items()}
    program, state = load(build([node], specs, outputs, opset=opset).SerializeToString())
    return Predictor(program, state)(**feeds)


def test_a_cache_of_keys_grows_and_shifts_what_is_causal(build: Any) -> None:
    make = lambda *shape: RNG.normal(size=shape).astype("f4")  # noqa: E731
    q, k, v = make(1, 4, 2, 3), make(1, 2, 2, 3), make(1, 2, 2, 3)
    past_k, past_v = make(1, 2, 3, 3), make(1, 2, 3, 3)
    feeds = {"q": q, "k": k, "v": v, "mask": np.ones((2, 5), bool), "pk": past_k, "pv": past_v}
    outputs = ["y", "keys", "values"]
    out, keys, values = run(build, "Attention", feeds, outputs, is_causal=1).values()
    np.testing.assert_array_equal(keys, np.concatenate([past_k, k], 2))
    np.testing.assert_array_equal(values, np.concatenate([past_v, v], 2))
    for h, t in np.ndindex(4, 2):
        e = np.exp(keys[0, h // 2, : 4 + t] @ q[0, h, t] / np.sqrt(3))
        np.testing.assert_allclose(
            out[0, h, t], e / e.sum() @ values[0, h // 2, : 4 + t], atol=1e-5
        )


def test_an_activation_that_does_not_exist_is_told(build: Any) -> None:
    feeds = {"x": np.zeros((1, 2, 3), "f4"), "w": np.zeros((2, 1, 2), "f4")}
    with pytest.raises(FormatError, match="activation"):
        run(build, "CausalConvWithState", feeds, ["y"], activation="bent", opset=27)
