import itertools

import numpy as np
import pytest

from noria.core.errors import NoriaError
from noria.ops import matching
from noria.testing.case import Case, arr
from noria.testing.check import check_case

SPLITS = np.array([0, 3, 3, 4, 9])
Y_SPLITS = np.array([0, 2, 3, 3, 6])


def rows(x, splits):
    return [x[a:b] for a, b in itertools.pairwise(splits)]


def test_each_step_looks_ahead():
    def expect(x, splits, weight):
        out = np.zeros_like(x)
        for a, b in itertools.pairwise(splits):
            for t in range(a, b):
                for k in range(min(3, b - t)):
                    out[t] += x[t + k] * weight[k]
        return out

    inputs = [arr(9, 2), SPLITS, arr(3, 2)]
    check_case(Case("row_conv", inputs, expect=expect, grad=[0, 2]), matching.row_conv)


def test_places_are_told_by_waves():
    code = matching.position_encoding(np.array([0, 2]), size=4, dtype="float64")
    assert np.allclose(code[0], [0, 0, 1, 1])
    assert np.allclose(code[1], [np.sin(2), np.sin(2e-4), np.cos(2), np.cos(2e-4)])
    assert matching.sequence_places(SPLITS, total=9).tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4]


def test_features_come_first():
    def expect(x, splits):
        return np.concatenate([r.T.ravel() for r in rows(x, splits)]), splits * 3

    case = Case("channels_first", [arr(9, 3), SPLITS], expect=expect, grad=[0])
    check_case(case, matching.channels_first)


def test_all_steps_of_pairs_are_compared():
    def fn(x, xs, y, ys, weight):
        return matching.match_matrix(x, xs, y, ys, weight, sizes=("h", "w", "n"))

    def expect(x, xs, y, ys, weight):
        pairs = zip(rows(x, xs), rows(y, ys), strict=True)
        parts = [np.einsum("id,dce,je->cij", a, weight, b).ravel() for a, b in pairs]
        sizes = np.cumsum([0, *map(len, parts)])
        return np.concatenate(parts), sizes, np.einsum("id,dce->ice", x, weight)

    inputs = [arr(9, 3), SPLITS, arr(6, 2), Y_SPLITS, arr(3, 2, 2)]
    case = Case("match", inputs, expect=expect, grad=[0, 2, 4], jax=False, tol=1e-5)
    check_case(case, fn)


HEIGHTS, WIDTHS = np.array([0, 2, 5, 5]), np.array([0, 3, 4, 6])  # 2 x 3, 3 x 1, 0 x 2


@pytest.mark.parametrize(
    ("kernel", "stride"), [((2, 3), (1, 1)), ((3, 3), (2, 1)), ((6, 1), (2, 2))]
)
def test_images_of_all_sizes_are_convolved(kernel, stride):
    kh, kw = kernel

    def fn(x, weight):
        options = {"kernel": kernel, "stride": stride, "sizes": ("rows", "pixels")}
        return matching.ragged_conv2d(x, HEIGHTS, WIDTHS, weight, **options)

    def expect(x, weight):
        windows, counts, at = [], [0], 0
        for h, w in zip(np.diff(HEIGHTS), np.diff(WIDTHS), strict=True):
            image = x[at : at + 2 * h * w].reshape(2, h, w)
            at += 2 * h * w
            padded = np.pad(image, ((0, 0), (kh // 2, kh), (kw // 2, kw)))
            places = [(i, j) for i in range(0, h, stride[0]) for j in range(0, w, stride[1])]
            windows += [padded[:, i : i + kh, j : j + kw].ravel() for i, j in places]
            counts.append(len(places))
        found = np.array(windows)
        return found @ weight.T, np.cumsum(counts), found

    inputs = [arr(18), arr(4, 2 * kh * kw)]
    case = Case("conv", inputs, expect=expect, grad=[0, 1], jax=False, tol=1e-5)
    check_case(case, fn)


X, W = np.ones((9, 3)), np.ones((4, 12))
WRONG = {
    "odd waves": lambda: matching.position_encoding(np.arange(3), size=5),
    "a weight of other features": lambda: matching.row_conv(X, SPLITS, np.ones((2, 2))),
    "pairs of other rows": lambda: matching.match_matrix(
        X, SPLITS, X, np.array([0, 9]), np.ones((3, 1, 3)), sizes=("h", "w", "n")
    ),
    "half a channel": lambda: matching.ragged_conv2d(
        X[0], HEIGHTS, WIDTHS, W, kernel=5, sizes=("r", "p")
    ),
    "no stride": lambda: matching.ragged_conv2d(
        X[0], HEIGHTS, WIDTHS, W, kernel=2, stride=0, sizes=("r", "p")
    ),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(NoriaError):
        call()
