"""Convolutions and poolings of Caffe2."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import ArgumentError

RNG = np.random.default_rng(3)
X = RNG.normal(size=(2, 4, 6, 5)).astype(np.float32)
W = RNG.normal(size=(6, 2, 3, 3)).astype(np.float32)
B = RNG.normal(size=6).astype(np.float32)


def plain(x: np.ndarray, w: np.ndarray, stride: int, pad: int, group: int) -> np.ndarray:
    """A convolution in loops."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    k = w.shape[2]
    h, wide = ((n - k) // stride + 1 for n in x.shape[2:])
    out = np.zeros((x.shape[0], w.shape[0], h, wide), np.float32)
    c, m = w.shape[1], w.shape[0] // group
    for o, i, j in np.ndindex(w.shape[0], h, wide):
        first = o // m * c
        seen = x[:, first : first + c, i * stride : i * stride + k, j * stride : j * stride + k]
        out[:, o, i, j] = (seen * w[o]).sum((1, 2, 3))
    return out


def test_groups_strides_and_both_layouts(run: Any) -> None:
    want = plain(X, W, 2, 1, 2) + B[:, None, None]
    args = {"kernel": 3, "stride": 2, "pad": 1, "group": 2}
    assert np.allclose(run("Conv", X, W, B, **args), want, atol=1e-4)
    x, w = X.transpose(0, 2, 3, 1).copy(), W.transpose(0, 2, 3, 1).copy()
    y = run("Conv", x, w, B, order="NHWC", **args)
    assert np.allclose(y.transpose(0, 3, 1, 2), want, atol=1e-4)


def test_a_gradient_gives_weight_bias_and_input(run: Any) -> None:
    g = np.ones((2, 6, 6, 5), np.float32)
    dw, db, dx = run("ConvGradient", X, W, g, kernel=3, pad=1, group=2, outputs=3)
    assert dw.shape == W.shape and dx.shape == X.shape and np.allclose(db, 60)
    moved = X.copy()
    moved[1, 2, 3, 3] += 1
    slope = (plain(moved, W, 1, 1, 2) - plain(X, W, 1, 1, 2)).sum()
    assert np.isclose(dx[1, 2, 3, 3], slope, atol=1e-2)


def test_transposed_convolutions_add_elements_at_the_end(run: Any) -> None:
    w = RNG.normal(size=(4, 3, 2, 2)).astype(np.float32)
    y = run("ConvTranspose", X, w, kernel=2, stride=2, adj=1)
    assert y.shape == (2, 3, 13, 11)
    assert np.allclose(y[0, :, 0, 0], X[0, :, 0, 0] @ w[:, :, 0, 0], atol=1e-4)


def test_a_locally_connected_layer_with_one_filter_is_a_convolution(run: Any) -> None:
    w = np.broadcast_to(W[:, :, :, :], (4, 3, *W.shape)).copy()
    y = run("LC", X, w, np.zeros((4, 3, 6), np.float32), kernels=[3, 3], group=2)
    assert np.allclose(y, plain(X, W, 1, 0, 2), atol=1e-4)


def test_caffes_pooling_has_a_window_for_what_is_left_over(run: Any) -> None:
    assert run("MaxPool", X, kernel=2, stride=2).shape == (2, 4, 3, 2)
    y = run("MaxPool", X, kernel=2, stride=2, legacy_pad=3)
    assert y.shape == (2, 4, 3, 3) and np.array_equal(
        y[..., 2], X[..., 4].reshape(2, 4, 3, 2).max(3)
    )
    assert np.allclose(
        run("AveragePool", X, global_pooling=1)[..., 0, 0], X.mean((2, 3)), atol=1e-6
    )


def test_columns_go_back_to_the_image(run: Any) -> None:
    columns = run("Im2Col", X, kernel=3, pad=1)
    assert columns.shape == (2, 36, 6, 5)
    back = run("Col2Im", columns, X, kernel=3, pad=1)
    assert np.allclose(back[:, :, 2, 2], 9 * X[:, :, 2, 2], atol=1e-4)


def test_blocks_move_to_the_batch_and_back(run: Any) -> None:
    x = X[:, :, :, :4].copy()
    y = run("SpaceToBatch", x, block_size=2, pad=1)
    assert y.shape == (8, 4, 4, 3)
    assert np.array_equal(run("BatchToSpace", y, block_size=2, pad=1), x)


def test_bad_windows_are_refused(run: Any) -> None:
    with pytest.raises(ArgumentError, match="bad kernel"):
        run("MaxPool", X, kernels=[2, 0])
    with pytest.raises(ArgumentError, match="bad pads"):
        run("MaxPool", X, kernel=2, pads=[1, 2])


def test_windows_that_are_not_bent_see_what_a_convolution_sees(run: Any) -> None:
    still = np.zeros((2, 18, 6, 5), np.float32)
    y = run("DeformConv", X, still, W, B, kernel=3, pad=1)
    assert np.allclose(y, plain(X, W, 1, 1, 2) + B[:, None, None], atol=1e-4)
    grads = run("DeformConvGradient", X, still, W, np.ones_like(y), kernel=3, pad=1, outputs=4)
    assert [g.shape for g in grads] == [still.shape, W.shape, B.shape, X.shape]
    assert np.allclose(grads[2], 60)
