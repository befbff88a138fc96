"""Vision operators of Fluid: what its reference vectors do not ask for."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import ShapeError

X = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)


def cubic(d: float) -> float:
    d, a = abs(d), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("size", [(7, 3), (1, 6)])
def test_cubic_interpolation_reads_where_fluid_reads(run_op: Any, size: Any, align: bool) -> None:
    attrs = {"out_h": size[0], "out_w": size[1], "align_corners": align, "data_layout": "NCHW"}
    got = run_op("bicubic_interp", {"X": X}, attrs)["Out"]
    want = X.astype(np.float64)
    for axis, m in ((2, size[0]), (3, size[1])):
        n = X.shape[axis]
        ratio = 0 if m == 1 else (n - 1) / (m - 1) if align else n / m
        rows = np.zeros((m, n))
        for k in range(m):
            at = ratio * k if align else ratio * (k + 0.5) - 0.5
            for i in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
                rows[k, min(max(i, 0), n - 1)] += cubic(at - i)
        want = np.moveaxis(np.moveaxis(want, axis, -1) @ rows.T, -1, axis)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_channels_may_come_last(run_op: Any) -> None:
    attrs = {"out_d": 3, "out_h": 6, "out_w": 4, "align_corners": False, "align_mode": 0}
    x = np.random.default_rng(1).normal(size=(1, 2, 3, 4, 5)).astype(np.float32)
    first = run_op("trilinear_interp", {"X": x}, attrs | {"data_layout": "NCHW"})["Out"]
    last = x.transpose(0, 2, 3, 4, 1)
    got = run_op("trilinear_interp", {"X": last}, attrs | {"data_layout": "NHWC"})["Out"]
    np.testing.assert_allclose(got.transpose(0, 4, 1, 2, 3), first, atol=1e-6)


def test_a_scale_may_be_a_list_or_a_tensor(run_op: Any) -> None:
    attrs = {"align_corners": False, "out_h": -1, "out_w": -1}
    got = run_op("nearest_interp_v2", {"X": X}, attrs | {"scale": [2.0, 2.0]})["Out"]
    np.testing.assert_array_equal(got, X.repeat(2, axis=2).repeat(2, axis=3))
    given = {"X": X, "Scale": np.array([2.0], np.float32)}
    got = run_op("nearest_interp", given, attrs, constants=("Scale",))["Out"]
    np.testing.assert_array_equal(got, X.repeat(2, axis=2).repeat(2, axis=3))


def test_a_size_is_needed(run_op: Any) -> None:
    with pytest.raises(ShapeError, match="sizes"):
        run_op("bilinear_interp", {"X": X}, {"out_h": 0, "out_w": 3})


def test_columns_are_what_windows_see(run_op: Any) -> None:
    attrs = {"kernel_sizes": [2, 2], "strides": [2, 1], "paddings": [0, 0, 0, 0]}
    got = run_op("unfold", {"X": X}, attrs | {"dilations": [1, 1]}, outputs=("Y",))["Y"]
    np.testing.assert_array_equal(got[:, :4, 5], X[:, 0, 2:4, 1:3].reshape(2, 4))


def test_a_grid_reads_corner_to_corner(run_op: Any) -> None:
    grid = np.array([[[[-1, -1], [1, 1]]]] * 2, np.float32)
    got = run_op("grid_sampler", {"X": X, "Grid": grid}, outputs=("Output",))["Output"]
    np.testing.assert_allclose(got[:, :, 0], X[:, :, [0, -1], [0, -1]], atol=1e-6)
