"""Images in Caffe2."""

from typing import Any

import numpy as np

X = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)


def test_nearest_pixels_are_rounded_down(run: Any) -> None:
    y = run("ResizeNearest", X, width_scale=0.5, height_scale=2.0)
    assert np.array_equal(y[0, 0], X[0, 0][[0, 0, 1, 1, 2, 2]][:, [0, 2]])
    g = run("ResizeNearestGradient", np.ones_like(y), X, width_scale=0.5, height_scale=2.0)
    assert np.array_equal(g[0, 0], np.tile([2.0, 0, 2, 0], (3, 1)))


def test_bilinear_upsampling_keeps_the_corners(run: Any) -> None:
    y = run("UpsampleBilinear", X, width_scale=2.0, height_scale=2.0)[0, 0]
    rows, columns = np.linspace(0, 2, 6), np.linspace(0, 3, 8)
    assert np.allclose(y, 4 * rows[:, None] + columns, atol=1e-5)


def test_an_integral_image_sums_what_is_above_and_left(run: Any) -> None:
    y = run("IntegralImage", X)[0, 0]
    assert y.shape == (4, 5) and y[0].max() == y[:, 0].max() == 0
    assert y[2, 3] == X[0, 0, :2, :3].sum()


def test_regions_cover_the_image(run: Any) -> None:
    y = run("RMACRegions", np.zeros((2, 1, 6, 9), np.float32), scales=2)
    assert y.shape == (2 * (2 + 6), 5) and set(y[:, 0]) == {0, 1}
    assert y[:, 3].max() == 8 and y[:, 4].max() == 5


def test_positions_become_waves(run: Any) -> None:
    y = run(
        "SinusoidPositionEncoding", np.array([[3], [0]], np.int64), embedding_size=4, alpha=100.0
    )
    rates = 100.0 ** (-np.arange(4) / 4)
    want = [f(3 * r) for f, r in zip((np.sin, np.cos) * 2, rates, strict=True)]
    assert np.allclose(y[0, 0], want, atol=1e-5) and y[1, 0].tolist() == [0, 1, 0, 1]
