"""Layers with windows, against OpenCV."""

import numpy as np
import pytest

from noria.core.errors import FormatError

RNG = np.random.default_rng(1)


def randoms(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def layer(kind, text, name="y"):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "x" top: "{name}" {text} }}'


@pytest.mark.parametrize(
    "text, weight",
    [
        ("num_output: 4 kernel_size: 3", (4, 3, 3, 3)),
        ("num_output: 4 kernel_size: 3 pad: 1 stride: 2", (4, 3, 3, 3)),
        ("num_output: 6 kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 stride: 1", (6, 3, 3, 1)),
        ("num_output: 6 kernel_size: 3 group: 3", (6, 1, 3, 3)),
        ("num_output: 4 kernel_size: 3 dilation: 2 pad: 2", (4, 3, 3, 3)),
        ("num_output: 4 kernel_size: 1 bias_term: false", (4, 3, 1, 1)),
    ],
)
def test_convolution(text, weight, same_in_opencv):
    arrays = [randoms(*weight)] + ([] if "bias_term" in text else [randoms(weight[0])])
    same_in_opencv(
        layer("Convolution", f"convolution_param {{ {text} }}"),
        {"y": arrays},
        x=randoms(2, 3, 9, 8),
    )


@pytest.mark.parametrize(
    "text, weight",
    [
        ("num_output: 4 kernel_size: 4 stride: 2 pad: 1", (6, 4, 4, 4)),
        ("num_output: 6 kernel_size: 3 stride: 3 group: 2", (6, 3, 3, 3)),
        ("num_output: 4 kernel_size: 2 stride: 2 bias_term: false", (6, 4, 2, 2)),
    ],
)
def test_deconvolution(text, weight, same_in_opencv):
    count = int(text.split()[1])
    arrays = [randoms(*weight)] + ([] if "bias_term" in text else [randoms(count)])
    text = f"convolution_param {{ {text} }}"
    same_in_opencv(layer("Deconvolution", text), {"y": arrays}, x=randoms(2, 6, 5, 4))


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
@pytest.mark.parametrize("size", [6, 7, 8, 9])
@pytest.mark.parametrize(
    "text",
    [
        "kernel_size: 3 stride: 2",
        "kernel_size: 3 stride: 2 pad: 1",
        "kernel_size: 2 stride: 2 pad: 1",
        "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1",
        "global_pooling: true",
    ],
)
def test_pooling_rounds_up(kind, size, text, same_in_opencv):
    text = f"pooling_param {{ pool: {kind} {text} }}"
    same_in_opencv(layer("Pooling", text), x=randoms(1, 2, size, size + 1))


def test_stochastic_pooling_is_refused(run):
    with pytest.raises(FormatError, match="stochastic"):
        run(
            layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }"),
            x=randoms(1, 1, 4, 4),
        )


@pytest.mark.parametrize("text, shape", [("", (5, 12)), ("axis: 2", (5, 4))])
def test_inner_product(text, shape, same_in_opencv):
    text = f"inner_product_param {{ num_output: 5 {text} }}"
    arrays = [randoms(*shape), randoms(5)]
    same_in_opencv(layer("InnerProduct", text), {"y": arrays}, x=randoms(2, 3, 4))


def test_inner_product_of_a_transposed_weight_of_four_axes(run):
    weight, x = randoms(1, 1, 6, 5), randoms(2, 6)
    text = "inner_product_param { num_output: 5 transpose: true bias_term: false }"
    got = run(layer("InnerProduct", text), {"y": [weight]}, x=x)
    np.testing.assert_allclose(got["y"], x @ weight[0, 0], rtol=1e-5, atol=1e-6)


def test_embed_takes_ids_that_are_floats(run):
    table, bias = randoms(4, 3), randoms(3)
    text = "embed_param { num_output: 3 input_dim: 4 }"
    got = run(layer("Embed", text), {"y": [table, bias]}, x=np.array([[2, 0]], np.float32))
    np.testing.assert_allclose(got["y"], (table[[2, 0]] + bias)[None], rtol=1e-6)


def test_weights_of_another_size_are_an_error_that_names_the_layer(run):
    text = "convolution_param { num_output: 4 kernel_size: 3 }"
    with pytest.raises(FormatError, match="another size") as caught:
        run(layer("Convolution", text), {"y": [randoms(4, 2, 3, 3)]}, x=randoms(1, 3, 5, 5))
    assert "layer 'y' (Convolution)" in str(caught.value)
    with pytest.raises(FormatError, match="no bias for this layer"):
        run(layer("Convolution", text), {"y": [randoms(4, 3, 3, 3)]}, x=randoms(1, 3, 5, 5))


def test_interp_puts_corners_on_each_other(run):
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    got = run(layer("Interp", "interp_param { zoom_factor: 3 }"), x=x)["y"]
    assert got.shape == (1, 1, 4, 4)
    np.testing.assert_allclose(got[0, 0, 0], [0, 1 / 3, 2 / 3, 1], atol=1e-6)


def test_upsample_repeats(run):
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    got = run(layer("Upsample", "upsample_param { scale: 2 }"), x=x)["y"]
    np.testing.assert_array_equal(got, x.repeat(2, 2).repeat(2, 3))


def test_roi_pooling(same_in_opencv):
    rois = np.array([[0, 0, 0, 6, 6], [0, 2, 1, 7, 5]], np.float32)
    text = 'layer { name: "y" type: "ROIPooling" bottom: "x" bottom: "r" top: "y" '
    text += "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 1 } }"
    same_in_opencv(text, x=randoms(1, 2, 8, 8), r=rois)
