"""Copies between strided arrays."""

import numpy as np
import pytest

from noria.core.dtypes import ALL, to_numpy
from noria.kernels.numba.move import Part, copy_kernel, copy_part, fill_part
from noria.kernels.registry import LAST, PLAIN
from tests.kernels.numba.running import empty, execute_calls, intact, operand, team


def garbage(shape, dtype, seed=0):
    """Random bits: a copy must not look at numbers."""
    dtype = to_numpy(dtype)
    count = int(np.prod(shape)) * dtype.itemsize
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8).view(dtype).reshape(shape)


def check(x, layout=PLAIN, **how):
    out = empty(x.shape, x.dtype, layout)
    execute_calls(copy_kernel(operand(x), operand(out), **how), x, out)
    assert out.tobytes() == x.tobytes()
    assert intact(out)


@pytest.mark.parametrize("dtype", ALL)
def test_bits_are_copied_whatever_they_mean(dtype):
    check(garbage((5, 33), dtype))
    check(garbage((33, 70), dtype).T)


@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 5), (2, 64, 9, 9), (1, 17, 65, 3), (3, 1, 5, 5), (2, 100, 70)]
)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_between_plain_and_channels_last(shape, size):
    x = garbage(shape, "float32")
    with team(size):
        check(x, LAST)
        image = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        check(np.moveaxis(image, -1, 1), PLAIN)


@pytest.mark.parametrize("seed", range(30))
def test_random_views(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 5))
    base = garbage(rng.choice([1, 2, 5, 9, 20], rank), "int16", seed)
    steps = [slice(None, None, int(rng.choice([1, 2, -1, -3]))) for _ in range(rank)]
    view = base[tuple(steps)].transpose(rng.permutation(rank))
    with team(int(rng.integers(1, 4))):
        check(view)
    check(np.broadcast_to(view, (3, *view.shape)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_very_short_last_axis_that_gave_its_place_innermost(dtype):
    x = garbage((2, 10, 12, 16), dtype)
    check(x.transpose(3, 1, 2, 0))
    check(x.transpose(3, 2, 1, 0))


def test_scalars_and_nothing():
    check(garbage((), "float64"))
    emit = copy_part((3, 0), Part((0, 1)), Part((0, 1)), 4, 1)
    assert emit(1, 2) == []


def test_a_box_is_copied_into_a_box():
    x, out = garbage((6, 7), "int32"), empty((5, 9), "int32")
    out[...] = -1
    emit = copy_part((2, 3), Part((7, 1), 8), Part((9, 1), 20), 4, 1)
    execute_calls(emit, x, out)
    want = np.full((5, 9), -1, np.int32)
    want[2:4, 2:5] = x[1:3, 1:4]
    assert (out == want).all()


def test_a_box_is_filled_with_one_element():
    out = empty((4, 6), "bfloat16")
    out[...] = 0
    value = np.array(1.5, out.dtype)
    emit = fill_part((2, 6), value, Part((6, 1), 12), 1)
    execute_calls(lambda source, target: emit(target), value, out)
    assert out.astype(np.float32).tolist() == [[0] * 6] * 2 + [[1.5] * 6] * 2


def test_the_element_to_fill_with_lives_as_long_as_the_call():
    out = empty((100,), "int64")
    emit = fill_part((100,), np.array(7), Part((1,)), 1)
    calls = emit(out.ctypes.data)
    del emit
    execute_calls(lambda source, target: calls, out, out)
    assert (out == 7).all()
