"""Channels padded to whole vectors and cut off again."""

from __future__ import annotations

import numpy as np
import pytest

from noria.kernels.call import run
from noria.kernels.numba.channels import resize_channels


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("rows", "read", "written"),
    [(1, 1, 16), (7, 20, 32), (5000, 20, 32), (5000, 32, 20), (3, 5, 5)],
)
def test_rows_are_filled_up_with_zeros_or_cut(
    rows: int, read: int, written: int, threads: int
) -> None:
    source = np.random.default_rng(0).standard_normal((rows, read), np.float32)
    target = np.full((rows + 1, written), np.nan, np.float32)
    run(resize_channels(source.ctypes.data, target.ctypes.data, rows, read, written, threads))
    both = min(read, written)
    np.testing.assert_array_equal(target[:rows, :both], source[:, :both])
    assert (target[:rows, both:] == 0).all()
    assert np.isnan(target[rows]).all()  # nothing beyond the last row
