"""A step bound to sizes by compiled code: a trace of how a kernel was bound, written as numbers.

`noria/kernels/traced.py` records what binding one step does with sizes. Here that becomes a
`Program`: constants, sizes, what to compute and which conditions must hold, the tables of the step
and its rows of the tape. `run` takes many of them at once: for each step the first whose conditions
hold is computed, its tables are written into a block of memory, and its rows into the tape, which
that block begins with. That takes some nanoseconds a number, where Python takes a microsecond.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import index
from typing import Any

from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.traced import (
    ADD,
    CONSTANT,
    DIV,
    EQUAL,
    HERE,
    LESS,
    MOD,
    MUL,
    NOT_LESS,
    SIZE,
    SUB,
    UNLIKE,
    Trace,
    Traced,
)

ROW = 5  # numbers of a row of the tape
MOST = 8  # programs of a step
_SEGMENT = MOST + 2
_HEAD = 6  # counts: constants, sizes, nodes, words, words that are computed, rows
_LIMIT = 1 << 61  # no number may become larger, so that none ever wraps around

# Floats are only asked whether a product is far too large.
_RECAST = f"""
def recast(args):
    block, sizes, values = load_int64(args, 2), load_int64(args, 3), load_int64(args, 4)
    failed = int64(0)
    for number in range(load_int64(args, 1)):
        segment = load_int64(args, 0) + number * {8 * _SEGMENT}
        local = block + 8 * load_int64(segment, 0)
        took = int64(-1)
        tried = int64(0)
        while took < 0 and tried < load_int64(segment, 1):
            program = load_int64(segment, 2 + tried)
            constants, used = load_int64(program, 0), load_int64(program, 1)
            at = program + {8 * _HEAD}
            store_int64(values, 0, local)
            for i in range(constants):
                store_int64(values, 1 + i, load_int64(at, i))
            at += 8 * constants
            for i in range(used):
                store_int64(values, 1 + constants + i, load_int64(sizes, load_int64(at, i)))
            at += 8 * used
            to = 1 + constants + used
            end = to + load_int64(program, 2)
            took = tried
            while to < end:
                what = load_int64(at, 0)
                a = load_int64(values, load_int64(at, 1))
                b = load_int64(values, load_int64(at, 2))
                at += 24
                holds = True
                c = int64(0)
                if what == {ADD}:
                    c = a + b
                elif what == {MUL}:
                    c = a * b
                    rough = float64(a) * float64(b)
                    holds = rough < float64({_LIMIT}) and rough > -float64({_LIMIT})
                elif what == {SUB}:
                    c = a - b
                elif what == {DIV}:
                    holds = b != 0
                    c = a // b
                elif what == {MOD}:
                    holds = b != 0
                    c = a % b
                elif what == {LESS}:
                    holds = a < b
                elif what == {NOT_LESS}:
                    holds = a >= b
                elif what == {EQUAL}:
                    holds = a == b
                elif what == {UNLIKE}:
                    holds = a != b
                store_int64(values, to, c)
                to += 1
                if not holds or c > {_LIMIT} or c < -{_LIMIT}:
                    took = int64(-1)
                    to = end
            if took >= 0:
                words, computed = load_int64(program, 3), load_int64(program, 4)
                copy_bytes(local, at, 8 * words)
                at += 8 * words
                for i in range(computed):
                    value = load_int64(values, load_int64(at, 2 * i + 1))
                    store_int64(local, load_int64(at, 2 * i), value)
                at += 16 * computed
                rows = load_int64(program, 5)
                source = local + 8 * (words - {ROW} * rows)
                for i in range(rows):
                    copy_bytes(
                        block + {8 * ROW} * load_int64(at, i), source + {8 * ROW} * i, {8 * ROW}
                    )
            tried += 1
        store_int64(load_int64(args, 5), number, took)
        if took < 0:
            failed += 1
    return failed
"""


class Program:
    """One way a step is bound.

    rows:  (number of a row of the tape, its call)
    words: how many its tables and rows have; values: how many numbers it computes, with those given
    """

    def __init__(self, trace: Trace, rows: Sequence[tuple[int, Call]]) -> None:
        self.keep = [call.keep for _, call in rows]
        words: list[Any] = [*trace.words]
        for _, call in rows:
            words += (call.fn, *call.args)
        order = _needed(trace, words)
        place = {node: i for i, node in enumerate(order)}
        given = [trace.nodes[node] for node in order]
        constants = [n for what, n, *_ in given if what == CONSTANT]
        sizes = [n for what, n, *_ in given if what == SIZE]
        made = [(node[0], place[node[1]], place[node[2]]) for node in given if node[0] >= 0]
        computed = [(i, place[w.node]) for i, w in enumerate(words) if isinstance(w, Traced)]
        plain = [0 if isinstance(w, Traced) else index(w) for w in words]
        self.words, self.values = len(words), len(order)
        counts = len(constants), len(sizes), len(made), len(words), len(computed), len(rows)
        parts = (constants, sizes, *made, plain, *computed, [row for row, _ in rows])
        self.numbers = array("q", [*counts, *(n for part in parts for n in part)])

    @property
    def address(self) -> int:
        """Of its numbers."""
        return self.numbers.buffer_info()[0]


def _needed(trace: Trace, words: Sequence[Any]) -> list[int]:
    """The nodes that tables, rows and conditions need: HERE, constants, sizes, then the others."""
    wanted = set(trace.conditions)
    wanted.update(w.node for w in words if isinstance(w, Traced))
    for node in range(len(trace.nodes) - 1, -1, -1):  # each is behind those it is made of
        what, *parts = trace.nodes[node]
        if node in wanted and what >= 0:
            wanted.update(parts)
    wanted.add(trace.of_here)
    kinds = {HERE: 0, CONSTANT: 1, SIZE: 2}
    return sorted(wanted, key=lambda node: (kinds.get(trace.nodes[node][0], 3), node))


class Segments:
    """The programs of all steps, and where their words are behind the rows of the tape.

    rows: of the tape, as they are where no size is part of them
    """

    def __init__(self, rows: Sequence[Call], count: int) -> None:
        self.rows = array("q", [n for call in rows for n in (call.fn, *call.args)])
        self.programs: list[list[Program]] = [[] for _ in range(count)]
        self.bases = [0] * count
        self._table = array("q")

    def add(self, number: int, program: Program) -> None:
        """One more way for a step, of MOST at most."""
        self.programs[number].append(program)
        at, table = len(self.rows), array("q")
        for i, ways in enumerate(self.programs):
            self.bases[i] = at
            at += max((way.words for way in ways), default=0)
            table.extend([self.bases[i], len(ways), *(way.address for way in ways)])
            table.extend([0] * (MOST - len(ways)))
        self._table, self._length = table, at
        values = max(way.values for ways in self.programs for way in ways)
        self._values, self._took = array("q", bytes(8 * values)), array("q", bytes(8 * len(table)))

    def run(self, sizes: Sequence[int]) -> tuple[array[int], list[int]]:
        """(the tape's rows and all tables, numbers of the steps of which no program serves)."""
        block = array("q", self.rows)
        block.frombytes(bytes(8 * (self._length - len(block))))
        given, count = array("q", sizes), len(self.programs)
        arrays = (self._table, block, given, self._values, self._took)
        segments, *others = [a.buffer_info()[0] for a in arrays]
        table = array("q", [segments, count, *others])
        if not jit.compile_source(_RECAST, "recast")(table.buffer_info()[0]):
            return block, []
        return block, [i for i in range(count) if self._took[i] < 0]

    def words(self, block: array[int], number: int) -> array[int]:
        """The words of a step in a block, followed by zeros."""
        return block[self.bases[number] :]
