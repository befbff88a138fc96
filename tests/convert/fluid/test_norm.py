import numpy as np
import pytest

R = np.random.default_rng(0)


def inputs(channels, x):
    vectors = {"Scale": 1.5, "Bias": 0.5, "Mean": 0.25, "Variance": 2.0}
    return {"X": x, **{n: np.full(channels, v, x.dtype) for n, v in vectors.items()}}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_running_statistics_take_the_variance_of_the_batch(run_op, layout):
    x = R.normal(size=(4, 3, 2, 2))
    given = x if layout == "NCHW" else x.transpose(0, 2, 3, 1)
    slots = ("Y", "MeanOut", "VarianceOut", "SavedMean", "SavedVariance")
    attrs = {"momentum": 0.9, "epsilon": 1e-5, "data_layout": layout}
    got = run_op("batch_norm", inputs(3, given), attrs, slots)
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
    np.testing.assert_allclose(got["MeanOut"], 0.9 * 0.25 + 0.1 * mean)
    np.testing.assert_allclose(got["VarianceOut"], 0.9 * 2.0 + 0.1 * var)
    np.testing.assert_allclose(got["SavedVariance"], 1 / np.sqrt(var + 1e-5))
    y = got["Y"] if layout == "NCHW" else got["Y"].transpose(0, 3, 1, 2)
    shape = (1, 3, 1, 1)
    normal = (x - mean.reshape(shape)) / np.sqrt(var + 1e-5).reshape(shape)
    np.testing.assert_allclose(y, 1.5 * normal + 0.5)


def test_at_test_time_the_given_statistics_are_used(run_op):
    x = R.normal(size=(4, 3))
    got = run_op("batch_norm", inputs(3, x), {"is_test": True}, ("Y",))["Y"]
    np.testing.assert_allclose(got, 1.5 * (x - 0.25) / np.sqrt(2 + 1e-5) + 0.5)


def test_rows_from_an_axis_on(run_op):
    x, scale, bias = R.normal(size=(2, 3, 4)), R.normal(size=12), R.normal(size=12)
    given = {"X": x, "Scale": scale, "Bias": bias}
    got = run_op("layer_norm", given, {"begin_norm_axis": 1}, ("Y", "Mean", "Variance"))
    rows = x.reshape(2, 12)
    np.testing.assert_allclose(got["Mean"], rows.mean(1))
    np.testing.assert_allclose(got["Variance"], rows.var(1))
    normal = (rows - rows.mean(1)[:, None]) / np.sqrt(rows.var(1) + 1e-5)[:, None]
    np.testing.assert_allclose(got["Y"].reshape(2, 12), normal * scale + bias)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_groups_of_channels(run_op, layout):
    x = R.normal(size=(2, 4, 3, 3))
    given = x if layout == "NCHW" else x.transpose(0, 2, 3, 1)
    got = run_op("group_norm", {"X": given}, {"groups": 2, "data_layout": layout}, ("Y", "Mean"))
    grouped = x.reshape(2, 2, -1)
    np.testing.assert_allclose(got["Mean"], grouped.mean(2))
    want = (grouped - grouped.mean(2)[..., None]) / np.sqrt(grouped.var(2) + 1e-5)[..., None]
    y = got["Y"] if layout == "NCHW" else got["Y"].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(y.reshape(grouped.shape), want)


def test_neighbouring_channels(run_op):
    x = R.normal(size=(1, 6, 2, 2))
    got = run_op("lrn", {"X": x}, {"n": 5, "k": 2.0, "alpha": 0.1, "beta": 0.75})["Out"]
    squares = np.pad(x**2, ((0, 0), (2, 2), (0, 0), (0, 0)))
    total = sum(squares[:, k : k + 6] for k in range(5))
    np.testing.assert_allclose(got, x / (2 + 0.1 * total) ** 0.75)


def test_a_weight_over_its_largest_singular_value(run_op):
    w = R.normal(size=(4, 6))
    given = {"Weight": w, "U": R.normal(size=4), "V": R.normal(size=6)}
    got = run_op("spectral_norm", given, {"dim": 0, "power_iters": 200})["Out"]
    np.testing.assert_allclose(got, w / np.linalg.svd(w)[1][0], rtol=1e-6)
