import itertools

import numpy as np
import pytest

from noria.core.dims import evaluate, symbol
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import collect_checks
from noria.ops.window import explicit_pads, extents, padded, share_inside, slide, taps, unpadded

N, H = symbol("N"), symbol("H")
GEOMETRIES = list(
    itertools.product([5, 8], [1, 2, 3], [1, 2, 3], [0, 1, (0, 1), (2, 1), "same"], [1, 2])
)


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation"), GEOMETRIES)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_windows_are_those_found_by_walking(size, kernel, stride, padding, dilation, ceil_mode):
    windows = slide((size,), (kernel,), stride, padding, dilation, ceil_mode)
    front, behind = windows.pads[0]
    span = (kernel - 1) * dilation + 1
    starts = range(-front, size + behind, stride)
    whole = [s for s in starts if s + span <= size + behind]
    if ceil_mode:  # one more if elements are left over; none starts in the padding behind
        whole += [whole[-1] + stride] * (whole[-1] + span < size + behind)
        whole = [s for s in whole if s < size]
    assert windows.out == (len(whole),)
    around = padded(np, np.arange(size)[None, None] + 1, windows)
    seen = np.stack([around[(..., *tap)] for tap in taps(windows)], -1)[0, 0]
    inside = range(size)
    expected = [[1 + p if p in inside else 0 for p in range(s, s + span, dilation)] for s in whole]
    assert seen.tolist() == expected


@pytest.mark.parametrize(("padding", "extra"), [("same", (0, 1)), ("same_lower", (1, 0))])
def test_same_padding_keeps_size_over_stride_and_puts_the_odd_element_behind_or_in_front(
    padding, extra
):
    for size, stride in itertools.product(range(1, 12), (1, 2, 3)):
        assert slide((size,), (3,), stride, padding).out == (-(-size // stride),)
    assert slide((4,), (2,), 1, padding).pads == (extra,)


@pytest.mark.parametrize("padding", [0, 1, "same", (1, 2)])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_symbolic_sizes_give_what_real_sizes_give(padding, ceil_mode):
    open_windows = slide((N,), (3,), 2, padding, 1, ceil_mode)
    for size in range(3, 12):
        real = slide((size,), (3,), 2, padding, 1, ceil_mode)
        assert evaluate(open_windows.out[0], {"N": size}) == real.out[0]
        pads = tuple(evaluate(p, {"N": size}) for p in open_windows.pads[0])
        assert pads == real.pads[0]


def test_padding_is_told_in_four_ways():
    assert explicit_pads(1, 2) == ((1, 1), (1, 1))
    assert explicit_pads((1, 2), 2) == ((1, 1), (2, 2))
    assert explicit_pads((1, 2, 3, 4), 2) == ((1, 3), (2, 4))  # top, left, bottom, right
    assert explicit_pads("valid", 3) == ((0, 0),) * 3


def test_in_ceil_mode_the_first_window_may_already_reach_beyond_the_end():
    windows = slide((4,), (5,), 3, 0, 1, True)
    assert windows.out == (1,) and extents(windows, (4,)) == [(0, 1)]
    with pytest.raises(ShapeError, match="no window fits"):
        slide((4,), (5,), 1, 0, 1, True)


def test_unpadding_undoes_padding():
    x = np.arange(30).reshape(1, 2, 3, 5)
    windows = slide((3, 5), (2, 3), 2, (1, 0, 0, 2), 1, True)
    assert np.array_equal(unpadded(padded(np, x, windows), windows, (3, 5)), x)
    assert extents(windows, (3, 5))[0] == (1, 0)


@pytest.mark.parametrize("padding", [-1, (1, 2, 3), "some", (1, -1), True, 1.5, (0.5, 1)])
def test_bad_padding_is_refused(padding):
    with pytest.raises(ArgumentError, match="padding"):
        slide((5, 5), (3, 3), 1, padding)


@pytest.mark.parametrize(
    "attrs", [{"stride": 0}, {"stride": (1,)}, {"dilation": -1}, {"stride": 1.0}]
)
def test_bad_strides_and_dilations_are_refused(attrs):
    with pytest.raises(ArgumentError, match=next(iter(attrs))):
        slide((5, 5), (3, 3), **attrs)


@pytest.mark.parametrize("ceil", [False, True])
def test_windows_over_open_sizes_are_counted_when_those_are_known(ceil):
    checks = []
    with collect_checks(checks):
        slide((H, 9), (5, 5), 5, (1, 0), 1, ceil)
    (check,) = checks
    check.verify({"H": 3})
    if ceil:
        check.verify({"H": 1})
        return
    with pytest.raises(ShapeError, match="no window fits"):
        check.verify({"H": 2})


def test_a_window_larger_than_what_it_looks_at_is_refused():
    with pytest.raises(ShapeError, match="no window fits"):
        slide((2,), (4,), 1, (0, 1))
    with pytest.raises(ArgumentError, match="kernel"):
        slide((2,), (0,))


@pytest.mark.parametrize("padding", [0, 1, "same", "same_lower", (2, 0)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_the_share_of_what_windows_see_that_is_no_padding(padding, stride, dilation):
    for size in (5, 8):
        windows = slide((size,), (3,), stride, padding, dilation)
        image = padded(np, np.ones((1, 1, size)), windows)[0, 0]
        seen = [image[tap] for tap in taps(windows)]
        assert share_inside(windows, (size,)) == pytest.approx(np.mean(seen))


def test_shares_of_axes_multiply():
    windows = slide((7, 7), (3, 3), 1, 1)
    assert share_inside(windows, (7, 7)) == pytest.approx((19 / 21) ** 2)
