"""Run a kernel on NumPy arrays, as they lie, without a planner around it."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import numpy as np

import noria.ops
from noria.core.dtypes import as_dtype, to_numpy
from noria.ir.opdef import lookup
from noria.ir.program import Operator, Value
from noria.kernels.call import run
from noria.kernels.numba import generate, parallel
from noria.kernels.registry import Array, BoundOp, strides_of

assert noria.ops  # every op is defined by now


@contextmanager
def team(size, split=True):
    """Every kernel bound inside runs on a team of that size, however little there is to do.

    split: reductions share elements among threads, not results, wherever that is possible
    """
    with (
        parallel.team(size),
        mock.patch.object(parallel, "SERIAL_BELOW", -1),
        mock.patch.object(generate, "WORTH_SPLITTING", 0 if split else 1 << 60),
    ):
        yield


def operand(array):
    """The Array of a NumPy array."""
    return Array(
        array.shape, as_dtype(array.dtype), tuple(s // array.itemsize for s in array.strides)
    )


def operator(name, inputs, shapes=None, **attrs):
    """An operator on inputs like these arrays, declared with `shapes` if they are given."""
    definition = lookup(name)
    full = definition.bind_attrs(attrs)
    shapes = [a.shape for a in inputs] if shapes is None else shapes
    values = [
        Value(f"x{i}", s, a.dtype) for i, (s, a) in enumerate(zip(shapes, inputs, strict=True))
    ]
    specs = definition.infer(values, full)
    outs = [Value(f"out{i}", s.shape, s.dtype) for i, s in enumerate(specs)]
    return Operator(name, tuple(values), tuple(outs), full)


def empty(shape, dtype, layout="plain"):
    """Memory full of garbage, with guards around it that `intact` looks at."""
    dtype = to_numpy(as_dtype(dtype))
    room = np.full(int(np.prod(shape)) * dtype.itemsize + 128, 0x7F, np.uint8)
    strides = [s * dtype.itemsize for s in strides_of(shape, layout)]
    return np.ndarray(shape, dtype, room, 64, strides)


def intact(array):
    """Is what lies around memory of `empty` untouched?"""
    room = array.base
    return (room[:64] == 0x7F).all() and (room[64 + array.nbytes :] == 0x7F).all()


def bind(kernel, op, inputs, outputs, threads=1, attrs=None):
    """The prepared kernel."""
    kernel.accepts(op)
    arrays = [operand(a) for a in inputs]
    results = [operand(a) for a in outputs]
    return kernel.bind(
        BoundOp(op, attrs or op.attrs, arrays, results, threads, [False] * len(inputs))
    )


def execute(prepared, inputs, outputs):
    """Run all rows of a prepared kernel."""
    scratch = np.full(prepared.scratch + 64, 0x7F, np.uint8)
    address = -(-scratch.ctypes.data // 64) * 64
    addresses = [[a.ctypes.data for a in group] for group in (inputs, outputs)]
    for call in prepared.emit(*addresses, [], address):
        run(call)


def execute_calls(emit, source, target):
    """Run what `move.copy_kernel` and its like give for two arrays."""
    for call in emit(source.ctypes.data, target.ctypes.data):
        run(call)


def compute(kernel, op, inputs, *, outputs=None, threads=1, layout="plain"):
    """The outputs of an operator by a kernel."""
    fresh = outputs is None
    if fresh:
        shapes = [s.shape for s in reference(op, inputs)]
        outputs = [empty(s, v.dtype, layout) for s, v in zip(shapes, op.outputs, strict=True)]
    execute(bind(kernel, op, inputs, outputs, threads), inputs, outputs)
    if fresh:
        assert all(intact(a) for a in outputs)
    return outputs


def reference(op, inputs):
    """The outputs of an operator by its own computation."""
    with np.errstate(all="ignore"):
        outs = lookup(op.type).run(np, list(inputs), op.attrs)
    pairs = zip(outs, op.outputs, strict=True)
    return [np.asarray(o).astype(to_numpy(v.dtype)) for o, v in pairs]


def same_bits(got, want):
    """Equal, where every NaN is as good as another and zeros have their signs."""
    if as_dtype(want.dtype) in (
        "bool",
        *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32, 64)),
    ):
        return (got == want).all()
    a, b = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        equal = (a == b) & (np.signbit(a) == np.signbit(b))
    return (equal | (np.isnan(a) & np.isnan(b))).all()


def last(array):
    """The same [N, C, ...] array with channels last in memory."""
    return (
        np.ascontiguousarray(np.moveaxis(array, 1, -1))
        .swapaxes(0, 0)
        .transpose(0, array.ndim - 1, *range(1, array.ndim - 1))
    )
