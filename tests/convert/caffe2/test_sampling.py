"""Random choices of Caffe2."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import NoriaError


def test_columns_are_chosen_by_their_weight(run: Any) -> None:
    weights = np.tile(np.array([1.0, 0.0, 3.0], np.float32), (4000, 1))
    values = np.arange(12000, dtype=np.float32).reshape(4000, 3)
    places, chosen = run("WeightedSample", weights, values, outputs=2)
    assert places.dtype == np.int32 and places.shape == (4000, 1)
    counts = np.bincount(places[:, 0], minlength=3) / 4000
    assert counts[1] == 0 and abs(counts[0] - 0.25) < 0.04
    assert np.array_equal(chosen, np.take_along_axis(values, places.astype(int), 1))


def test_many_are_drawn_from_cumulated_weights(run: Any) -> None:
    cdf = np.array([0.2, 0.2, 1.0, 2.0], np.float32)
    drawn = run("WeightedMultiSampling", cdf, num_samples=5000)
    counts = np.bincount(drawn, minlength=4) / 5000
    assert counts[1] == 0 and np.allclose(counts, [0.1, 0, 0.4, 0.5], atol=0.04)
    assert run("WeightedMultiSampling", cdf, np.zeros((2, 3), np.float32)).shape == (2, 3)
    with pytest.raises(NoriaError, match="num_samples"):
        run("WeightedMultiSampling", cdf)
