import itertools

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.emit import Builder
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.ops import columns as family
from noria.ops.columns import fold, pixel_shuffle, pixel_unshuffle, unfold
from noria.ops.window import slide
from noria.testing.case import Case, arr
from noria.testing.check import check_case

N, H = symbol("N"), symbol("H")


def seen(sizes, attrs):
    """(element of the kernel, window, position) of all that lie inside."""
    w = slide(sizes, **attrs)
    for k, kernel in enumerate(itertools.product(*map(range, w.kernel))):
        for i, window in enumerate(itertools.product(*map(range, w.out))):
            at = tuple(
                o * s - p[0] + e * d
                for o, s, p, e, d in zip(window, w.stride, w.pads, kernel, w.dilation, strict=True)
            )
            if all(0 <= a < n for a, n in zip(at, sizes, strict=True)):
                yield k, i, at


def gathered(**attrs):
    def apply(x):
        w = slide(x.shape[2:], **attrs)
        elements, windows = int(np.prod(w.kernel)), int(np.prod(w.out))
        out = np.zeros((*x.shape[:2], elements, windows))
        for k, i, at in seen(x.shape[2:], attrs):
            out[:, :, k, i] = x[(..., *at)]
        return out.reshape(x.shape[0], -1, windows)

    return apply


def added(sizes, **attrs):
    def apply(x):
        elements = int(np.prod(slide(sizes, **attrs).kernel))
        columns = x.reshape(x.shape[0], -1, elements, x.shape[2])
        out = np.zeros((*columns.shape[:2], *sizes))
        for k, i, at in seen(sizes, attrs):
            out[(..., *at)] += columns[:, :, k, i]
        return out

    return apply


def pair(x, symbolic=None, **attrs):
    """Unfolding, and folding of one geometry."""
    w = slide(x[2:], **attrs)
    columns = (x[0], x[1] * int(np.prod(w.kernel)), int(np.prod(w.out)))
    how = attrs | {"sizes": x[2:]}
    rows = {0: {0: "N"}}
    return [
        Case("unfold", [arr(*x)], attrs, expect=gathered(**attrs), symbolic=symbolic, grad2=True),
        Case("fold", [arr(*columns)], how, expect=added(x[2:], **attrs), symbolic=rows),
    ]


CASES = [
    *pair((2, 3, 4, 5), kernel=(2, 3), symbolic={0: {0: "N", 2: "H", 3: "W"}}),
    *pair((1, 2, 5, 4), kernel=2, stride=2, padding=(1, 0, 0, 1)),
    *pair((1, 2, 7, 6), kernel=(3, 2), dilation=(2, 3), padding=1, stride=(1, 2)),
    *pair((2, 1, 6), kernel=3, padding=1),
    *pair((1, 2, 3, 4, 3), kernel=2, stride=(1, 2, 1)),
    Case("unfold", [arr(0, 2, 3, 3)], {"kernel": 2}, id="empty batch"),
    Case("unfold", [arr(1, 2, 5, 5)], {"kernel": 3, "padding": "same", "stride": 2}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(family).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


def test_columns_that_no_windows_make_are_refused():
    with pytest.raises(ShapeError, match="windows"):
        fold(np.ones((1, 4, 5)), sizes=(3, 3), kernel=2)
    with pytest.raises(ShapeError, match="elements"):
        fold(np.ones((1, 5, 4)), sizes=(3, 3), kernel=2)
    with pytest.raises(ShapeError, match="sizes"):
        unfold(np.ones((2, 3)), kernel=1)


@pytest.mark.parametrize(
    ("shape", "factor"), [((2, 8, 3, 4), 2), ((1, 12, 2, 3), (2, 3)), ((1, 6, 5), 3)], ids=str
)
def test_shuffled_pixels_are_where_they_belong_and_come_back(shape, factor):
    x = np.random.default_rng(0).normal(size=shape)
    out = pixel_shuffle(x, factor=factor)
    factors = factor if isinstance(factor, tuple) else (factor,) * (len(shape) - 2)
    for at in itertools.product(*map(range, out.shape[2:])):
        block = [i % f for i, f in zip(at, factors, strict=True)]
        channel = np.ravel_multi_index(block, factors)
        inner = tuple(i // f for i, f in zip(at, factors, strict=True))
        step = int(np.prod(factors))
        np.testing.assert_array_equal(
            out[(..., *at)], x[(slice(None), slice(channel, None, step), *inner)]
        )
    np.testing.assert_array_equal(pixel_unshuffle(out, factor=factor), x)


def test_shuffling_works_on_open_sizes():
    with Builder(Program()) as builder:
        x = builder.input("x", (N, 4, H, 6))
        assert [str(d) for d in pixel_shuffle(x, factor=2).shape] == ["N", "1", "2*H", "12"]


def test_channels_and_sizes_must_divide():
    with pytest.raises(ArgumentError, match="channels"):
        pixel_shuffle(np.ones((1, 3, 2, 2)), factor=2)
    with pytest.raises(ArgumentError, match="sizes"):
        pixel_unshuffle(np.ones((1, 3, 3, 2)), factor=2)
    with pytest.raises(ShapeError, match="sizes"):
        pixel_shuffle(np.ones((4, 4)), factor=2)
