import numpy as np
import pytest

import noria
from noria import ops
from noria.kernels.numba.planes import FEW
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:planes"
HALVES = {"dtype": "bfloat16"}
BATCH = {0: {0: "N"}}


@pytest.mark.parametrize("planes", range(2, FEW + 1))
@pytest.mark.parametrize("sizes", [(1, 1), (5, 7), (64, 64), (61, 83)])
def test_each_pixel_has_its_numbers_side_by_side(planes, sizes):
    x = arr(2, planes, *sizes)
    check_kernel("cast", [x], HALVES, kernel=NAME, symbolic=BATCH, special=True, tol=0.0)


def test_open_sizes_of_images():
    symbolic = {0: {0: "N", 2: "H", 3: "W"}}
    check_kernel("cast", [arr(2, 3, 6, 5)], HALVES, kernel=NAME, symbolic=symbolic, tol=0.0)


def test_denormals_and_what_lies_halfway_are_rounded_as_elsewhere():
    x = np.array([1e-40, -1e-40, 1 + 2**-8, 1 + 3 * 2**-8, 3.4e38, -0.0], np.float32)
    x = np.resize(x, (1, 3, 7, 6))
    check_kernel("cast", [x], HALVES, kernel=NAME, symbolic=BATCH, tol=0.0)


@pytest.mark.parametrize(
    ("x", "attrs"),
    [
        (arr(2, 5, 4, 4), HALVES),
        (arr(2, 1, 4, 4), HALVES),
        (arr(2, 3, 4), HALVES),
        (arr(2, 3, 4, 4), {"dtype": "float16"}),
    ],
)
def test_other_casts_are_left_to_loops(x, attrs):
    with pytest.raises(AssertionError, match="no kernel took"):
        check_kernel("cast", [x], attrs, kernel=NAME, symbolic=BATCH)


def test_so_are_weights():
    with pytest.raises(AssertionError, match="as of weights"):
        check_kernel("cast", [arr(8, 3, 3, 3)], HALVES, kernel=NAME)


def test_a_convolution_of_halves_takes_it_as_it_is(fast_kernels):
    program = noria.trace(
        lambda x, w: ops.conv2d(ops.cast(x, dtype="bfloat16"), ops.cast(w, dtype="bfloat16")),
        x=noria.spec("N", 3, 9, 9),
        w=noria.spec(16, 3, 3, 3),
    )
    steps = noria.Executor(program).plan().steps
    (cast,) = (s for s in steps if s.kernel is not None and s.kernel.name == NAME)
    users = [s.op.type for s in steps if cast.op.outputs[0] in s.op.operands]
    assert users == ["conv2d"]
