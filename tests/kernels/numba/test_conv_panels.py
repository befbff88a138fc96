"""Weights in panels: where each number goes, and that every tap of a row is found there."""

import numpy as np
import pytest

from noria.core.dtypes import to_numpy
from noria.kernels.call import run
from noria.kernels.numba.conv_panels import Panel
from noria.kernels.numba.conv_sizes import PIXELS, shape
from noria.kernels.registry import PLAIN, Array, strides_of


def packed(weight, width, planes=1):
    """The panel, and the copy as float32 [panel, bytes of a panel / size]."""
    dtype = {2: "bfloat16", 4: "float32"}[weight.itemsize]
    panel = Panel.of(Array(weight.shape, dtype, strides_of(weight.shape, PLAIN)), width, planes)
    pack = panel.pack(Array(weight.shape, dtype, strides_of(weight.shape, PLAIN)), 2)
    memory = np.full(pack.nbytes, 0xFF, np.uint8)
    for call in pack.emit(weight.ctypes.data, memory.ctypes.data):
        run(call)
    count = -(-weight.shape[0] // width)
    return panel, memory[: count * panel.nbytes].view(weight.dtype).reshape(count, -1)


def numbers(dtype, *shape):
    return np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(to_numpy(dtype))


@pytest.mark.parametrize("outs", [16, 21, 32, 50])
@pytest.mark.parametrize("planes", [1, 3])
def test_float32_lies_number_by_number(outs, planes):
    weight = numbers("float32", outs, 3, 2, 5)
    panel, got = packed(weight, 16, planes)
    assert panel.nbytes == 4 * 16 * 3 * 2 * 5
    order = weight.transpose(2, 3, 1, 0) if planes == 1 else weight.transpose(1, 2, 3, 0)
    lines = order.reshape(-1, outs)
    want = np.zeros((len(lines), -(-outs // 16) * 16), np.float32)
    want[:, :outs] = lines
    np.testing.assert_array_equal(
        got.reshape(-1, len(lines), 16).swapaxes(0, 1).reshape(want.shape), want
    )


@pytest.mark.parametrize("outs", [16, 21, 32, 50])
@pytest.mark.parametrize("ins", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("taps", [(1, 1), (2, 3), (3, 4)])
def test_bfloat16_lies_in_pairs_from_every_tap_on(outs, ins, taps):
    weight = numbers("bfloat16", outs, ins, *taps)
    panel, got = packed(weight, 16)
    rows, columns = taps
    for out in range(outs):
        mine, lane = got[out // 16], out % 16
        for row in range(rows):
            run = weight[out, :, row].T.reshape(-1)
            for tap in range(columns):
                at = (panel.tap(tap) + row * panel.row_bytes) // 2
                left = run[tap * ins :]
                for pair in range(len(left) // 2):
                    here = mine[at + pair * 32 + 2 * lane :][:2]
                    np.testing.assert_array_equal(here, left[2 * pair : 2 * pair + 2])
                if len(left) % 2:
                    assert mine[at + len(left) // 2 * 32 + 2 * lane] == left[-1]


@pytest.mark.skipif(4 not in PIXELS, reason="there are no such tiles")
def test_full_panels_of_bfloat16_are_the_same_for_every_batch_and_team():
    every = [(pixels, threads) for pixels in (1, 49, 784, 50176) for threads in (1, 2, 3)]
    assert {shape(p, 1024, t, True)[0] for p, t in every} == {4}
    assert len({shape(p, 1024, t)[0] for p, t in every}) > 1


def test_what_fills_up_a_panel_is_0():
    panel, got = packed(numbers("bfloat16", 20, 3, 2, 3), 16)
    assert panel.versions == 2
    lanes = got[1].reshape(-1, 16, 2)
    assert (lanes[:, 4:] == 0).all()
    assert np.isfinite(got.astype(np.float32)).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("outs", "width"), [(32, 32), (48, 32), (64, 64)])
def test_the_quicker_kernel_makes_the_same_panels(outs, width, dtype, monkeypatch):
    weight = numbers(dtype, outs, 4, 3, 3)
    panel, got = packed(weight, width)
    assert panel.turned(Array(weight.shape, dtype, strides_of(weight.shape, PLAIN))) is not None
    monkeypatch.setattr(Panel, "turned", lambda *_: None)
    np.testing.assert_array_equal(got, packed(weight, width)[1])
