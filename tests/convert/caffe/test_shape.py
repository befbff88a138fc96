"""Layers that move numbers, against OpenCV and NumPy."""

import numpy as np
import pytest

from noria.core.errors import FormatError

X = np.random.default_rng(3).normal(size=(2, 6, 4, 5)).astype(np.float32)


def layer(kind, text="", bottoms=("x",), tops=("y",)):
    names = " ".join([f'bottom: "{b}"' for b in bottoms] + [f'top: "{t}"' for t in tops])
    return f'layer {{ name: "y" type: "{kind}" {names} {text} }}\n'


@pytest.mark.parametrize("text", ["", "axis: 2", "concat_dim: 1", "axis: -1"])
def test_concat(text, same_in_opencv):
    same_in_opencv(layer("Concat", f"concat_param {{ {text} }}", ("x", "z")), x=X, z=X + 1)


@pytest.mark.parametrize(
    "text, ends",
    [("", (2, 4)), ("slice_point: 1 slice_point: 3", (1, 3)), ("slice_dim: 1", (2, 4))],
)
def test_slice(text, ends, run):
    got = run(layer("Slice", f"slice_param {{ {text} }}", tops=("a", "b", "c")), x=X)
    for name, part in zip("abc", np.split(X, ends, axis=1), strict=True):
        np.testing.assert_array_equal(got[name], part)


@pytest.mark.parametrize("points", [(3, 1), (1,), (0, 2), (1, 6)])
def test_slice_points_that_do_not_rise_are_an_error(points, run):
    text = "slice_param { " + " ".join(f"slice_point: {p}" for p in points) + " }"
    with pytest.raises(FormatError, match="slice points must rise"):
        run(layer("Slice", text, tops=("a", "b", "c")), x=X)


def test_split_gives_the_same_blob_twice(run):
    got = run(layer("Split", tops=("a", "b")), x=X)
    np.testing.assert_array_equal(got["a"], X)
    np.testing.assert_array_equal(got["b"], X)


@pytest.mark.parametrize("text", ["", "axis: 2", "axis: 1 end_axis: 2"])
def test_flatten(text, same_in_opencv):
    same_in_opencv(layer("Flatten", f"flatten_param {{ {text} }}"), x=X)


@pytest.mark.parametrize(
    "text, shape",
    [
        ("shape { dim: 0 dim: -1 }", (2, 120)),
        ("shape { dim: 0 dim: 2 dim: 3 dim: 20 }", (2, 2, 3, 20)),
        ("shape { dim: -1 dim: 10 } axis: 2", (2, 6, 2, 10)),
        ("shape { dim: 3 dim: 2 } axis: 1 num_axes: 1", (2, 3, 2, 4, 5)),
        ("shape { dim: 1 } axis: -1 num_axes: 0", (2, 6, 4, 5, 1)),
    ],
)
def test_reshape(text, shape, run):
    got = run(layer("Reshape", f"reshape_param {{ {text} }}"), x=X)["y"]
    np.testing.assert_array_equal(got, X.reshape(shape))


def test_permute_keeps_the_order_of_other_axes(run):
    got = run(layer("Permute", "permute_param { order: 0 order: 2 }"), x=X)["y"]
    np.testing.assert_array_equal(got, X.transpose(0, 2, 1, 3))


def test_shuffle_channel(same_in_opencv):
    same_in_opencv(layer("ShuffleChannel", "shuffle_channel_param { group: 3 }"), x=X)


def test_crop(same_in_opencv):
    like = np.zeros((2, 6, 2, 3), np.float32)
    text = "crop_param { axis: 2 offset: 1 offset: 2 }"
    same_in_opencv(layer("Crop", text, ("x", "z")), x=X, z=like)


def test_tile(run):
    got = run(layer("Tile", "tile_param { axis: 2 tiles: 3 }"), x=X)["y"]
    np.testing.assert_array_equal(got, np.tile(X, (1, 1, 3, 1)))


@pytest.mark.parametrize(
    "kind, function",
    [("SUM", np.sum), ("MEAN", np.mean), ("ASUM", lambda a, axis: np.abs(a).sum(axis)),
     ("SUMSQ", lambda a, axis: (a**2).sum(axis))],
)  # fmt: skip
def test_reduction(kind, function, run):
    text = f"reduction_param {{ operation: {kind} axis: 1 coeff: 0.5 }}"
    got = run(layer("Reduction", text), x=X)["y"]
    np.testing.assert_allclose(got, 0.5 * function(X, axis=(1, 2, 3)), rtol=1e-4, atol=1e-5)


def test_arg_max(run):
    got = run(layer("ArgMax", "argmax_param { axis: 1 }"), x=X)["y"]
    np.testing.assert_array_equal(got, X.argmax(1)[:, None])
    got = run(layer("ArgMax", "argmax_param { out_max_val: true top_k: 2 }"), x=X)["y"]
    order = np.argsort(-X.reshape(2, -1), axis=1)[:, :2]
    assert got.shape == (2, 2, 2, 1)
    np.testing.assert_array_equal(got[:, 0, :, 0], order)
    np.testing.assert_allclose(got[:, 1, :, 0], np.take_along_axis(X.reshape(2, -1), order, 1))
