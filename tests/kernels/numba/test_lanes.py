"""Loops, choices and activations of tiles, as kernels see them."""

import numpy as np
import pytest
from llvmlite import ir
from numba.core import types

from noria.kernels.numba import intrinsics, jit, lanes, lower
from noria.kernels.numba.lane_bounds import BOUNDS, bits
from noria.kernels.numba.tile_sizes import WIDTH


def run(monkeypatch, name, emit, *numbers):
    """Calls a tile made for the test, with the int64 numbers given."""
    tile = intrinsics.fixed(name, types.void, [types.int64] * len(numbers), emit)
    monkeypatch.setitem(lower.NAMESPACE, name, tile)
    typing, target, _ = lower._contexts()
    typing.__dict__.pop("_registry", None)  # what is known by now does not include the tile
    typing.refresh()
    target.refresh()
    args = ", ".join(f"load_int64(args, {i})" for i in range(len(numbers)))
    kernel = jit.compile_source(f"def one(args):\n    {name}({args})\n    return 0\n", "one")
    table = np.array(numbers, np.int64)
    assert kernel(table.ctypes.data) == 0


def vector(values):
    out = np.zeros(WIDTH, np.float32)
    out[: len(values)] = values
    return out


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_loop_carries_sums_and_moves_places(turns, monkeypatch):
    source = np.arange(5 * WIDTH, dtype=np.float32).reshape(5, WIDTH)
    target = np.full(WIDTH, np.nan, np.float32)

    def emit(b, args):
        x, out, count = args
        places = [(x, lanes.constant(4 * WIDTH))]
        line = lanes.Lanes(b, 1)
        one = ir.Constant(lanes.LANES, [1.0] * WIDTH)

        def body(at, sums):
            return [lanes.fma(b, line.load(at[0])[0], one, sums[0])]

        line.store(lanes.loop(b, count, places, lanes.zeros(1), body), out)

    run(monkeypatch, f"summed_{turns}", emit, source.ctypes.data, target.ctypes.data, turns)
    np.testing.assert_array_equal(target, source[:turns].sum(0))


@pytest.mark.parametrize("chosen", [0, 1])
def test_a_choice_runs_one_way(chosen, monkeypatch):
    source, target = vector([1, 2, 3]), np.full(WIDTH, np.nan, np.float32)

    def emit(b, args):
        x, out, yes = args
        line = lanes.Lanes(b, 1)
        condition = b.icmp_signed("!=", yes, lanes.constant(0))
        found = lanes.choice(b, condition, lanes.zeros(1), lambda: line.load(x))
        line.store(found, out)

    run(monkeypatch, f"chosen_{chosen}", emit, source.ctypes.data, target.ctypes.data, chosen)
    np.testing.assert_array_equal(target, source * chosen)


@pytest.mark.parametrize("act", BOUNDS)
def test_bounds_keep_nan_and_the_sign_of_zero(act, monkeypatch):
    source = vector([np.nan, np.inf, -np.inf, -1, 3, 7, -0.0, 1e-45])
    target, table = np.zeros(WIDTH, np.float32), np.array([bits(n) for n in BOUNDS[act]], np.int64)

    def emit(b, args):
        line = lanes.Lanes(b, 1)
        limits = lanes.bounds(b, args[2], (0, 1))
        line.store(lanes.bounded(b, *limits, line.load(args[0])), args[1])

    addresses = [a.ctypes.data for a in (source, target, table)]
    run(monkeypatch, f"bounded_{act}", emit, *addresses)
    np.testing.assert_array_equal(target, np.clip(source, *map(np.float32, BOUNDS[act])))
    assert np.signbit(target[6])


def test_masked_lanes_touch_nothing_beyond(monkeypatch):
    source, target = np.full(WIDTH, 3, np.float32), np.full(WIDTH, 9, np.float32)

    def emit(b, args):
        line = lanes.Lanes(b, 1, args[2])
        line.store(line.load(args[0]), args[1])

    run(monkeypatch, "masked", emit, source.ctypes.data, target.ctypes.data, 5)
    np.testing.assert_array_equal(target, [3] * 5 + [9] * (WIDTH - 5))
