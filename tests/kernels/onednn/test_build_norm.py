import numpy as np
import pytest

from noria.core.errors import EngineError
from noria.kernels.onednn.build_norm import (
    batch_norm_backward,
    batch_norm_forward,
    layer_norm_backward,
    layer_norm_forward,
)
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc

rng = np.random.default_rng(0)
EPSILON = 1e-3
SHAPES = [(4, 3), (2, 17, 9), (3, 7, 5, 4), (4, 16, 6, 6), (2, 3, 4, 3, 5)]


def normal(*shape):
    return rng.standard_normal(shape).astype("f")


def statistics(x, axes):
    return x.mean(axes, keepdims=True, dtype="d"), x.var(axes, keepdims=True, dtype="d")


def normalise_gradient(x, g, axes):
    """Gradient of (x - mean) / sqrt(variance + epsilon), with mean and variance of x."""
    mean, variance = statistics(x, axes)
    scale = 1 / np.sqrt(variance + EPSILON)
    y = (x - mean) * scale
    return scale * (g - g.mean(axes, keepdims=True) - y * (g * y).mean(axes, keepdims=True)), y


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.fixture(params=["NCHW", "NHWC"])
def place(request, arrays):
    return arrays.last if request.param == "NHWC" else arrays.lay


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_training_and_its_gradients(arrays, place, shape, relu):
    channels = shape[1]
    x, out, g = place(normal(*shape)), place(np.zeros(shape, "f")), place(normal(*shape))
    scale, shift = normal(channels), normal(channels)
    mean, variance = np.zeros(channels, "f"), np.zeros(channels, "f")
    axes = tuple(i for i in range(len(shape)) if i != 1)
    per_channel = (1, -1, *[1] * (len(shape) - 2))
    p = batch_norm_forward(arrays.desc(x), arrays.desc(out), EPSILON, training=True, fuse_relu=relu)
    affine = {ARG.SCALE: scale, ARG.SHIFT: shift}
    moments = {ARG.MEAN: mean, ARG.VARIANCE: variance}
    buffers = arrays.execute(p, {ARG.SRC: x, ARG.DST: out, **affine, **moments})

    true_mean, true_variance = statistics(x, axes)
    y = (x - true_mean) / np.sqrt(true_variance + EPSILON)
    y = y * scale.reshape(per_channel) + shift.reshape(per_channel)
    close(out, np.maximum(y, 0) if relu else y)
    close(mean, true_mean.ravel())
    close(variance, true_variance.ravel())

    dx, dscale, dshift = place(np.zeros(shape, "f")), np.zeros_like(scale), np.zeros_like(shift)
    back = batch_norm_backward(
        arrays.desc(x), arrays.desc(g), arrays.desc(dx), EPSILON, fuse_relu=relu
    )
    assert (ARG.WORKSPACE in back.descs) == relu
    given = {ARG.SRC: x, ARG.DIFF_DST: g, ARG.DIFF_SRC: dx, ARG.SCALE: scale, **moments}
    given |= {ARG.DIFF_SCALE: dscale, ARG.DIFF_SHIFT: dshift}
    arrays.execute(back, given, {ARG.WORKSPACE: buffers[ARG.WORKSPACE]} if relu else None)

    passed = g.astype("d") * ((y > 0) if relu else 1)
    want, unit = normalise_gradient(x.astype("d"), passed * scale.reshape(per_channel), axes)
    close(dx, want)
    close(dscale, (passed * unit).sum(axes))
    close(dshift, passed.sum(axes))


def test_batch_norm_with_global_statistics(arrays, place):
    x, out = place(normal(2, 7, 4, 4)), place(np.zeros((2, 7, 4, 4), "f"))
    mean, variance = normal(7), rng.uniform(0.5, 2, 7).astype("f")
    p = batch_norm_forward(
        arrays.desc(x),
        arrays.desc(out),
        EPSILON,
        use_scale=False,
        use_shift=False,
        use_global_stats=True,
        fuse_relu=True,
    )
    assert set(p.descs) - {ARG.SCRATCHPAD} == {ARG.SRC, ARG.DST, ARG.MEAN, ARG.VARIANCE}
    arrays.execute(p, {ARG.SRC: x, ARG.DST: out, ARG.MEAN: mean, ARG.VARIANCE: variance})
    m, v = mean.reshape(1, 7, 1, 1), variance.reshape(1, 7, 1, 1)
    close(out, np.maximum((x - m) / np.sqrt(v + EPSILON), 0))

    g, dx = place(normal(2, 7, 4, 4)), place(np.zeros((2, 7, 4, 4), "f"))
    back = batch_norm_backward(
        arrays.desc(x),
        arrays.desc(g),
        arrays.desc(dx),
        EPSILON,
        use_scale=False,
        use_shift=False,
        use_global_stats=True,
    )
    given = {ARG.SRC: x, ARG.DIFF_DST: g, ARG.DIFF_SRC: dx, ARG.MEAN: mean, ARG.VARIANCE: variance}
    arrays.execute(back, given)
    close(dx, g / np.sqrt(v + EPSILON))


def test_batch_norm_with_scale_alone_takes_no_shift(arrays):
    d = MemDesc((2, 3, 4, 4), "float32")
    p = batch_norm_forward(d, d, EPSILON, use_shift=False)
    assert ARG.SCALE in p.descs and ARG.SHIFT not in p.descs and ARG.MEAN not in p.descs
    back = batch_norm_backward(d, d, d, EPSILON, use_shift=False)
    assert ARG.DIFF_SCALE in back.descs and ARG.DIFF_SHIFT not in back.descs


@pytest.mark.parametrize("shape", [(5, 3), (2, 5, 17), (2, 3, 4, 16), (2, 1, 3, 2, 33)])
def test_layer_norm_training_and_its_gradients(arrays, shape):
    x, out, g = normal(*shape), np.zeros(shape, "f"), normal(*shape)
    scale, shift = normal(shape[-1]), normal(shape[-1])
    mean, variance = np.zeros(shape[:-1], "f"), np.zeros(shape[:-1], "f")
    p = layer_norm_forward(arrays.desc(x), arrays.desc(out), EPSILON, training=True)
    moments = {ARG.MEAN: mean, ARG.VARIANCE: variance}
    affine = {ARG.SCALE: scale, ARG.SHIFT: shift}
    arrays.execute(p, {ARG.SRC: x, ARG.DST: out, **affine, **moments})
    true_mean, true_variance = statistics(x, -1)
    unit = (x - true_mean) / np.sqrt(true_variance + EPSILON)
    close(out, unit * scale + shift)
    close(mean, true_mean[..., 0])
    close(variance, true_variance[..., 0])

    dx, dscale, dshift = np.zeros(shape, "f"), np.zeros_like(scale), np.zeros_like(shift)
    back = layer_norm_backward(arrays.desc(x), arrays.desc(g), arrays.desc(dx), EPSILON)
    given = {ARG.SRC: x, ARG.DIFF_DST: g, ARG.DIFF_SRC: dx, **affine, **moments}
    arrays.execute(back, given | {ARG.DIFF_SCALE: dscale, ARG.DIFF_SHIFT: dshift})
    rows = tuple(range(len(shape) - 1))
    close(dx, normalise_gradient(x.astype("d"), g * scale.astype("d"), -1)[0])
    close(dscale, (g * unit).sum(rows))
    close(dshift, g.sum(rows, dtype="d"))


def test_layer_norm_for_inference_keeps_no_statistics(arrays):
    x, out = normal(6, 7), np.zeros((6, 7), "f")
    p = layer_norm_forward(
        arrays.desc(x), arrays.desc(out), EPSILON, use_scale=False, use_shift=False
    )
    assert ARG.MEAN not in p.descs and ARG.SCALE not in p.descs
    arrays.execute(p, {ARG.SRC: x, ARG.DST: out})
    mean, variance = statistics(x, -1)
    close(out, (x - mean) / np.sqrt(variance + EPSILON))


def test_unfit_normalisations_are_refused():
    a, b = MemDesc((2, 3, 4), "float32"), MemDesc((2, 3, 5), "float32")
    for build in (batch_norm_forward, layer_norm_forward):
        with pytest.raises(EngineError):
            build(a, b, EPSILON)
    for build in (batch_norm_backward, layer_norm_backward):
        with pytest.raises(EngineError):
            build(a, a, b, EPSILON)
    with pytest.raises(EngineError):
        layer_norm_forward(MemDesc((7,), "float32"), MemDesc((7,), "float32"), EPSILON)
    with pytest.raises(EngineError):
        batch_norm_forward(MemDesc((7,), "float32"), MemDesc((7,), "float32"), EPSILON)
