"""Normalisation, against OpenCV."""

import numpy as np
import pytest

from noria.convert import caffe

RNG = np.random.default_rng(2)
X = RNG.normal(size=(2, 4, 5, 6)).astype(np.float32)
MEAN, VAR, SCALE, BIAS = (RNG.uniform(0.5, 1.5, 4).astype(np.float32) for _ in range(4))


def layer(kind, name, bottoms, text="", top=None):
    names = " ".join(f'bottom: "{b}"' for b in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {names} top: "{top or name}" {text} }}\n'


def normalised(factor):
    return layer("BatchNorm", "n", ["x"]), {"n": [MEAN * factor, VAR * factor, [factor]]}


@pytest.mark.parametrize("factor", [1.0, 999.98])
def test_batch_norm_divides_its_sums(factor, same_in_opencv):
    text, weights = normalised(factor)
    same_in_opencv(text, weights, x=X)


@pytest.mark.parametrize("in_place", [True, False])
def test_batch_norm_and_scale_become_one_operator(in_place, same_in_opencv, write):
    text, weights = normalised(2.0)
    top = "n" if in_place else "s"
    text += layer("Scale", "s", ["n"], "scale_param { bias_term: true }", top)
    weights["s"] = [SCALE, BIAS]
    same_in_opencv(text, weights, x=X)
    program, _ = caffe.load(*write(text, weights, {"x": X.shape}))
    assert [o.type for o in program.operators] == ["batch_norm"]


def test_a_scale_behind_something_else_stays(run):
    text = layer("ReLU", "r", ["x"]) + layer("Scale", "s", ["r"], "scale_param { bias_term: true }")
    got = run(text, {"s": [SCALE, BIAS]}, x=X)["s"]
    want = np.maximum(X, 0) * SCALE[:, None, None] + BIAS[:, None, None]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_scale_by_another_blob_and_along_other_axes(run):
    gate = RNG.uniform(size=(2, 4)).astype(np.float32)
    text = layer("Scale", "s", ["x", "g"], "scale_param { axis: 0 }")
    np.testing.assert_allclose(run(text, x=X, g=gate)["s"], X * gate[:, :, None, None], rtol=1e-6)
    last = RNG.uniform(size=(5, 6)).astype(np.float32)
    text = layer("Bias", "s", ["x"], "bias_param { axis: 2 num_axes: -1 }")
    np.testing.assert_allclose(run(text, {"s": [last]}, x=X)["s"], X + last, rtol=1e-6)


@pytest.mark.parametrize("text", ["local_size: 3 alpha: 0.5 beta: 0.75", "local_size: 5 alpha: 2"])
def test_lrn_across_channels(text, same_in_opencv):
    same_in_opencv(layer("LRN", "y", ["x"], f"lrn_param {{ {text} }}"), x=X)


def test_lrn_has_a_constant_of_its_own(run):
    text = "lrn_param { local_size: 1 alpha: 0.5 k: 2 }"
    got = run(layer("LRN", "y", ["x"], text), x=X)["y"]
    np.testing.assert_allclose(got, X * (2 + 0.5 * X**2) ** -0.75, rtol=1e-5)


def test_lrn_within_a_channel(run):
    text = "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"
    padded = np.pad(X**2, ((0, 0), (0, 0), (1, 1), (1, 1)))
    mean = sum(padded[:, :, i : i + 5, j : j + 6] for i in range(3) for j in range(3)) / 9
    got = run(layer("LRN", "y", ["x"], text), x=X)["y"]
    np.testing.assert_allclose(got, X * (1 + 0.5 * mean) ** -0.75, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["", "across_channels: true", "normalize_variance: false"])
def test_mvn(text, same_in_opencv):
    same_in_opencv(layer("MVN", "y", ["x"], f"mvn_param {{ {text} }}"), x=X)


@pytest.mark.parametrize("across, shared, count", [("true", "true", 1), ("false", "false", 4)])
def test_normalize(across, shared, count, same_in_opencv):
    text = f"norm_param {{ across_spatial: {across} channel_shared: {shared} }}"
    same_in_opencv(layer("Normalize", "y", ["x"], text), {"y": [SCALE[:count]]}, x=X)


def test_batch_statistics_where_they_are_asked_for(run):
    text = layer("BatchNorm", "y", ["x"], "batch_norm_param { use_global_stats: false eps: 0 }")
    got = run(text, {"y": [MEAN, VAR, [1.0]]}, x=X)["y"]
    mean, var = X.mean((0, 2, 3), keepdims=True), X.var((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(got, (X - mean) / np.sqrt(var), rtol=1e-4, atol=1e-5)
