"""Recurrent layers of ONNX against onnxruntime, in forms that onnx's own tests leave out."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load
from noria.core.errors import FormatError

helper = pytest.importorskip("onnx").helper
RNG = np.random.default_rng(0)
T, N, I, H = 4, 3, 2, 3
BLOCKS = {"LSTM": 4, "GRU": 3, "RNN": 1}


def inputs_of(kind: str, directions: int, lengths: bool) -> dict[str, np.ndarray]:
    rows = BLOCKS[kind] * H
    found = {
        "x": RNG.uniform(-1, 1, (T, N, I)),
        "w": RNG.uniform(-1, 1, (directions, rows, I)),
        "r": RNG.uniform(-1, 1, (directions, rows, H)),
        "b": RNG.uniform(-1, 1, (directions, 2 * rows)),
    }
    found = {n: v.astype("f4") for n, v in found.items()}
    if lengths:
        found["lengths"] = np.array([4, 1, 3], "i4")
    found["h"] = RNG.uniform(-1, 1, (directions, N, H)).astype("f4")
    if kind == "LSTM":
        found["c"] = RNG.uniform(-1, 1, (directions, N, H)).astype("f4")
        found["p"] = RNG.uniform(-1, 1, (directions, 3 * H)).astype("f4")
    return found


def model_of(build: Any, kind: str, feeds: dict[str, np.ndarray], attrs: dict[str, Any]) -> Any:
    names = ["x", "w", "r", "b", "lengths", "h", "c", "p"][: 8 if kind == "LSTM" else 6]
    given = [n if n in feeds else "" for n in names]
    outputs = ["y", "last", "cell"][: 3 if kind == "LSTM" else 2]
    specs = {n: (v.dtype, v.shape) for n, v in feeds.items()}
    node = helper.make_node(kind, given, outputs, hidden_size=H, **attrs)
    return build([node], specs, outputs, ir_version=9)


CASES = {
    "peepholes, both ways": ("LSTM", {"direction": "bidirectional"}),
    "clipped, coupled": ("LSTM", {"clip": 0.4, "input_forget": 1}),
    "other activations": (
        "LSTM",
        {
            "activations": ["HardSigmoid", "ScaledTanh", "Softsign"],
            "activation_alpha": [0.3, 1.2],
            "activation_beta": [0.4, 0.8],
        },
    ),
    "reset after": ("GRU", {"direction": "reverse", "linear_before_reset": 1}),
    "reset before": ("GRU", {"direction": "bidirectional"}),
    "leaky": ("GRU", {"activations": ["Sigmoid", "LeakyRelu"], "activation_alpha": [0.1]}),
    "rectified": ("RNN", {"activations": ["Relu"], "clip": 1.0}),
}


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("name", CASES)
def test_layers_are_those_of_onnxruntime(
    build: Any, in_onnxruntime: Any, name: str, lengths: bool
) -> None:
    kind, attrs = CASES[name]
    feeds = inputs_of(kind, 2 if attrs.get("direction") == "bidirectional" else 1, lengths)
    data = model_of(build, kind, feeds, attrs).SerializeToString()
    program, state = load(data)
    got = Predictor(program, state)(**feeds)
    for a, b in zip(got.values(), in_onnxruntime(data, feeds).values(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_an_activation_that_does_not_exist_is_told(build: Any) -> None:
    feeds = inputs_of("RNN", 1, False)
    with pytest.raises(FormatError, match="activation"):
        load(model_of(build, "RNN", feeds, {"activations": ["Bent"]}).SerializeToString())
