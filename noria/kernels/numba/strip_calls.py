"""The row of the tape in which a team goes through lists of calls, each of which makes a strip."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate

from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.numba.launch import launch
from noria.kernels.numba.parallel import parallel

PATIENCE = 100_000  # nanoseconds that a thread waits awake for the others
_HEAD = 7  # numbers in the table of the kernel, before those of its threads

# A thread takes its own strips, each of which goes on where the one before it ended, and then
# those that others have not come to, from their last one on, by itself: so a thread that is late,
# as the first step finds those that slept, leaves more to the others. Who is done waits for the
# rest without falling asleep, since to wake a thread takes longer than a strip. Within a team of
# its own a thread is number 0 of 1, as calls without a team expect.
_STRIPS = f"""
def strips(args):
    share, threads, count = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    for which in range(thread_id(), threads, team_size()):
        run_team(share, args + 8 * ({_HEAD} + 2 * which), int64(1))
    done = load_int64(args, 5) + 8 * count
    end = now() + int64({PATIENCE})
    while load_shared(done) < count and now() < end:
        pause()
    return 0
"""
_SHARE = """
def share(args):
    table, me = load_int64(args, 0), load_int64(args, 1)
    threads, count, firsts = load_int64(table, 1), load_int64(table, 2), load_int64(table, 3)
    lists, claims = load_int64(table, 4), load_int64(table, 5)
    for other in range(load_int64(table, 6)):
        owner = (me + other) % threads
        first, last = load_int64(firsts, owner), load_int64(firsts, owner + 1)
        for turn in range(first, last):
            strip, way = turn, int64(0)
            if other != 0:
                strip, way = first + last - 1 - turn, 1 + me
            if take(claims + 8 * strip, int64(1)) == 0:
                at = lists + 16 * (way * count + strip)
                calls = load_int64(at, 0)
                for row in range(load_int64(at, 1)):
                    call1(load_int64(calls, 2 * row), load_int64(calls, 2 * row + 1))
                atomic_add(claims + 8 * count, int64(1))
    return 0
"""
_BEGIN = """
def begin(args):
    fill_bytes(load_int64(args, 0), 0, load_int64(args, 1))
    return 0
"""
# Row by row, since the rows may move by less than they are many.
_COPY = """
def copy_rows(args):
    to, source, size = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    for row in range(load_int64(args, 3)):
        copy_bytes(to + row * size, source + row * size, size)
    return 0
"""


def copied(name: str, to: int, source: int, size: int, rows: int) -> Call:
    """Copies so many rows of so many bytes on the calling thread."""
    return launch(name, _COPY, "copy_rows", [to, source, size, rows], threads=1)


def together(
    name: str, ways: Sequence[Sequence[Sequence[Call]]], sizes: Sequence[int], bytes: int, ops: int
) -> list[Call]:
    """The calls that make all strips.

    ways:  for each strip its calls, where the thread whose it is goes on, and then, unless nobody
           takes strips of others, where each thread makes it by itself
    sizes: strips of each thread
    """
    threads, count = len(sizes), sum(sizes)
    share = jit.compile_source(_SHARE, "share")
    calls = [some for way in ways for some in way]
    rows = [array("q", [n for call in some for n in (call.fn, call.args[0])]) for some in calls]
    lists = array("q", [n for a in rows for n in (a.buffer_info()[0], len(a) // 2)])
    firsts = array("q", [0, *accumulate(sizes)])
    claims = array("q", [0] * (count + 1))
    addresses = [a.buffer_info()[0] for a in (firsts, lists, claims)]
    table = [share.address, threads, count, *addresses, threads if len(ways) > 1 else 1]
    table += [0] * 2 * threads
    begin = launch(name, _BEGIN, "begin", [addresses[2], 8 * len(claims)], threads=1)
    call, memory = _with_table(name, table, threads, bytes, ops)
    for thread in range(threads):
        at = _HEAD + 2 * thread
        memory[at : at + 2] = array("q", [memory.buffer_info()[0], thread])
    kept = [[c.keep for c in some] for some in calls]
    call.keep = (call.keep, share, rows, lists, firsts, claims, kept)
    return [begin, call]


def _with_table(
    name: str, table: list[int], threads: int, bytes: int, ops: int
) -> tuple[Call, array[int]]:
    """The call of the kernel, on a team, and its table, which is to hold its own address."""
    memory = array("q", table)
    function = jit.compile_source(_STRIPS, "strips")
    call = Call(name, function.address, (memory.buffer_info()[0], 0, 0, 0), (memory, function))
    return (call if threads == 1 else parallel(call, bytes=bytes, ops=ops)), memory
