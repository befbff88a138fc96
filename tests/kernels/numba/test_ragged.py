import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.testing.kernel import check_kernel

STARTS, LENGTHS = np.array([5, 2, 7, 0, 30]), np.array([2, 0, 3, 1, 40])
LIMITS = [STARTS - 1, STARTS + 41]


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize("step", [1, -3])
def test_rows_of_numbers(dtype, step, fast_kernels):
    inputs = [STARTS.astype(dtype), LENGTHS.astype(dtype)]
    attrs = {"size": 46, "step": step}
    check_kernel("ragged_range", inputs, attrs, kernel="numba:ragged_range", same_bits=True)


def test_rows_that_keep_to_their_limits(fast_kernels):
    inputs = [STARTS, LENGTHS, *LIMITS]
    check_kernel("ragged_range", inputs, {"size": 46}, kernel="numba:ragged_range")


WRONG = {
    "a negative length": ([STARTS, -LENGTHS], 46),
    "another size": ([STARTS, LENGTHS], 45),
    "below the start": ([STARTS, LENGTHS, STARTS + 1], 46),
    "beyond the end": ([STARTS, LENGTHS, STARTS, STARTS + 39], 46),
}


@pytest.mark.parametrize(("inputs", "size"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(inputs, size, fast_kernels):
    check_kernel(
        "ragged_range", inputs, {"size": size}, kernel="numba:ragged_range", raises=ArgumentError
    )
