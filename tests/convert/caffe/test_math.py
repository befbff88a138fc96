"""Elementwise layers, against OpenCV and against NumPy."""

import numpy as np
import pytest

from noria.core.errors import FormatError

X = np.linspace(-3, 3, 48, dtype=np.float32).reshape(2, 3, 2, 4)


def layer(kind, text="", bottoms=("x",)):
    names = " ".join(f'bottom: "{b}"' for b in bottoms)
    return f'layer {{ name: "y" type: "{kind}" {names} top: "y" {text} }}'


@pytest.mark.parametrize(
    "kind, text",
    [
        ("ReLU", ""),
        ("ReLU", "relu_param { negative_slope: 0.1 }"),
        ("ReLU6", ""),
        ("ELU", ""),
        ("Sigmoid", ""),
        ("TanH", ""),
        ("AbsVal", ""),
        ("BNLL", ""),
        ("Power", "power_param { power: 2 scale: 0.5 shift: 1 }"),
        ("Power", "power_param { power: 3 scale: 2 }"),
        ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }"),
        ("Exp", ""),
        ("Softmax", ""),
        ("Softmax", "softmax_param { axis: -1 }"),
        ("Dropout", ""),
    ],
)
def test_layers_of_one_bottom(kind, text, same_in_opencv):
    same_in_opencv(layer(kind, text), x=X)


def test_log_of_a_base(run):
    got = run(layer("Log", "log_param { base: 10 scale: 2 shift: 7 }"), x=X)["y"]
    np.testing.assert_allclose(got, np.log10(2 * X + 7), rtol=1e-5, atol=1e-6)


def test_threshold_is_strict(run):
    got = run(layer("Threshold", "threshold_param { threshold: 1 }"), x=np.array([[0, 1, 2]], "f4"))
    np.testing.assert_array_equal(got["y"], [[0, 0, 1]])


def test_prelu_of_channels_and_of_all(same_in_opencv, run):
    same_in_opencv(layer("PReLU"), {"y": [np.array([0.1, 0.2, -0.3], np.float32)]}, x=X)
    text = "prelu_param { channel_shared: true }"
    got = run(layer("PReLU", text), {"y": [np.array([0.5], np.float32)]}, x=X)["y"]
    np.testing.assert_allclose(got, np.where(X > 0, X, X / 2), rtol=1e-6)


@pytest.mark.parametrize(
    "text", ["", "operation: SUM coeff: 2 coeff: -0.5", "operation: PROD", "operation: MAX"]
)
def test_eltwise(text, same_in_opencv):
    text = f"eltwise_param {{ {text} }}"
    same_in_opencv(layer("Eltwise", text, ("x", "z")), x=X, z=np.cos(X))


def test_a_sum_with_too_few_coefficients_is_an_error(run):
    text = "eltwise_param { coeff: 1 }"
    with pytest.raises(FormatError, match="one coefficient"):
        run(layer("Eltwise", text, ("x", "z")), x=X, z=X)


def test_swish_clip_and_axpy(run):
    got = run(layer("Swish", "swish_param { beta: 2 }"), x=X)["y"]
    np.testing.assert_allclose(got, X / (1 + np.exp(-2 * X)), rtol=1e-5, atol=1e-6)
    got = run(layer("Clip", "clip_param { min: -1 max: 2 }"), x=X)["y"]
    np.testing.assert_allclose(got, X.clip(-1, 2))
    scale = np.ones((2, 3, 1, 1), np.float32) * 2
    got = run(layer("Axpy", "", ("s", "x", "z")), s=scale, x=X, z=X)["y"]
    np.testing.assert_allclose(got, 3 * X, rtol=1e-6)
