"""The kernel beside the reference: many sequences, sizes that fill no vector."""

import numpy as np
import pytest

from noria.ops.ctc import ctc_sequence_loss
from noria.testing.kernel import check_kernel


def batch(sequences, longest, classes, width, seed=0, dtype=np.int64):
    """Logits, and where the sequences lie in them (ragged)."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, sequences)
    starts = np.cumsum(lengths) - lengths
    counts = rng.integers(0, width + 1, sequences)
    labels = rng.integers(1, classes, (sequences, width))
    logits = 3 * rng.standard_normal((int(lengths.sum()) + 2, classes))
    rest = [x.astype(dtype) for x in (starts, lengths, labels, counts)]
    return [logits.astype(np.float32), *rest]


@pytest.mark.parametrize("sizes", [(1, 7, 3, 2), (5, 20, 17, 3), (8, 40, 97, 9), (4, 0, 3, 1)])
@pytest.mark.parametrize("special", [False, True])
def test_the_loss_and_its_gradient(sizes, special, fast_kernels):
    inputs = batch(*sizes)
    check_kernel("ctc_sequence_loss", inputs, kernel="numba:ctc", tol=1e-4)
    logits, *rest = inputs
    if special:
        logits[1 % len(logits)] = np.nan
        logits[3 % len(logits), 0] = -np.inf
        check_kernel("ctc_sequence_loss", [logits, *rest], kernel="numba:ctc", tol=1e-4)
    with np.errstate(all="ignore"):
        saved = ctc_sequence_loss(logits, *rest)
    grads = np.linspace(-1, 1, len(rest[0])).astype(np.float32)
    check_kernel(
        "ctc_sequence_loss_grad", [logits, *rest, *saved, grads], kernel="numba:ctc", tol=1e-4
    )


def test_int32_lengths(fast_kernels):
    check_kernel("ctc_sequence_loss", batch(4, 9, 5, 2, dtype=np.int32), kernel="numba:ctc")
