"""Each transform is T D T^T, in any strides."""

import numpy as np
import pytest

from noria.kernels.numba.jit import compile_source
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.numba.winograd_matrix import STANDARD, transposed

TRANSFORMS = {
    "winograd_data": STANDARD.data,
    "winograd_kernel": STANDARD.kernel,
    "winograd_result": STANDARD.result,
    "winograd_grad": transposed(STANDARD.result),
    "winograd_taps": transposed(STANDARD.kernel),
}
SOURCE = """
def transform(args):
    NAME(load_int64(args, 0), load_int64(args, 1), load_int64(args, 2), load_int64(args, 3),
        load_int64(args, 4))
    return 0
"""


def test_the_result_may_go_past_the_caches():
    d = np.random.default_rng(0).standard_normal((3, 3, WIDTH)).astype(np.float32)
    memory = np.zeros((37, 64), np.float32)
    begin = -memory.ctypes.data % 256 // 4
    out = memory.reshape(-1)[begin : begin + 36 * 64].reshape(36, 64)
    table = np.array([d.ctypes.data, *d.strides[:2], out.ctypes.data, out.strides[0]], np.int64)
    source = SOURCE.replace("NAME", "winograd_kernel_past").replace("return", "fence()\n    return")
    assert compile_source(source, "transform")(table.ctypes.data) == 0
    matrix = np.array(STANDARD.kernel)
    want = np.einsum("ia,jb,abc->ijc", matrix, matrix, d).reshape(-1, WIDTH)
    np.testing.assert_allclose(out[:, :WIDTH], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform(name):
    matrix = np.array(TRANSFORMS[name])
    count, size = matrix.shape
    d = np.random.default_rng(0).standard_normal((size, size + 1, WIDTH)).astype(np.float32)
    out = np.full((count * count, WIDTH + 3), 7, np.float32)
    row, column = d.strides[:2]
    table = np.array([d.ctypes.data, row, column, out.ctypes.data, out.strides[0]], np.int64)
    assert compile_source(SOURCE.replace("NAME", name), "transform")(table.ctypes.data) == 0
    want = np.einsum("ia,jb,abc->ijc", matrix, matrix, d[:, :size]).reshape(-1, WIDTH)
    np.testing.assert_allclose(out[:, :WIDTH], want, rtol=1e-4, atol=1e-4)
    assert (out[:, WIDTH:] == 7).all()
