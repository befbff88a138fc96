import itertools

import numpy as np
import pytest

from noria.core.errors import NoriaError
from noria.ops import sequence_window as window
from noria.testing.case import Case, arr
from noria.testing.check import check_case

SPLITS = np.array([0, 3, 3, 4, 9])


def looked_up(length, start, pad=0.0):
    """Step by step; before and after: rows that stand at the edges."""

    def apply(x, splits, before=None, after=None):
        up, down = max(0, -start), max(0, start + length - 1)
        head = np.full((up, *x.shape[1:]), pad) if before is None else before
        tail = np.full((down, *x.shape[1:]), pad) if after is None else after
        out = []
        for a, b in itertools.pairwise(splits):
            row = np.concatenate([head, x[a:b], tail])
            places = [up + t + start for t in range(b - a)]
            out += [row[p : p + length] for p in places]
        return np.array(out, x.dtype).reshape(len(x), length, *x.shape[1:])

    return apply


@pytest.mark.parametrize(("length", "start"), [(3, -1), (2, 0), (2, 1), (3, -4), (1, 0)])
def test_windows_stay_within_their_row(length, start):
    def fn(x, s):
        return window.sequence_windows(x, s, length=length, start=start, pad=7)

    expect = looked_up(length, start, 7.0)
    check_case(Case("windows", [arr(9, 2), SPLITS], expect=expect, grad=[0]), fn)


def test_edges_are_learnt():
    def fn(x, s, before, after):
        return window.sequence_windows(x, s, length=4, start=-2, before=before, after=after)

    inputs = [arr(9, 2), SPLITS, arr(2, 2), arr(1, 2)]
    check_case(Case("edges", inputs, expect=looked_up(4, -2), grad=[0, 2, 3]), fn)


def test_a_convolution_is_a_product_with_the_window():
    def fn(x, s, weight, bias):
        return window.sequence_conv(x, s, weight, bias, length=3, start=-1)

    def expect(x, s, weight, bias):
        return looked_up(3, -1)(x, s).reshape(9, 6) @ weight.T + bias

    inputs = [arr(9, 2), SPLITS, arr(5, 6), arr(5)]
    check_case(Case("conv", inputs, expect=expect, grad=[0, 2, 3], tol=1e-5), fn)


def test_the_means_of_the_largest_columns():
    heights, widths, topks = [2, 0, 1], [1, 3, 4], (1, 3)

    def expect(x, *_):
        out, places, at = [], [], 0
        for h, w in zip(heights, widths, strict=True):
            image = x[at : at + 2 * h * w].reshape(2, h, w)
            order = np.argsort(-image, -1)[..., :3].swapaxes(0, 1)
            places += [*np.pad(order, ((0, 0), (0, 0), (0, max(0, 3 - w))), constant_values=-1)]
            image = np.sort(image, -1)[..., ::-1]
            at += 2 * h * w
            best = [[[image[c, r, :k].sum() / k for k in topks] for c in (0, 1)] for r in range(h)]
            out += [np.ravel(b) for b in best]
        return np.array(out), np.array(places)

    def fn(x, r, c):
        options = {"channels": 2, "rows": 3, "topks": topks, "size": "columns"}
        return window.sequence_topk_mean(x, r, c, **options)

    splits = [np.cumsum([0, *v]) for v in (heights, widths)]
    inputs = [arr(12, distinct=True), *splits]
    check_case(Case("topk", inputs, expect=expect, grad=[0], jax=False), fn)


X = np.ones((9, 2))
WRONG = {
    "no window": lambda: window.sequence_windows(X, SPLITS, length=0),
    "an edge too short": lambda: window.sequence_windows(X, SPLITS, length=3, after=X[:1]),
    "splits of others": lambda: window.sequence_windows(X, SPLITS[:-1], length=3),
    "no topks": lambda: window.sequence_topk_mean(
        X[0], SPLITS, SPLITS, channels=1, rows=9, topks=(), size="n"
    ),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(NoriaError):
        call()
