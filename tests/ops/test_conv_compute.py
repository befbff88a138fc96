import numpy as np
import pytest

from noria.ops import conv_compute
from noria.ops.window import slide

GROUPS = 2
SIZES, KERNEL = (5, 6), (3, 2)


def arrays(windows):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, *SIZES))
    weight = rng.normal(size=(6, 2, *KERNEL))
    return x, weight, rng.normal(size=(3, 6, *windows.out))


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, (1, 0), 1), (1, 2, 2)])
def test_the_three_maps_are_transposes_of_each_other(stride, padding, dilation):
    windows = slide(SIZES, KERNEL, stride, padding, dilation)
    x, weight, g = arrays(windows)
    total = np.vdot(g, conv_compute.forward(np, x, weight, windows, GROUPS))
    g_x = conv_compute.input_grad(np, g, weight, windows, GROUPS, SIZES)
    g_weight = conv_compute.weight_grad(np, x, g, windows, GROUPS)
    assert np.isclose(np.vdot(g_x, x), total)
    assert np.isclose(np.vdot(g_weight, weight), total)


def test_a_kernel_of_one_is_a_product_of_channels():
    windows = slide((2, 2), (1, 1))
    x = np.arange(8.0).reshape(1, 2, 2, 2)
    weight = np.array([[1.0, 10.0]]).reshape(1, 2, 1, 1)
    out = conv_compute.forward(np, x, weight, windows, 1)
    assert out.tolist() == [[[[40, 51], [62, 73]]]]


def test_a_geometry_that_aborts_the_xla_compiler_is_taken_around_it():
    jnp = pytest.importorskip("jax.numpy")
    import jax

    windows = slide((6, 6), (2, 3), 2, 1, (1, 2))
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(2, 1, 2, 3)).astype(np.float32)
    g = rng.normal(size=(1, 2, *windows.out)).astype(np.float32)

    def run(g, weight):
        return conv_compute.input_grad(jnp, g, weight, windows, 1, (6, 6))

    want = conv_compute.input_grad(np, g, weight, windows, 1, (6, 6))
    assert np.allclose(jax.jit(run)(g, weight), want, atol=1e-5)
