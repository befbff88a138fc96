"""Run a oneDNN primitive on NumPy arrays, whatever layouts it chose."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from noria.core.dtypes import as_dtype
from noria.kernels.call import run
from noria.kernels.numba.tile_sizes import WIDE
from noria.kernels.onednn import lib
from noria.kernels.onednn.build_reorder import reorder
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc


@pytest.fixture(autouse=True)
def needs_onednn():
    usable, reason = lib.available()
    if not usable:
        pytest.skip(reason)


@pytest.fixture
def halves():
    """For tests of what oneDNN computes with vectors of 64 bytes only."""
    if not WIDE:
        pytest.skip("oneDNN has no products of bfloat16 on this CPU")


def desc_of(array):
    """The descriptor of a NumPy array where it lies, views included."""
    strides = [s // array.itemsize for s in array.strides]
    return MemDesc(array.shape, as_dtype(array.dtype), strides)


def aligned(nbytes):
    """Garbage, so that a kernel that reads what it should write is found out."""
    raw = np.full(nbytes + 64, 0x7F, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + nbytes]


def copy(src, src_desc, dst, dst_desc):
    primitive = reorder(src_desc, dst_desc)
    scratch = aligned(primitive.scratch_bytes)
    addresses = {ARG.SRC: src.ctypes.data, ARG.DST: dst.ctypes.data}
    if primitive.scratch_bytes:
        addresses[ARG.SCRATCHPAD] = scratch.ctypes.data
    run(primitive.call(addresses))


def execute(primitive, arrays, raw=None):
    """Run on `arrays` (argument -> array, outputs included and written in place).

    Arguments laid out otherwise than their array are reordered there and back. `raw` are buffers
    passed as they are; arguments in neither get a buffer. Returns all buffers by argument.
    """
    buffers, addresses = dict(raw or {}), {}
    for arg, desc in primitive.descs.items():
        if arg in arrays and desc == desc_of(arrays[arg]):
            addresses[arg] = arrays[arg].ctypes.data
            continue
        if arg not in buffers:
            buffers[arg] = aligned(desc.nbytes)
        if arg in arrays:
            copy(arrays[arg], desc_of(arrays[arg]), buffers[arg], desc)
        addresses[arg] = buffers[arg].ctypes.data
    run(primitive.call(addresses))
    for arg, array in arrays.items():
        if arg in buffers:
            copy(buffers[arg], primitive.descs[arg], array, desc_of(array))
    return buffers


def lay(array, order=None, gap=0):
    """The same values in memory ordered by `order` (outermost dim first), rows `gap` longer."""
    order = tuple(order or range(array.ndim))
    shape = [array.shape[i] for i in order]
    room = np.full([*shape[:-1], shape[-1] + gap], 99, array.dtype)
    view = room[..., : shape[-1]].transpose(np.argsort(order))
    view[...] = array
    return view


def last(array):
    """[N, C, spatial...] laid out channels-last."""
    return lay(array, (0, *range(2, array.ndim), 1))


@pytest.fixture
def arrays():
    return SimpleNamespace(desc=desc_of, execute=execute, lay=lay, last=last)
