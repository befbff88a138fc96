"""The kernel beside the reference: rows of all lengths, tags that fill no vector."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.testing.kernel import check_kernel


def batch(lengths, tags, seed=0, dtype=np.int64):
    rng = np.random.default_rng(seed)
    emission, transition = (
        rng.standard_normal(s) for s in ((sum(lengths), tags), (tags + 2, tags))
    )
    splits = np.cumsum([0, *lengths]).astype(dtype)
    return [emission.astype(np.float32), transition.astype(np.float32), splits]


@pytest.mark.parametrize("lengths", [[5, 0, 1, 12], [30], [0, 2, 0], [1] * 7], ids=str)
@pytest.mark.parametrize("tags", [1, 3, 57])
def test_the_best_path(lengths, tags, fast_kernels):
    check_kernel("crf_decode", batch(lengths, tags), kernel="numba:crf_decode", same_bits=True)


def test_equal_paths_and_int32_splits(fast_kernels):
    emission, transition, splits = batch([4, 3], 5, dtype=np.int32)
    inputs = [np.round(emission), np.zeros_like(transition), splits]
    check_kernel("crf_decode", inputs, kernel="numba:crf_decode", same_bits=True)


def test_moves_that_cannot_be(fast_kernels):
    emission, transition, splits = batch([6, 2], 4)
    transition[2:, ::2] = -np.inf
    check_kernel("crf_decode", [emission, transition, splits], kernel="numba:crf_decode")


def test_splits_of_other_steps_are_refused(fast_kernels):
    emission, transition, splits = batch([4, 3], 5)
    inputs = [emission, transition, splits - 1]
    check_kernel("crf_decode", inputs, kernel="numba:crf_decode", raises=ArgumentError)
