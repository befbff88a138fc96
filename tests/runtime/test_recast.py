"""Programs of steps, run by compiled code, against Python's own integers."""

import random

import numpy as np
import pytest

from noria.kernels.call import Call
from noria.kernels.traced import Trace
from noria.runtime.recast import MOST, ROW, Program, Segments


def formula(seed):
    """A function of some numbers, as a kernel might have it: sums, products, and decisions."""
    draw = random.Random(seed)

    def compute(*sizes):
        draw.seed(seed)
        found = list(sizes)
        for _ in range(12):
            a, b, c = draw.choice(found), draw.choice(found), draw.randint(1, 9)
            found.append(
                draw.choice(
                    [
                        lambda a=a, b=b: a + b,
                        lambda a=a, c=c: a - c,
                        lambda a=a, c=c: a * c,
                        lambda a=a, c=c: -(-a // c),
                        lambda a=a, c=c: a % c,
                        lambda a=a, b=b: max(a, b),
                        lambda a=a, b=b, c=c: a if b * c > 40 else b,
                    ]
                )()
            )
        return found

    return compute


def program(compute, sizes, row=0):
    trace = Trace()
    with trace.running():
        at = trace.table(compute(*(trace.size(i, n) for i, n in enumerate(sizes))))
        return Program(trace, [(row, Call("step", 5, (at, sizes[0], 0, at + 8), None))])


def constant(row):
    return Call("constant", row, (1, 2, 3, 4), None)


@pytest.mark.parametrize("seed", range(30))
def test_numbers_of_other_sizes_are_those_that_python_computes(seed):
    compute, draw = formula(seed), random.Random(seed)
    segments = Segments([constant(9), constant(8)], 1)
    followed = 0
    for _ in range(40):
        sizes = [draw.randint(0, 30) for _ in range(3)]
        block, missing = segments.run(sizes) if segments.programs[0] else (None, [0])
        if missing and len(segments.programs[0]) < MOST:
            segments.add(0, program(compute, sizes, row=1))
            block, missing = segments.run(sizes)
            assert not missing
        if not missing:
            followed += 1
            want = compute(*sizes)
            assert segments.words(block, 0)[: len(want)].tolist() == want
    assert followed > MOST


def test_rows_and_tables_lie_in_one_block():
    segments = Segments([constant(9), constant(8), constant(7)], 1)
    segments.add(0, program(lambda n: [n, 2 * n], [6], row=1))
    block, missing = segments.run([6])
    table = block.buffer_info()[0] + 8 * 3 * ROW
    assert not missing and block[:ROW].tolist() == [9, 1, 2, 3, 4]
    assert block[ROW : 2 * ROW].tolist() == [5, table, 6, 0, table + 8]
    assert block[2 * ROW : 3 * ROW].tolist() == [7, 1, 2, 3, 4]


def test_steps_of_which_no_program_serves_are_told():
    segments = Segments([constant(1)], 3)
    for number, limit in ((0, 10), (1, 5), (2, 100)):
        segments.add(number, program(lambda n, most=limit: [n if n < most else 0], [4]))
    assert segments.run([4])[1] == [] and segments.run([7])[1] == [1]
    assert segments.run([70])[1] == [0, 1] and segments.run([700])[1] == [0, 1, 2]


@pytest.mark.parametrize("sizes", [(1 << 40, 1 << 30), (1 << 61, 1 << 61), (-(1 << 62), 5)])
def test_numbers_too_large_for_a_word_do_not_wrap_around(sizes):
    segments = Segments([constant(1)], 1)
    segments.add(0, program(lambda a, b: [a * b, a + b], [3, 4]))
    assert segments.run([5, 6])[1] == [] and segments.run(sizes)[1] == [0]


def test_division_by_zero_is_no_way():
    segments = Segments([constant(1)], 1)
    segments.add(0, program(lambda a, b: [a // b, a % b], [3, 4]))
    assert segments.run([3, 0])[1] == [0]
    block, _ = segments.run([-7, 2])
    assert segments.words(block, 0)[:2].tolist() == [-7 // 2, -7 % 2]


def test_numbers_of_numpy_among_words_are_words():
    segments = Segments([constant(1)], 1)
    segments.add(0, program(lambda a: [np.int64(3), True, a], [4]))
    assert segments.words(segments.run([8])[0], 0)[:3].tolist() == [3, 1, 8]
