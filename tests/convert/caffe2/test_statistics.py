"""Histograms and percentiles in Caffe2."""

from typing import Any

import numpy as np
import pytest


def test_numbers_are_counted_between_edges(run: Any) -> None:
    x = np.array([[0.0, 0.5], [1.0, 2.0]], np.float32)
    assert run("Histogram", x, x[0], bin_edges=[0.0, 1.0, 2.0]).tolist() == [4, 1]


def test_percentiles_are_interpolated(run: Any) -> None:
    x = np.array([[3, 5, 3], [5, 1, 6], [4, 0, 2]], np.float32)
    pairs = np.array([[3, 0.2], [5, 0.5], [1, 0.3], [3, 0.6]], np.float32)
    out = run("Percentile", x, pairs, np.array([2, 1, 1], np.int32))
    assert np.allclose(out, [[0.2, 1, 0.6], [0.5, 0.3, 1], [0.35, 0, 0]])


def test_bins_reach_from_the_smallest_to_the_largest(run: Any) -> None:
    a, b = np.array([1.0, 2.0, 5.0], np.float32), np.array([[9.0, 3.2]], np.float32)
    edges, counts = run("SelfBinningHistogram", a, b, num_bins=4, outputs=2)
    assert np.allclose(edges, np.linspace(1, 9.0008, 5), atol=1e-4)
    assert counts.tolist() == [2, 1, 1, 1, 0] or counts.sum() == 5
    want = np.histogram(np.concatenate([a, b[0]]), edges)[0]
    assert counts.tolist() == [*want, 0]
    edges, counts = run(
        "SelfBinningHistogram",
        a,
        num_bins=2,
        bin_spacing="logarithmic",
        logspace_start=1.5,
        outputs=2,
    )
    assert np.allclose(edges, np.geomspace(1.5, 1.5 + 3.5 * 1.0001, 3), rtol=1e-5)
    assert counts.tolist() == [2, 1, 0]


def test_one_number_alone_is_in_the_first_bin(run: Any) -> None:
    edges, counts = run("SelfBinningHistogram", np.full(3, 2, np.float32), num_bins=2, outputs=2)
    assert edges.tolist() == [2, 2, 2] and counts.tolist() == [3, 0, 0]


def test_percentiles_lie_between_the_ends_of_their_neighbours(run: Any) -> None:
    x = np.array([[0.0, 2.0], [1.0, 3.5], [1.5, 9.0]], np.float32)
    args = {
        "percentile_raw": [1.0, 2.0, 2.0, 4.0],
        "percentile_mapping": [0.1, 0.9, 0.3, 0.8],
        "percentile_lower": [0.05, 0.8, 0.2, 0.7],
        "percentile_upper": [0.2, 1.0, 0.4, 0.9],
        "lengths": [2, 2],
    }
    out = run("BisectPercentile", x, **args)
    assert np.allclose(out, [[0, 0.3], [0.1, 0.25 * 0.4 + 0.75 * 0.7], [0.5, 1]])


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.5, 0.9, 1.0])
def test_a_quantile_has_its_share_of_numbers_below(run: Any, share: float) -> None:
    x, y = np.random.default_rng(2).normal(size=(2, 40)).astype(np.float32)
    for sizes in (0, 1):
        found = run("Quantile", x.reshape(5, 8), y, quantile=share, abs=sizes, tol=1e-5)
        each = np.sort(np.abs(np.concatenate([x, y])) if sizes else np.concatenate([x, y]))
        k = int(np.ceil(80 * np.float32(share)))
        assert found.shape == (1,) and (each <= found).sum() in (k, max(k, 1))
        if k in (0, 80):
            assert found[0] == each[0 if k == 0 else -1]


def test_equal_numbers_have_themselves_as_quantile(run: Any) -> None:
    x = np.array([2, 2, 2, 2, 5], np.float32)
    assert run("Quantile", x, quantile=0.5)[0] == 2
    assert np.isclose(run("Quantile", np.flip(x).copy(), quantile=0.9)[0], 5)
