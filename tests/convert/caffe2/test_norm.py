"""Normalisation in Caffe2."""

from typing import Any

import numpy as np

RNG = np.random.default_rng(2)
X = RNG.normal(size=(4, 3, 5, 2))
SCALE, BIAS, MEAN, VAR = RNG.uniform(0.5, 2, size=(4, 3))
EPSILON = 1e-5


def test_batches_are_normalised_and_counted(run: Any) -> None:
    y, mean, var, batch, inv_std = run(
        "SpatialBN", X, SCALE, BIAS, MEAN, VAR, momentum=0.9, outputs=5
    )
    m, v = X.mean((0, 2, 3)), X.var((0, 2, 3))
    at = (None, slice(None), None, None)
    want = (X - m[at]) / np.sqrt(v[at] + EPSILON) * SCALE[at] + BIAS[at]
    assert np.allclose(y, want) and np.allclose(batch, m)
    assert np.allclose(inv_std, 1 / np.sqrt(v + EPSILON))
    assert np.allclose(mean, 0.9 * MEAN + 0.1 * m)
    assert np.allclose(var, 0.9 * VAR + 0.1 * v * 40 / 39)


def test_statistics_of_training_are_used_at_test_time_in_either_layout(run: Any) -> None:
    y = run("SpatialBN", X, SCALE, BIAS, MEAN, VAR, is_test=1)
    last = X.transpose(0, 2, 3, 1).copy()
    z = run("SpatialBN", last, SCALE, BIAS, MEAN, VAR, is_test=1, order="NHWC")
    assert np.allclose(y.transpose(0, 2, 3, 1), z)


def test_the_gradient_of_a_layer_norm_follows_differences(run: Any) -> None:
    x, g = X[:2, :, 0, 0].copy(), RNG.normal(size=(2, 3))
    y, mean, spread = run("LayerNorm", x, outputs=3)
    found = run("LayerNormGradient", g, y, mean, spread, x)
    for i in np.ndindex(x.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = x.copy()
            moved[i] += step
            ends.append((run("LayerNorm", moved, outputs=3)[0] * g).sum())
        assert np.isclose(found[i], (ends[0] - ends[1]) / 2e-6, atol=1e-5)


def test_groups_and_instances_tell_their_statistics(run: Any) -> None:
    y, mean, inv_std = run("InstanceNorm", X, SCALE, BIAS, outputs=3)
    assert np.allclose(mean, X.mean((2, 3)))
    assert np.allclose(inv_std, 1 / np.sqrt(X.var((2, 3)) + EPSILON))
    z, _, _ = run("GroupNorm", X, SCALE, BIAS, group=3, outputs=3)
    assert np.allclose(y, z)


def test_local_responses_are_over_neighbouring_channels(run: Any) -> None:
    y, scale = run("LRN", X, size=3, alpha=0.3, beta=0.75, bias=2.0, outputs=2)
    squares = np.pad(X**2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    want = 2 + 0.1 * (squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:])
    assert np.allclose(scale, want) and np.allclose(y, X * want**-0.75)
