"""Strips cover every row that is needed, once for each thread."""

import pytest

from noria.kernels.numba.strip_rows import Link, busiest, cut, fitting


def chain(high, stride):
    out = (high - 1) // stride + 1
    first = Link(high, high, 1, 1, 0, 100, 1.0)
    return [first, Link(high, out, 3, stride, 1, 50, 1.0), Link(out, out, 1, 1, 0, 10, 1.0)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("high", [1, 2, 7, 20])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_each_row_of_the_result_is_made_once_from_rows_that_are_there(high, stride, threads, size):
    links = chain(high, stride)
    shares = cut(links, 2, threads, size)
    made = [(s.image, row) for one in shares for s in one for row in range(*s.rows[-1])]
    assert made == [(image, row) for image in (0, 1) for row in range(links[-1].out)]
    for share in shares:
        there = {}
        for strip in share:
            assert strip.rows[-1][1] - strip.rows[-1][0] <= size
            for i, (low, last) in enumerate(strip.rows):
                before = there.get((strip.image, i), set())
                kept = set(range(low, strip.fresh[i]))
                assert kept <= before and low <= strip.fresh[i] <= last
                assert not set(range(strip.fresh[i], last)) & before
                there[strip.image, i] = set(range(low, last))
                if i:
                    seen = set(range(*links[i].seen(low, last)))
                    assert seen == set(range(*strip.rows[i - 1]))


def test_rows_are_moved_by_as_many_as_a_strip_begins_further():
    (share,) = cut(chain(20, 2), 1, 1, 4)
    first, second = share[:2]
    assert second.moved[0] == second.rows[0][0] - first.rows[0][0]
    assert first.moved == (0, 0, 0) and second.fresh[0] == first.rows[0][1]


def test_as_many_rows_as_fit_between_the_convolutions():
    links = chain(20, 1)
    assert fitting(links, 0) == 1
    assert fitting(links, 4 * 50 + 6 * 100) == 4
    assert fitting(links, 4 * 50 + 6 * 100 - 1) == 3
    assert fitting(links, 10**9) == 20


def test_the_busiest_thread_is_told():
    links = chain(20, 1)
    assert busiest(links, cut(links, 1, 1, 4)) == 1
    assert busiest(links, cut(links, 1, 2, 4)) == pytest.approx(2 * 31 / 60)
    assert busiest(links, cut(links, 1, 20, 4)) > 1.5
