"""The rows of a sparse gradient by their ids: grouped once, then each id's rows summed.

The ids are sorted with their places, by a stable radix sort of the whole team, and what comes out
is kept as a pack of the ids: kernels that have the same ids, of several tables perhaps, share it.
Then each thread owns a range of distinct ids and sums the rows of each in the order of their
places, as the reference does. So the result does not depend on the number of threads, and the cost
is that of the rows named, not of the table.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.embedding import AHEAD, IDS, SHORT, constant_text
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import LINE, whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.registry import BoundOp, Declined, Kernel, Pack, Prepared, register
from noria.kernels.traced import known

DIGIT = 11  # bits sorted in one pass: the counters of a thread stay in its first cache
BINS = 1 << DIGIT
TABLE = 8  # where what follows the part of the table that all kernels here have begins

# An entry is id << 32 | place. All ids are looked at, and their first digits counted, before
# anything is written. Where a thread returns before a barrier, all of them do.
_BEGIN = """
def group(args):
    ids = load_int64(args, 0)
    count = load_int64(args, 1)
    size = load_int64(args, 2)
    groups = load_int64(args, 3)
    order = load_int64(args, 4)
    spare = load_int64(args, 5)
    told = load_int64(args, 6)
    counters = load_int64(args, 7)
    team = team_size()
    me = thread_id()
    first = count * me // team
    last = count * (me + 1) // team
    counter = counters + me * COUNTERS
    target = counter + COUNTERS // 2
    fill_bytes(counter, 0, BINS * 8)
    low = int64(0)
    high = int64(0)
    for i in range(first, last):
        key = int64(load_IDS(ids, i))
        low = min(low, key)
        high = max(high, key)
        k = key & (BINS - 1)
        store_int64(counter, k, load_int64(counter, k) + 1)
    store_int64(told, me * 8, low)
    store_int64(told, me * 8 + 1, high)
    barrier()
    for t in range(team):
        if load_int64(told, t * 8) < 0 or load_int64(told, t * 8 + 1) >= size:
            return 1
"""
_COUNT = """
    fill_bytes(counter, 0, BINS * 8)
    for i in range(first, last):
        k = (load_int64(order, i) >> SHIFT) & (BINS - 1)
        store_int64(counter, k, load_int64(counter, k) + 1)
    barrier()
"""
_MOVE = """
    start = int64(0)
    for k in range(BINS):
        for t in range(team):
            if t == me:
                store_int64(target, k, start)
            start += load_int64(counters + t * COUNTERS, k)
    for i in range(first, last):
        entry = ENTRY
        k = (entry >> SHIFT) & (BINS - 1)
        start = load_int64(target, k)
        store_int64(target, k, start + 1)
        store_int64(spare, start, entry)
    barrier()
    swap = order
    order = spare
    spare = swap
"""

# The pack holds the number of distinct ids and, a line further, as int32: these ids in rising
# order, where the places of each begin (and where those of the last end), and the places. Whether
# an id is as the one before nobody can foretell, so that no branch depends on it: what an id has is
# written again with each of its places. Those at the start that go on with the group of the thread
# before are the exception.
_GROUP = f"""
    fresh = int64(first == 0 and last > 0)
    for i in range(max(first, 1), last):
        fresh += int64(load_int64(order, i) >> 32 != load_int64(order, i - 1) >> 32)
    store_int64(told, me * 8 + 2, fresh)
    barrier()
    at = int64(-1)
    for t in range(me):
        at += load_int64(told, t * 8 + 2)
    unique = groups + {LINE}
    starts = unique + count * 4
    places = starts + (count + 1) * 4
    before = int64(-1)
    if first > 0:
        before = load_int64(order, first - 1) >> 32
    i = first
    while i < last and load_int64(order, i) >> 32 == before:
        store_int32(places, i, int32(load_int64(order, i) & 0xFFFFFFFF))
        i += 1
    start = i
    for place in range(i, last):
        entry = load_int64(order, place)
        key = entry >> 32
        if key != before:
            at += 1
            start = place
        before = key
        store_int32(places, place, int32(entry & 0xFFFFFFFF))
        store_int32(unique, at, int32(key))
        store_int32(starts, at, int32(start))
    if me == team - 1:
        store_int32(starts, at + 1, int32(count))
        store_int64(groups, 0, at + 1)
    return 0
"""


@lru_cache(maxsize=64)
def _group_source(ids: str, size: int) -> str:
    """The ids sorted, in as few passes as ids below `size` need, and grouped."""
    bits = max(size - 1, 1).bit_length()
    passes = -(-bits // DIGIT)
    digit = -(-bits // passes)
    text = _BEGIN
    for p in range(passes):
        entry = "load_int64(order, i)" if p else "(int64(load_IDS(ids, i)) << 32) | i"
        text += ((_COUNT if p else "") + _MOVE).replace("ENTRY", entry)
        text = text.replace("SHIFT", str(32 + p * digit))
    text = (text + _GROUP).replace("BINS", str(1 << digit)).replace("IDS", ids)
    return text.replace("COUNTERS", str(16 * BINS))


# Done for each id of this thread: `row` is the id, `grad` where the sum of its rows lies. A thread
# owns the ids whose places begin in its share of all places. Lines in place of BEFORE come first;
# those in place of SOON ask for what row `soon` will need. A row of the gradient belongs to PER
# places, one after the other.
_EACH = f"""
    groups = load_int64(args, 0)
    rows = load_int64(args, 1)
    scratch = load_int64(args, 2)
    room = load_int64(args, 3)
    count = load_int64(args, 4)
    size = load_int64(args, 5)
    width = load_int64(args, 6)
    per = load_int64(args, 7)
    team = team_size()
    me = thread_id()
    distinct = load_int64(groups, 0)
    unique = groups + {LINE}
    starts = unique + count * 4
    places = starts + (count + 1) * 4
    total = scratch + me * room
    begin = 0
    end = 0
    for bound in range(2):
        begin = end
        wanted = count * (me + bound) // team
        low = 0
        end = distinct
        while low < end:
            middle = (low + end) // 2
            if int64(load_int32(starts, middle)) < wanted:
                low = middle + 1
            else:
                end = middle
BEFORE
    for u in range(begin, end):
        soon = int64(load_int32(unique, min(u + {AHEAD}, end - 1)))
SOON
        k = int64(load_int32(starts, u))
        stop = int64(load_int32(starts, u + 1))
        prefetch(rows + ROW(min(k + {AHEAD}, count - 1)) * WIDTH * 4)
        row = int64(load_int32(unique, u))
        grad = rows + ROW(k) * WIDTH * 4
        k += 1
        if k < stop:
            copy_bytes(total, grad, WIDTH * 4)
            grad = total
            while k < stop:
                prefetch(rows + ROW(min(k + {AHEAD}, count - 1)) * WIDTH * 4)
                more = rows + ROW(k) * WIDTH * 4
                for c in range(WIDTH):
                    together()
                    store_float32(total, c, load_float32(total, c) + load_float32(more, c))
                k += 1
"""

_MERGE = """
        store_IDS(unique_out, u, row)
        copy_bytes(merged + u * WIDTH * 4, grad, WIDTH * 4)
    left = count - distinct
    for i in range(distinct + left * me // team, distinct + left * (me + 1) // team):
        store_IDS(unique_out, i, size)
        fill_bytes(merged + i * WIDTH * 4, 0, WIDTH * 4)
    return 0
"""
_MERGE_TABLE = f"""\
    unique_out = load_int64(args, {TABLE})
    merged = load_int64(args, {TABLE + 1})"""


def by_row(entry: str, sizes: Rows, each: str, before: str = "", soon: str = "") -> str:
    """The source of a kernel that does `each` for the ids of a thread.

    each:   the rest of the body of the loop over ids, and what follows it
    before: lines before the loop
    soon:   lines of the loop that ask for what row `soon` will need
    """
    return _by_row(
        entry, min(sizes.per, SHORT + 1), min(sizes.width, SHORT + 1), each, before, soon
    )


@cache
def _by_row(entry: str, per: int, width: int, each: str, before: str, soon: str) -> str:
    text = f"def {entry}(args):{_EACH.rstrip()}\n{each.strip(chr(10))}\n"
    text = text.replace("BEFORE", before).replace("SOON", soon)
    text = re.sub(r"ROW\((.*?)\) \*", r"int64(load_int32(places, \1)) // PER *", text)
    if per == 1:
        text = text.replace(" // PER", "")
    text = text.replace("PER", constant_text("per", per))
    return text.replace("WIDTH", constant_text("width", width))


class Rows:
    """The sizes of a sparse gradient, the pack of its ids grouped, and its part of a table.

    ids, rows: inputs `at` and `at` + 1 of the operator; rows[i] belongs to all ids of ids[i]
    axes:      of a row; size: rows of the table
    """

    def __init__(self, bound: BoundOp, at: int, axes: int, size: int) -> None:
        ids, rows = bound.inputs[at : at + 2]
        assert ids is not None and rows is not None
        if max(size, ids.size) >> 31:
            raise Declined("ids or their places need more than 31 bits")
        self.at, self.threads, self.dtype = at, bound.threads, ids.dtype
        self.count, self.size = ids.size, size
        self.width = prod(rows.shape[len(rows.shape) - axes :])
        self.per = known(ids.size * self.width // rows.size)
        self.room = whole_lines(4 * self.width)
        self.scratch = self.room * max(bound.threads, thread_count())

    def pack(self) -> Pack:
        """The ids grouped, and behind that the memory which grouping needs: entries twice; for each
        thread what it tells the others, and its counters."""
        team = max(self.threads, thread_count())
        entries = LINE + whole_lines(4 * (3 * self.count + 1))
        spare = entries + whole_lines(8 * self.count)
        told = spare + whole_lines(8 * self.count)
        counters = told + team * LINE
        source = _group_source(self.dtype, self.size)

        def emit(ids: int, groups: int) -> list[Call]:
            table = [ids, self.count, self.size, groups]
            table += [groups + k for k in (entries, spare, told, counters)]
            how = {"threads": self.threads, "bytes": 100 * self.count}
            return [launch("numba:group_ids", source, "group", table, **how)]

        return Pack(self.at, ("group_ids", self.size), counters + team * 16 * BINS, emit)

    def table(self, groups: int, rows: int, scratch: int) -> list[int]:
        """The part of the table that all kernels have, from addresses."""
        return [groups, rows, scratch, self.room, self.count, self.size, self.width, self.per]


class MergeRows(Kernel):
    """Each id once, with the sum of its rows."""

    name = "numba:merge_rows"
    ops = ("merge_rows",)

    def accepts(self, op: Operator) -> None:
        need(op, IDS, (0,))
        need(op, ("float32",), (1,))

    def bind(self, bound: BoundOp) -> Prepared:
        total, threads = bound.outputs[1], bound.threads
        sizes = Rows(bound, 0, len(total.shape) - 1, bound.attrs["shape"][0])
        each = _MERGE.replace("IDS", sizes.dtype)
        source = by_row("merge_rows", sizes, each, _MERGE_TABLE)
        moved = 3 * total.nbytes

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*sizes.table(packs[0], ins[1], scratch), *outs]
            return [launch(self.name, source, "merge_rows", table, threads=threads, bytes=moved)]

        return Prepared(emit, sizes.scratch, [sizes.pack()])


register(MergeRows())
