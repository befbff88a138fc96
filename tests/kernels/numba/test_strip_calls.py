import numpy as np
import pytest

from noria.kernels.call import run
from noria.kernels.numba import strip_calls
from noria.kernels.numba.launch import launch
from noria.kernels.numba.strip_calls import copied, together

pytestmark = pytest.mark.usefixtures("fast_kernels")

# Writes a value at a place and the turn at which that was.
_MARK = """
def mark(args):
    place = load_int64(args, 0)
    store_int64(place, 0, load_int64(args, 1))
    store_int64(place, 1, take(load_int64(args, 2), int64(1)))
    return 0
"""


class Strips:
    """Strips of threads, each of two calls that tell by whom they were made and when."""

    def __init__(self, sizes, ways):
        self.sizes, self.turn = sizes, np.zeros(1, np.int64)
        self.made = np.full((sum(sizes), 2, 2), -1, np.int64)  # strip, call, (way, turn)
        made = [[self.calls(n, way) for n in range(sum(sizes))] for way in range(ways)]
        self.rows = together("strips", made, sizes, 1 << 30, 1 << 30)

    def calls(self, strip, way):
        turn = self.turn.ctypes.data
        places = [self.made[strip, k].ctypes.data for k in (0, 1)]
        return [launch("mark", _MARK, "mark", [p, way, turn], threads=1) for p in places]

    def run(self):
        self.made[:], self.turn[:] = -1, 0
        for row in self.rows:
            run(row)
        assert self.turn[0] == self.made[:, :, 0].size  # nothing twice
        assert (self.made[:, 0, 0] == self.made[:, 1, 0]).all()
        assert (self.made[:, 0, 1] < self.made[:, 1, 1]).all()
        return self.made[:, 0, 0].tolist(), self.made[:, 0, 1].tolist()


def test_a_thread_makes_its_strips_in_order_at_each_run():
    strips = Strips([4], 1)
    for _ in range(2):
        assert strips.run() == ([0, 0, 0, 0], [0, 2, 4, 6])


@pytest.mark.parametrize("sizes", [[3, 3], [1, 5], [0, 2], [2, 1, 4]])
def test_every_strip_is_made_once_whoever_takes_it(sizes):
    strips = Strips(sizes, 1 + len(sizes))
    for _ in range(5):
        strips.run()


def test_who_comes_alone_takes_the_strips_of_others_from_their_last_one_on(monkeypatch):
    monkeypatch.setattr(strip_calls, "parallel", lambda call, **work: call)
    monkeypatch.setattr(strip_calls, "jit", Alone(strip_calls.jit))
    ways, turns = Strips([2, 3], 3).run()
    assert ways == [0, 0, 1, 1, 1]
    assert turns == [0, 2, 8, 6, 4]


class Alone:
    """The compiler, but of the threads whose lists a kernel goes through only the first comes."""

    def __init__(self, jit):
        self.jit = jit

    def compile_source(self, source, entry):
        return self.jit.compile_source(source.replace("threads, team_size()", "1, 1"), entry)


def test_without_other_ways_each_makes_its_own_alone(monkeypatch):
    monkeypatch.setattr(strip_calls, "parallel", lambda call, **work: call)
    assert Strips([2, 3], 1).run() == ([0] * 5, [0, 2, 4, 6, 8])


def test_rows_move_down_by_less_than_they_are_many():
    rows = np.arange(12, dtype=np.uint8).reshape(6, 2)
    run(copied("copy", rows.ctypes.data, rows[2:].ctypes.data, 2, 4))
    np.testing.assert_array_equal(rows[:4], np.arange(4, 12).reshape(4, 2))
