import itertools

import numpy as np
import pytest

from noria.core.errors import ShapeError
from noria.ops.deform import deform_conv2d
from noria.testing.case import Case, arr
from noria.testing.check import check_case


def bilinear(image, y, x):
    """[C, H, W] at a place, zeros outside."""
    out = np.zeros(image.shape[0])
    for i, j in itertools.product((int(np.floor(y)), int(np.floor(y)) + 1), range(-2, 3)):
        j += int(np.floor(x))
        if 0 <= i < image.shape[1] and 0 <= j < image.shape[2]:
            out += max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j)) * image[:, i, j]
    return out


def loops(stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    def apply(x, offset, weight, mask=None, bias=None):
        (n, c), (o, per, kh, kw) = x.shape[:2], weight.shape
        groups, parts = c // per, offset.shape[1] // (2 * kh * kw)
        out = np.zeros((n, o, *offset.shape[2:]))
        for b, i, j in np.ndindex(n, *offset.shape[2:]):
            for part, ky, kx in np.ndindex(parts, kh, kw):
                k = (part * kh + ky) * kw + kx
                y = i * stride[0] - padding[0] + ky * dilation[0] + offset[b, 2 * k, i, j]
                at = j * stride[1] - padding[1] + kx * dilation[1] + offset[b, 2 * k + 1, i, j]
                channels = range(part * c // parts, (part + 1) * c // parts)
                seen = bilinear(x[b, channels], y, at) * (1 if mask is None else mask[b, k, i, j])
                for ch, value in zip(channels, seen, strict=True):
                    rows = slice(ch // per * o // groups, (ch // per + 1) * o // groups)
                    out[b, rows, i, j] += weight[rows, ch % per, ky, kx] * value
        return out if bias is None else out + bias.reshape(-1, 1, 1)

    return apply


def case(x, offset, weight, mask=False, bias=False, **attrs):
    inputs = [arr(*x), arr(*offset), arr(*weight)]
    inputs.append(arr(offset[0], offset[1] // 2, *offset[2:]) if mask else None)
    inputs.append(arr(weight[0]) if bias else None)
    expect = loops(**{k: v for k, v in attrs.items() if k != "id"})
    return Case(
        "deform_conv2d",
        inputs,
        expect=expect,
        grad=True,
        symbolic={0: {0: "N"}, 1: {0: "N"}} | ({3: {0: "N"}} if mask else {}),
    ), attrs


BENT = [
    case((2, 2, 4, 5), (2, 8, 3, 4), (3, 2, 2, 2)),
    case(
        (1, 4, 5, 4),
        (1, 18, 3, 2),
        (4, 2, 3, 3),
        mask=True,
        bias=True,
        stride=(2, 2),
        padding=(1, 1),
    ),
    case((2, 4, 5, 5), (2, 16, 3, 3), (2, 4, 2, 2), mask=True, dilation=(2, 2)),
]


@pytest.mark.parametrize(("case", "attrs"), BENT, ids=str)
def test_case(case, attrs):
    def fn(x, offset, weight, mask=None, bias=None):
        return deform_conv2d(x, offset, weight, bias, mask=mask, **attrs)

    check_case(case, fn)


def test_without_offsets_it_is_a_convolution():
    from noria.ops.conv import conv2d

    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 4, 6, 5)), rng.normal(size=(6, 2, 3, 3))
    out = deform_conv2d(x, np.zeros((2, 18, 3, 3)), weight, stride=2, padding=1)
    np.testing.assert_allclose(out, conv2d(x, weight, stride=2, padding=1, groups=2))


@pytest.mark.parametrize(
    ("x", "offset", "weight", "mask", "match"),
    [
        ((1, 3, 5, 5), (1, 18, 3, 3), (2, 2, 3, 3), None, "divide"),
        ((1, 4, 5, 5), (1, 17, 3, 3), (2, 2, 3, 3), None, "divide"),
        ((1, 4, 5, 5), (1, 18, 3, 3), (3, 2, 3, 3), None, "equal groups"),
        ((1, 4, 5, 5), (1, 54, 3, 3), (2, 4, 3, 3), None, "groups of offsets"),
        ((1, 4, 5, 5), (1, 18, 3, 4), (2, 4, 3, 3), None, "windows"),
        ((1, 4, 5, 5), (1, 18, 3, 3), (2, 4, 3, 3), (1, 8, 3, 3), "mask"),
        ((1, 0, 5, 5), (1, 18, 3, 3), (2, 4, 3, 3), None, "divide"),
        ((4, 5, 5), (1, 18, 3, 3), (2, 4, 3, 3), None, "rank"),
    ],
)
def test_what_does_not_fit_is_refused(x, offset, weight, mask, match):
    given = None if mask is None else np.ones(mask)
    with pytest.raises(ShapeError, match=match):
        deform_conv2d(np.ones(x), np.ones(offset), np.ones(weight), mask=given)
