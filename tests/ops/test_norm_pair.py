import numpy as np
import pytest

from noria.core.errors import DTypeError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case
from tests.ops.test_fused_norm import gradients


def expected(*arrays, axis=1):
    """By the gradients of each alone."""
    x, other = arrays[:4], arrays[4:8]
    grad, out, more = (*arrays[8:], *[None] * (11 - len(arrays)))
    if out is None:
        out = np.ones(grad.shape, bool)
    elif out.dtype == np.uint8:
        out = np.unpackbits(out, axis, grad.shape[axis], "little")
    rest = (out, grad, more)
    return *gradients(*x, *rest, axis=axis), *gradients(*other, *rest, axis=axis)


def pair(shape, mask=None, more=False, axis=1, dtype="float32"):
    """mask: "out", "bits" or None"""
    c, packed = shape[axis], list(shape)
    packed[axis] = -(-c // 8)
    one = [arr(*shape, dtype=dtype), arr(c), arr(c), arr(c, low=0.5)]
    out = {
        None: None,
        "out": arr(*shape, dtype=dtype),
        "bits": ints(*packed, high=256, dtype="uint8"),
    }[mask]
    big = arr(*shape, dtype=dtype)
    return [*one, *one, big, *([out] if mask else []), *([big] if more else [])]


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((5, 3), {}),
        ((4, 3, 2, 5), {"mask": "out", "more": True}),
        ((4, 3, 5), {"mask": "out", "axis": -1}),
        *(((4, c, 2, 3), {"mask": "bits", "more": c > 7}) for c in (3, 7, 8, 17)),
        ((3, 2, 16), {"mask": "bits", "axis": 2}),
    ],
)
def test_case(shape, how):
    axis = how.get("axis", 1)
    expect = lambda *arrays: expected(*arrays, axis=axis)  # noqa: E731
    check_case(Case("batch_norm_pair_grad", pair(shape, **how), {"axis": axis}, expect=expect))


def test_it_is_the_gradient_of_the_sum_of_both():
    rng = np.random.default_rng(0)
    x, y, g, h = rng.standard_normal((4, 6, 5, 3))
    v, z = np.ones(5), np.zeros(5)
    parts = [o.batch_norm(a, v, z, z, v, training=True) for a in (x, y)]
    out = np.maximum(parts[0][0] + parts[1][0], 0)
    found = o.batch_norm_pair_grad(x, v, *parts[0][1:3], y, v, *parts[1][1:3], g, out, h)
    masked = (g + h) * (out > 0)
    want = [o.batch_norm_grad(a, v, *p[1:3], masked) for a, p in zip((x, y), parts, strict=True)]
    for a, b in zip(found, [*want[0], *want[1]], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_sizes_that_differ_are_told():
    x, v = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    with pytest.raises(ShapeError, match="grad"):
        o.batch_norm_pair_grad(x, v, v, v, x[:1], v, v, v, x)
    with pytest.raises(ShapeError, match="inv_std"):
        o.batch_norm_pair_grad(x, v, v, v, x, v, v, v[:1], x)
    with pytest.raises(ShapeError, match="the mask"):
        o.batch_norm_pair_grad(x, v, v, v, x, v, v, v, x, np.ones((2, 2), np.uint8))
    with pytest.raises(ShapeError, match="more"):
        o.batch_norm_pair_grad(x, v, v, v, x, v, v, v, x, x, x[:, :1])
    with pytest.raises(DTypeError, match="float dtype"):
        o.batch_norm_pair_grad(x, v, v, v, x, v, v, v, x, np.ones((2, 3), np.int8))
