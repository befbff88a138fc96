import numpy as np
import pytest

from noria.kernels.call import run
from noria.kernels.numba.launch import launch
from noria.kernels.numba.tap_lines import TURN_TAPS, line_bytes, space_bytes, square_bytes
from noria.kernels.numba.tile_sizes import WIDTH

TEXT = """
def turn(args):
    rows = load_int64(args, 0)
    turned = load_int64(args, 1)
    line = load_int64(args, 2)
    taps = load_int64(args, 3)
BODY
    return 0
""".replace("BODY", "\n".join("    " + line for line in TURN_TAPS.strip().splitlines()))


@pytest.mark.parametrize("taps", [1, 2, 9, WIDTH, WIDTH + 1, 49])
def test_all_taps_of_an_input_lie_together_and_nothing_else_is_touched(taps):
    memory = np.full(space_bytes(taps) // 4 + 1, np.nan, np.float32)
    values = np.random.default_rng(0).random((taps, WIDTH), np.float32)
    memory[: values.size] = values.ravel()
    at = memory.ctypes.data
    places = [at, at + square_bytes(taps), at + 2 * square_bytes(taps)]
    run(launch("turn", TEXT, "turn", [*places, taps], threads=1))
    line = memory[(places[2] - at) // 4 :][: WIDTH * taps]
    assert line.tobytes() == values.T.tobytes()
    assert np.isnan(memory[-1]) and memory[: values.size].tobytes() == values.tobytes()
    assert space_bytes(taps) == 2 * square_bytes(taps) + line_bytes(taps)
