"""Numbers that are traced: what they compute, on what that depends, and what they never tell."""

import math
from array import array

import numpy as np
import pytest

from noria.kernels.traced import (
    EQUAL,
    LESS,
    NOT_LESS,
    UNLIKE,
    Trace,
    Traced,
    Untraceable,
    about,
    known,
    table_of,
)

ARITHMETIC = {
    "sum": lambda a, b: a + 3 + b,
    "difference": lambda a, b: 5 - a - b,
    "product": lambda a, b: 2 * a * b * 1,
    "quotient": lambda a, b: (a * 7) // b + 100 // b,
    "rest": lambda a, b: a % 4 + 17 % b,
    "rounded up": lambda a, b: -(-a // 4) * 4 + abs(b - a),
    "shifts": lambda a, b: (a << 3) + (b >> 1) + a**2,
    "extremes": lambda a, b: max(a, b) * 10 + min(a, 3) + math.prod((a, b, 2)),
    "choice": lambda a, b: a if a > b and b != 0 else b,
}


def conditions(trace):
    return {trace.nodes[n][0] for n in trace.conditions}


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("sizes", [(13, 4), (4, 13)])
def test_what_is_computed_is_what_integers_give(name, sizes):
    trace = Trace()
    got = ARITHMETIC[name](*(trace.size(i, n) for i, n in enumerate(sizes)))
    assert isinstance(got, Traced) and got.now == ARITHMETIC[name](*sizes)


@pytest.mark.parametrize(
    ("compare", "told"),
    [
        (lambda n: n < 8, {LESS}),
        (lambda n: n <= 3, {LESS}),
        (lambda n: n > 7, {NOT_LESS}),
        (lambda n: n >= 7, {NOT_LESS}),
        (lambda n: n == 7, {EQUAL}),
        (lambda n: n != 7, {EQUAL}),
        (lambda n: bool(n), {UNLIKE}),
        (lambda n: known(n), {EQUAL}),
    ],
)
def test_every_comparison_is_a_condition(compare, told):
    trace = Trace()
    compare(trace.size(0, 7))
    assert conditions(trace) == told


def test_what_holds_for_all_sizes_is_no_condition():
    trace = Trace()
    n = trace.size(0, 7)
    assert n + 1 == 1 + n - 0 and n * 0 == 0 and (2 * n, 3) == (n * 2, 3)
    assert not trace.conditions


TELLING = [
    hash, int, float, str, repr, range, np.array, np.zeros, math.sqrt, round,
    lambda n: f"{n}", lambda n: [1, 2, 3][n], lambda n: array("q", [n]), lambda n: n / 2,
    lambda n: 2.0 * n, lambda n: n < 2.5, lambda n: n == 7.0, lambda n: np.arange(3) * n,
    lambda n: np.int64(3) + n, lambda n: {n: 1}, lambda n: [0] * n, lambda n: n + True,
]  # fmt: skip


@pytest.mark.parametrize("tell", TELLING)
def test_nothing_gets_at_the_number_unnoticed(tell):
    with pytest.raises((Untraceable, TypeError)):
        tell(Trace().size(0, 7))


def test_nothing_depends_on_an_address():
    trace = Trace()
    address = trace.table([1, 2])
    assert (address + 8).now is None
    for tell in (lambda: address < 5, lambda: known(address), lambda: bool(address)):
        with pytest.raises(Untraceable):
            tell()


def test_numbers_that_are_not_traced_are_themselves():
    address, memory = table_of([3, -4])
    assert address == memory.buffer_info()[0] and memory.tolist() == [3, -4]
    assert known(3) == 3 and about(4) == 4


def test_tables_within_a_trace_are_its_own():
    trace = Trace()
    with trace.running():
        first, kept = table_of([1, trace.size(0, 5)])
        second, _ = table_of([first])
    assert kept is None and len(trace.words) == 3 and trace.words[2] is first
    assert trace.nodes[second.node][1] == trace.of_here
    assert about(trace.words[1]) == 5 and not isinstance(table_of([1])[0], Traced)
