import numpy as np
import pytest

import noria
from noria.core.dims import evaluate, symbol
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.kernels.registry import choose, enabled_engines
from noria.testing.kernel import check_kernel

N = symbol("N")
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


NUMBERS = [(0, N, 1), (3, 3 + 5 * N, 7), (N, -60, -3), (2 - N, 9, 4)]


@pytest.mark.parametrize(("start", "stop", "step"), NUMBERS)
def test_whole_numbers(start, stop, step, fast_kernels):
    def numbers(x):
        return x + o.reduce_sum(o.arange(start=start, stop=stop, step=step))

    executor = noria.Executor(noria.trace(numbers, x=noria.spec("N", dtype="int64")))
    for n in (1, 2, 1000, 90000, 3):
        x = np.zeros(n, np.int64)
        assert "numba:arange" in {k.name for k in executor.bound({"x": x}).kernels.values()}
        (got,) = executor.run({"x": x}).values()
        a, b = (evaluate(s, {"N": n}) for s in (start, stop))
        np.testing.assert_array_equal(got, np.full(n, np.arange(a, b, step).sum()))


@pytest.mark.parametrize("attrs", [{"stop": 4, "dtype": "int32"}, {"start": 0.5, "stop": 4.0}])
def test_other_numbers_are_left_to_the_reference(attrs, fast_kernels):
    program = noria.trace(lambda: o.arange(**attrs))
    assert choose(program.operators[0], enabled_engines()).kernel is None
