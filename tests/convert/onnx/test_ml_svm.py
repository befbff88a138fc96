"""Support vector machines against onnxruntime."""

from typing import Any

import numpy as np
import pytest

from noria.core.errors import FormatError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("f4")
KERNELS = {
    "LINEAR": [0.0, 0.0, 0.0],
    "POLY": [0.5, 0.3, 2.0],
    "RBF": [0.4, 0.0, 0.0],
    "SIGMOID": [0.3, 0.1, 0.0],
}


def floats(count: int) -> list[float]:
    return RNG.normal(size=count).tolist()


@pytest.mark.parametrize("kernel", KERNELS)
def test_regression(same_as_onnxruntime: Any, kernel: str) -> None:
    how = {"kernel_type": kernel, "kernel_params": KERNELS[kernel], "n_supports": 3}
    how |= {"support_vectors": floats(12), "coefficients": floats(3), "rho": [0.2]}
    same_as_onnxruntime("SVMRegressor", X, **how)


@pytest.mark.parametrize("counts", [(2, 2), (2, 1, 2)], ids=str)
@pytest.mark.parametrize(
    ("kernel", "probabilities"), [*((name, False) for name in KERNELS), ("RBF", True)]
)
def test_classes(
    same_as_onnxruntime: Any,
    kernel: str,
    counts: tuple[int, ...],
    probabilities: bool,
) -> None:
    classes, vectors = len(counts), sum(counts)
    pairs = classes * (classes - 1) // 2
    how = {"kernel_type": kernel, "kernel_params": KERNELS[kernel], "vectors_per_class": counts}
    how |= {"support_vectors": floats(4 * vectors), "coefficients": floats((classes - 1) * vectors)}
    how |= {"rho": floats(pairs), "classlabels_ints": [4, 5, 6][:classes]}
    if probabilities:
        how |= {"prob_a": (-abs(np.array(floats(pairs)))).tolist(), "prob_b": floats(pairs)}
    same_as_onnxruntime("SVMClassifier", X, (7, 1), **how)


def test_a_kernel_that_does_not_exist_is_told(converted: Any) -> None:

    how = {"n_supports": 1, "support_vectors": floats(4), "coefficients": [1.0]}
    with pytest.raises(FormatError, match="kernel"):
        converted("SVMRegressor", X, {"kernel_type": "BENT", **how}, (1,))
