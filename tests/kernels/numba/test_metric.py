"""Accuracy in native code equals the reference, ties and labels that are no class included."""

from __future__ import annotations

import numpy as np
import pytest

from noria.testing.case import arr
from noria.testing.kernel import check_kernel


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_accuracy_of_ties_and_odd_labels(k: int, dtype: str) -> None:
    scores = np.round(np.random.default_rng(k).standard_normal((37, 7))).astype(np.float32)
    labels = np.random.default_rng(0).integers(-1, 8, 37).astype(dtype)
    scores[3] = np.nan
    scores[4, int(labels[4]) % 7] = np.nan
    assert check_kernel("accuracy", [scores, labels], {"k": k}, kernel="numba:accuracy")


def test_accuracy_of_any_rank() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (2, 5))
    check_kernel("accuracy", [arr(2, 5, 3), labels], kernel="numba:accuracy", special=True)
    check_kernel("accuracy", [arr(3), np.array(1)], kernel="numba:accuracy")
