"""Large feeds are copied by the team, whatever their strides, and small ones as before."""

import numpy as np
import pytest

from noria import ops, spec, trace
from noria.runtime.fill import LEAST, Fill, fill_for
from noria.runtime.predictor import Predictor


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000, 12_345])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_all_is_copied_and_nothing_beside_it(threads, count, dtype):
    memory = np.zeros(count + 2, dtype)
    source = np.arange(count).astype(dtype)
    Fill(memory[1:-1], threads)(source)
    assert (memory[1:-1] == source).all() and memory[0] == memory[-1] == 0


def test_arrays_in_another_order_are_copied_element_by_element():
    view = np.zeros((300, 500), np.float32)
    fill = fill_for(view, 2)
    assert fill is not None
    source = np.asfortranarray(np.random.default_rng(0).random((300, 500), np.float32))
    fill(source)
    assert (view == source).all()
    fill(source[::-1])
    assert (view == source[::-1]).all()


def test_small_feeds_and_single_threads_are_left_to_numpy():
    view = np.zeros(LEAST, np.uint8)
    assert fill_for(view, 2) is not None
    assert fill_for(view, 1) is None and fill_for(view[:-1], 2) is None
    assert fill_for(np.zeros(2 * LEAST, np.uint8)[::2], 2) is None


def test_a_predictor_sees_each_array_of_a_large_feed():
    program = trace(lambda x, y: {"z": ops.add(x, y)}, x=spec("N", 70_000), y=spec(70_000))
    predictor = Predictor(program, {}, threads=2)
    y = np.full(70_000, 0.5, np.float32)
    rng = np.random.default_rng(1)
    for x in (rng.random((2, 70_000), np.float32) for _ in range(3)):
        np.testing.assert_array_equal(predictor(x=x, y=y), x + y)
        np.testing.assert_array_equal(predictor(x=x[::-1], y=y), x[::-1] + y)
