"""The kernel beside the reference: rows of all lengths, scores far apart, moves that cannot be."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ops.crf import crf_sequence_loss
from noria.testing.kernel import check_kernel


def batch(lengths, tags, scale=1.0, dtype=np.int64):
    rng = np.random.default_rng(0)
    emission, transition = (
        scale * rng.standard_normal(s) for s in ((sum(lengths), tags), (tags + 2, tags))
    )
    labels = rng.integers(0, tags, sum(lengths)).astype(dtype)
    splits = np.cumsum([0, *lengths]).astype(dtype)
    return [emission.astype(np.float32), transition.astype(np.float32), labels, splits]


def check_both(inputs, tol=1e-4):
    check_kernel("crf_sequence_loss", inputs, kernel="numba:crf_loss", tol=tol)
    saved = crf_sequence_loss(*inputs)
    grads = np.linspace(-1, 2, len(inputs[3]) - 1).astype(np.float32)
    check_kernel(
        "crf_sequence_loss_grad", [*inputs, *saved, grads], kernel="numba:crf_loss", tol=tol
    )


@pytest.mark.parametrize("lengths", [[5, 0, 1, 12], [30], [0, 2, 0], [1] * 7], ids=str)
@pytest.mark.parametrize("tags", [2, 3, 57])
def test_the_loss_and_its_gradient(lengths, tags, fast_kernels):
    check_both(batch(lengths, tags))


def test_scores_far_apart(fast_kernels):
    check_both(batch([9, 4], 7, scale=60.0))


def test_moves_that_cannot_be_or_hardly(fast_kernels):
    inputs = batch([6, 9], 5)
    inputs[1][2:, :] = -300.0
    inputs[1][2, 1:] = -np.inf
    check_both(inputs)


def test_int32(fast_kernels):
    check_both(batch([4, 3], 5, dtype=np.int32))


@pytest.mark.parametrize("place", [2, 3])
def test_labels_and_splits_that_make_no_sense_are_refused(place, fast_kernels):
    inputs = batch([4, 3], 5)
    inputs[place] = inputs[place] - 9
    check_kernel("crf_sequence_loss", inputs, kernel="numba:crf_loss", raises=ArgumentError)
