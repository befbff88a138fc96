"""Activations of Caffe2."""

from typing import Any

import numpy as np
import pytest

X = np.array([[-2.0, -0.5, 0.25], [1.0, 3.0, -1.0]], np.float64)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Elu", {"alpha": 0.7}),
        ("Selu", {}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("HardSigmoid", {}),
        ("Softmax", {}),
        ("LogSoftmax", {}),
    ],
)
def test_gradients_from_the_output_follow_differences(run: Any, name: str, args: Any) -> None:
    g = np.array([[1.0, -2.0, 0.5], [0.25, 1.5, 3.0]])
    found = run(f"{name}Gradient", run(name, X, **args), g, **args)
    step = 1e-6
    for i in np.ndindex(X.shape):
        up, down = X.copy(), X.copy()
        up[i] += step
        down[i] -= step
        slope = ((run(name, up, **args) - run(name, down, **args)) * g).sum() / (2 * step)
        assert np.isclose(found[i], slope, atol=1e-5)


def test_a_softmax_is_over_everything_behind_its_axis(run: Any) -> None:
    x = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    y = run("Softmax", x, axis=1)
    assert np.allclose(y.reshape(2, 4).sum(1), 1, atol=1e-6)


def test_dropout_keeps_the_mean_and_tells_what_it_kept(run: Any) -> None:
    x = np.ones((100, 100), np.float32)
    y, mask = run("Dropout", x, ratio=0.25, outputs=2)
    assert np.allclose(y, mask / 0.75) and abs(mask.mean() - 0.75) < 0.02
    assert np.array_equal(run("DropoutGradient", x, mask, ratio=0.25), y)


def test_sequences_are_masked_behind_their_lengths(run: Any) -> None:
    x = np.ones((2, 3), np.float32)
    y = run("SequenceMask", x, np.array([1, 3], np.int32), mode="sequence", fill_val=-9.0)
    assert y.tolist() == [[1, -9, -9], [1, 1, 1]]
    y = run(
        "SequenceMask", np.ones((2, 2, 2), np.float32), mode="upper", axis=2, batch=0, fill_val=0.0
    )
    assert y.tolist() == [[[1, 0], [1, 1]]] * 2


def test_slopes_belong_to_channels(run: Any) -> None:
    x = -np.ones((1, 2, 2), np.float32)
    slope = np.array([0.5, 0.25], np.float32)
    assert run("PRelu", x, slope).tolist() == [[[-0.5, -0.5], [-0.25, -0.25]]]
    assert run("PRelu", x, slope, order="NHWC").tolist() == [[[-0.5, -0.25], [-0.5, -0.25]]]
