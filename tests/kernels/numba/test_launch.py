import numpy as np
import pytest

from noria.ir.program import Operator, Value
from noria.kernels.call import run
from noria.kernels.numba.launch import float_bits, launch, need
from noria.kernels.numba.parallel import always, team
from noria.kernels.registry import Declined

# Each thread says that it was there; the scale is a float64.
COUNT = """
def count(args):
    seen = load_int64(args, 0)
    scale = load_float64(args, 1)
    store_float64(seen, thread_id(), scale * float64(team_size()))
    return 0
"""


def seen_by(threads, **work):
    seen = np.zeros(4)
    call = launch(
        "count", COUNT, "count", [seen.ctypes.data, float_bits(0.5)], threads=threads, **work
    )
    run(call)
    return seen.tolist()


def test_a_row_runs_on_one_thread_unless_its_work_is_worth_a_team():
    with team(2):
        assert seen_by(2) == seen_by(2, bytes=1000, ops=1000) == [0.5, 0, 0, 0]
        assert seen_by(2, bytes=10**9) == seen_by(2, ops=10**9) == [1, 1, 0, 0]
        assert seen_by(1, bytes=10**9) == [0.5, 0, 0, 0]


def test_a_row_can_be_made_to_run_on_a_team_whatever_its_work():
    with team(3), always():
        assert seen_by(3) == [1.5, 1.5, 1.5, 0]
    with team(3):
        assert seen_by(3) == [0.5, 0, 0, 0]


def test_the_call_is_named_and_keeps_its_table():
    call = launch("some kernel", COUNT, "count", [1, 2, 3], threads=1)
    assert call.name == "some kernel" and call.args[1:] == (0, 0, 0)
    table = call.keep[0]
    assert table.typecode == "q" and table.tolist() == [1, 2, 3]
    assert call.args[0] == table.buffer_info()[0]


@pytest.mark.parametrize("x", [0.0, -0.0, 1.5, -3e300, np.inf, 5e-324])
def test_the_bits_of_a_float_in_a_table(x):
    assert np.array([float_bits(x)], np.int64).view(np.float64).tobytes() == np.float64(x).tobytes()


def test_need_looks_at_the_inputs_named_and_tells_the_first_that_does_not_fit():
    x, y = Value("x", (2,), "float32"), Value("y", (2,), "int32")
    op = Operator("f", (x, None, y), ())
    need(op, ("float32", "int32"))
    need(op, ("float32",), (0, 1))
    with pytest.raises(Declined, match="y is int32, not float32 or float64"):
        need(op, ("float32", "float64"))
    with pytest.raises(Declined, match="x is float32, not bool"):
        need(op, ("bool",), (0,))
