"""The rows of a sparse gradient by their ids: sorted once, then each id's rows summed.

The ids are sorted with their places, by a stable radix sort of the whole team. Then each thread
owns a range of distinct ids and sums the rows of each in the order of their places, as the
reference does. So the result does not depend on the number of threads, and the cost is that of the
rows named, not of the table.
"""

from __future__ import annotations

from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.embedding import AHEAD, IDS, width_text
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.parallel import thread_count
from noria.kernels.registry import Array, BoundOp, Declined, Kernel, Prepared, register

DIGIT = 11  # bits sorted in one pass: the counters of a thread stay in its first cache
BINS = 1 << DIGIT
LINE = 64
TABLE = 10  # where what follows the sort's own part of the table begins

# An entry is (id - lowest id) << 32 | place. In the end `order` holds all of them in order, and
# this thread owns the ids whose first entry is one from `begin` up to `last`. Where a thread
# returns before a barrier, all of them do.
_SORT = f"""
    ids = load_int64(args, 0)
    rows = load_int64(args, 1)
    count = load_int64(args, 2)
    width = load_int64(args, 3)
    size = load_int64(args, 4)
    order = load_int64(args, 5)
    spare = load_int64(args, 6)
    told = load_int64(args, 7)
    counters = load_int64(args, 8)
    room = load_int64(args, 9)
    team = team_size()
    me = thread_id()
    first = count * me // team
    last = count * (me + 1) // team
    counter = counters + me * {16 * BINS}
    target = counter + {8 * BINS}
    low = int64(0x7FFFFFFFFFFFFFFF)
    high = -low
    for i in range(first, last):
        key = int64(load_IDS(ids, i))
        low = min(low, key)
        high = max(high, key)
    store_int64(told, me * 8, low)
    store_int64(told, me * 8 + 1, high)
BEFORE
    barrier()
    for t in range(team):
        low = min(low, load_int64(told, t * 8))
        high = max(high, load_int64(told, t * 8 + 1))
    if low < 0 or high >= size:
        return 1
    for i in range(first, last):
        store_int64(order, i, ((int64(load_IDS(ids, i)) - low) << 32) | i)
    bits = 0
    while (high - low) >> bits != 0:
        bits += 1
    passes = max((bits + {DIGIT - 1}) // {DIGIT}, 1)
    digit = (bits + passes - 1) // passes
    mask = (1 << digit) - 1
    for p in range(passes):
        shift = 32 + p * digit
        fill_bytes(counter, 0, (mask + 1) * 8)
        for i in range(first, last):
            k = (load_int64(order, i) >> shift) & mask
            store_int64(counter, k, load_int64(counter, k) + 1)
        barrier()
        start = 0
        for k in range(mask + 1):
            for t in range(team):
                if t == me:
                    store_int64(target, k, start)
                start += load_int64(counters + t * {16 * BINS}, k)
        for i in range(first, last):
            entry = load_int64(order, i)
            k = (entry >> shift) & mask
            start = load_int64(target, k)
            store_int64(target, k, start + 1)
            store_int64(spare, start, entry)
        barrier()
        swap = order
        order = spare
        spare = swap
    begin = first
    if begin > 0:
        key = load_int64(order, begin - 1) >> 32
        while begin < last and load_int64(order, begin) >> 32 == key:
            begin += 1
"""

# What follows is done for each id of this thread: `row` is the id, `grad` where its sum lies. Lines
# in place of SOON ask for what row `soon` will need.
EACH = f"""
    total = told + team * 64 + me * room
    i = begin
    while i < last:
        entry = load_int64(order, min(i + {AHEAD}, count - 1))
        prefetch(rows + (entry & 0xFFFFFFFF) * WIDTH * 4)
        soon = (entry >> 32) + low
SOON
        entry = load_int64(order, i)
        key = entry >> 32
        row = key + low
        grad = rows + (entry & 0xFFFFFFFF) * WIDTH * 4
        i += 1
        if i < count and load_int64(order, i) >> 32 == key:
            copy_bytes(total, grad, WIDTH * 4)
            grad = total
            while i < count and load_int64(order, i) >> 32 == key:
                ahead = load_int64(order, min(i + {AHEAD}, count - 1))
                prefetch(rows + (ahead & 0xFFFFFFFF) * WIDTH * 4)
                more = rows + (load_int64(order, i) & 0xFFFFFFFF) * WIDTH * 4
                for c in range(WIDTH):
                    independent()
                    store_float32(total, c, load_float32(total, c) + load_float32(more, c))
                i += 1
"""

_MERGE = """
    unique = load_int64(args, 10)
    merged = load_int64(args, 11)
    fresh = 0
    for i in range(begin, last):
        if i == 0 or load_int64(order, i) >> 32 != load_int64(order, i - 1) >> 32:
            fresh += 1
    store_int64(told, me * 8 + 2, fresh)
    barrier()
    at = 0
    used = 0
    for t in range(team):
        if t == me:
            at = used
        used += load_int64(told, t * 8 + 2)
EACH
        store_IDS(unique, at, row)
        copy_bytes(merged + at * WIDTH * 4, grad, WIDTH * 4)
        at += 1
    for i in range(max(first, used), last):
        store_IDS(unique, i, size)
        fill_bytes(merged + i * WIDTH * 4, 0, WIDTH * 4)
    return 0
"""


def by_row(entry: str, ids: str, width: int, each: str, before: str = "", soon: str = "") -> str:
    """The source of a kernel that sorts. It fails, before anything is changed, if an id is no row.

    ids:    their dtype
    each:   all that follows the sort, with EACH for the loop over the ids of this thread
    before: lines done before the first barrier, while ids are looked at
    soon:   lines of the loop that ask for what row `soon` will need
    """
    text = f"def {entry}(args):{_SORT}{each}".replace("EACH", EACH.strip("\n"))
    text = text.replace("BEFORE", before).replace("SOON", soon)
    return text.replace("IDS", ids).replace("WIDTH", width_text(width))


class Sort:
    """The sizes of a sort, and its scratch memory: entries twice; for each thread what it tells the
    others, the sum of an id, and its counters.

    ids, rows: a sparse gradient of a table of `size` rows
    """

    def __init__(self, bound: BoundOp, ids: Array, rows: Array, size: int) -> None:
        if max(size, ids.size) >> 31:
            raise Declined("ids or their places need more than 31 bits")
        self.count, self.size, self.width = ids.size, size, prod(rows.shape[1:])
        team = max(bound.threads, thread_count())
        self.room = _lines(4 * self.width)
        self.spare = _lines(8 * self.count)
        self.told = 2 * self.spare
        self.counters = self.told + team * (LINE + self.room)
        self.scratch = self.counters + team * 16 * BINS

    def table(self, ids: int, rows: int, scratch: int) -> list[int]:
        """The sort's own part of the table, from addresses."""
        places = [scratch + k for k in (0, self.spare, self.told, self.counters)]
        return [ids, rows, self.count, self.width, self.size, *places, self.room]


def _lines(nbytes: int) -> int:
    return -(-nbytes // LINE) * LINE


class MergeRows(Kernel):
    """Each id once, with the sum of its rows."""

    name = "numba:merge_rows"
    ops = ("merge_rows",)

    def accepts(self, op: Operator) -> None:
        need(op, IDS, (0,))
        need(op, ("float32",), (1,))

    def bind(self, bound: BoundOp) -> Prepared:
        (ids, rows), threads = bound.inputs, bound.threads
        assert ids is not None and rows is not None
        sort, entry = Sort(bound, ids, rows, bound.attrs["count"]), self.ops[0]
        source = by_row(entry, ids.dtype, sort.width, _MERGE)
        moved = 3 * rows.nbytes + 64 * ids.size

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*sort.table(ins[0], ins[1], scratch), *outs]
            return [launch(self.name, source, entry, table, threads=threads, bytes=moved)]

        return Prepared(emit, sort.scratch)


register(MergeRows())
