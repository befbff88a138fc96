import numpy as np
import pytest

from noria.core.errors import ArgumentError

R = np.random.default_rng(0)


def naive(x, w, stride, pads):
    x = np.pad(x, ((0, 0), (0, 0), *pads))
    k, (h, v) = w.shape[2], x.shape[2:]
    rows, columns = (h - k) // stride + 1, (v - k) // stride + 1
    out = np.zeros((x.shape[0], w.shape[0], rows, columns))
    for i in range(rows):
        for j in range(columns):
            part = x[:, :, i * stride : i * stride + k, j * stride : j * stride + k]
            out[:, :, i, j] = np.einsum("ncij,ocij->no", part, w)
    return out


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("algorithm", "pads"),
    [("EXPLICIT", ((1, 0), (0, 2))), ("SAME", ((1, 1), (0, 1))), ("VALID", ((0, 0), (0, 0)))],
)
def test_paddings_and_layouts(run_op, layout, algorithm, pads):
    x, w = R.normal(size=(2, 3, 5, 6)), R.normal(size=(4, 3, 3, 3))
    attrs = {
        "strides": [2, 2],
        "paddings": [1, 0, 0, 2],
        "padding_algorithm": algorithm,
        "data_format": layout,
    }
    given = x if layout == "NCHW" else x.transpose(0, 2, 3, 1)
    got = run_op("conv2d", {"Input": given, "Filter": w}, attrs, ("Output",))["Output"]
    got = got if layout == "NCHW" else got.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(got, naive(x, w, 2, pads), rtol=1e-9)


def test_the_size_of_a_transposed_convolution_is_asked_for(run_op):
    x, w = R.normal(size=(1, 2, 3, 3)), R.normal(size=(2, 4, 3, 3))
    for size in (7, 8):
        attrs = {"strides": [2, 2], "output_size": [size, size]}
        got = run_op("conv2d_transpose", {"Input": x, "Filter": w}, attrs, ("Output",))["Output"]
        assert got.shape == (1, 4, size, size)
    with pytest.raises(ArgumentError, match="output_size"):
        attrs = {"strides": [2, 2], "output_size": [9, 9]}
        run_op("conv2d_transpose", {"Input": x, "Filter": w}, attrs, ("Output",))


@pytest.mark.parametrize(("exclusive", "corner"), [(True, 1.0), (False, 4 / 9)])
def test_what_a_mean_counts(run_op, exclusive, corner):
    x = np.ones((1, 1, 4, 4), np.float32)
    attrs = {"pooling_type": "avg", "ksize": [3, 3], "paddings": [1, 1], "exclusive": exclusive}
    got = run_op("pool2d", {"X": x}, {**attrs, "strides": [3, 3], "ceil_mode": True})["Out"]
    np.testing.assert_allclose(got[0, 0, 0, 0], corner, rtol=1e-6)
    assert got.shape == (1, 1, 2, 2)
    np.testing.assert_allclose(got[0, 0, 1, 1], corner, rtol=1e-6)


def test_pooling_of_everything_and_to_a_size(run_op):
    x = R.normal(size=(2, 3, 4, 6))
    attrs = {"pooling_type": "max", "ksize": [1, 1], "global_pooling": True}
    got = run_op("pool2d", {"X": x}, attrs)["Out"]
    assert np.array_equal(got, x.max((2, 3), keepdims=True))
    attrs = {"pooling_type": "avg", "ksize": [2, 3], "adaptive": True}
    got = run_op("pool2d", {"X": x}, attrs)["Out"]
    np.testing.assert_allclose(got, x.reshape(2, 3, 2, 2, 3, 2).mean((3, 5)))
