"""Zeroed aligned memory, views that stay inside and alive."""

import ctypes
import gc
import mmap

import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError
from noria.runtime.arena import ALIGNMENT, Arena, give_back


@pytest.mark.parametrize("nbytes", [0, 1, 63, 4096, 100_000, (2 << 20) - 1, 2 << 20, 5_000_001])
def test_memory_is_zeroed_and_aligned(nbytes):
    arena = Arena(nbytes)
    whole = arena.view(0, (nbytes,), "uint8")
    assert arena.nbytes == nbytes and whole.nbytes == nbytes and not whole.any()
    assert arena.address % ALIGNMENT == 0
    if nbytes >= 2 << 20:
        assert arena.address % (2 << 20) == 0
    whole[:] = 255
    assert whole.min(initial=255) == 255


def test_views_lie_where_they_were_placed_and_share_memory():
    arena = Arena(4096)
    x = arena.view(128, (4, 8), "float32")
    assert x.ctypes.data == arena.address + 128 and x.flags.c_contiguous and x.flags.writeable
    x[:] = np.arange(32).reshape(4, 8)
    transposed = arena.view(128, (8, 4), np.float32, strides=(4, 32))
    np.testing.assert_array_equal(transposed, x.T)
    assert arena.view(128, (), "float32") == 0


def test_every_dtype_has_views():
    arena = Arena(64)
    assert arena.view(0, (4,), "bfloat16").dtype == ml_dtypes.bfloat16
    assert arena.view(0, (4,), "bool").dtype == np.bool_


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (1025,), None),
        (4093, (1,), None),
        (-4, (1,), None),
        (0, (3,), (2048,)),
        (5000, (), None),
    ],
)
def test_a_view_that_leaves_the_arena_is_refused(offset, shape, strides):
    with pytest.raises(ArgumentError, match="must lie inside"):
        Arena(4096).view(offset, shape, "float32", strides)


def test_a_view_outlives_its_arena():
    arena = Arena(3 << 20)
    view = arena.view(1 << 20, (1000,), "float64")
    view[:] = 3
    del arena
    gc.collect()
    assert view.sum() == 3000


def test_memory_goes_back_when_the_last_user_is_gone():
    arena = Arena(3 << 20)
    address, view = arena.address, arena.view(0, (10,), "float32")
    del arena
    gc.collect()
    assert _mapped(address)
    del view
    gc.collect()
    assert not _mapped(address)
    assert _resident_growth_of(lambda: Arena(64 << 20).view(0, (64 << 20,), "uint8").fill(1)) < 20e6


def _mapped(address):
    with open("/proc/self/maps") as file:
        ranges = [line.split()[0].split("-") for line in file]
    return any(int(start, 16) <= address < int(end, 16) for start, end in ranges)


def _resident_growth_of(work):
    before = _resident()
    for _ in range(4):
        work()
    return _resident() - before


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_untouched_memory_is_not_taken():
    before = _resident()
    arena = Arena(1 << 30)
    assert arena.nbytes == 1 << 30 and _resident() - before < 50e6


@pytest.mark.parametrize("nbytes", [1 << 60, 1 << 70])
def test_more_than_there_is_is_an_engine_error(nbytes):
    with pytest.raises(EngineError, match="no memory for the arena"):
        Arena(nbytes)


def test_a_negative_size_is_refused():
    with pytest.raises(ArgumentError):
        Arena(-1)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
def test_freed_memory_is_given_back():
    """Small arrays, of which the C library makes no mappings of their own."""

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE

    arrays = [np.ones(8000, np.uint8) for _ in range(8000)]
    keep = arrays[::100]  # so that the heap cannot simply become shorter
    full = resident()
    del arrays
    give_back()
    assert resident() < full - (40 << 20)
    assert all(a.all() for a in keep)
