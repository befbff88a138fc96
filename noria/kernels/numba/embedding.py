"""Rows by their ids: gathered, added up into a table (the gradient of gathering), and one-hot.

Rows are copied as bytes, so any dtype is gathered. Adding up is deterministic: every row of the
table belongs to one thread, which adds to it in the order of the ids, as the reference does.
"""

from __future__ import annotations

from functools import cache
from math import prod

from noria.core.dtypes import itemsize
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register
from noria.ops.common import axis_of

IDS = ("int64", "int32")
# Rows asked for before they are needed. On tables beyond the caches 16 are seven times faster than
# none, and 128, which still fit the first cache, twice as fast as 16.
AHEAD = 128
SHORT = 64  # rows of so many words have their length in the source, so that no loop has a rest

# An id in [lowest, size) is good; a negative one counts from the end. Any other fails the row
# (status 1), and the reference then tells which it was.
_GATHER = f"""
def gather(args):
    table = load_int64(args, 0)
    ids = load_int64(args, 1)
    out = load_int64(args, 2)
    rows = load_int64(args, 3)
    count = load_int64(args, 4)
    size = load_int64(args, 5)
    lowest = load_int64(args, 6)
    width = load_int64(args, 7)
    team = team_size()
    for row in range(rows * thread_id() // team, rows * (thread_id() + 1) // team):
        base = row // count * size
        i = row % count
        prefetch(table + (base + int64(load_IDS(ids, min(i + {AHEAD}, count - 1)))) * width)
        place = int64(load_IDS(ids, i))
        if place < lowest or place >= size:
            return 1
        if place < 0:
            place += size
        place += base
COPY
    return 0
"""

_WORDS = """
        for i in range(WIDTH):
            independent()
            store_uint32(out, row * WIDTH + i, load_uint32(table, place * WIDTH + i))"""
_BYTES = """
        copy_bytes(out + row * width, table + place * width, width)"""

# A row belongs to the thread that a multiplicative hash (Knuth, 1973) of its number says, so that
# popular ids, which often are neighbours, spread over the team. Rows that share a line of cache go
# together. Every thread reads all ids.
_OWNER = "((((PLACE >> shift) * 2654435761) & 0xFFFFFFFF) * team) >> 32"
_SCATTER = f"""
def scatter_rows(args):
    ids = load_int64(args, 0)
    rows = load_int64(args, 1)
    out = load_int64(args, 2)
    count = load_int64(args, 3)
    size = load_int64(args, 4)
    width = load_int64(args, 5)
    shift = load_int64(args, 6)
    team = team_size()
    me = thread_id()
    first = size * me // team
    last = size * (me + 1) // team
    fill_bytes(out + first * width * 4, 0, (last - first) * width * 4)
    barrier()
    for row in range(count):
        place = int64(load_IDS(ids, min(row + {AHEAD}, count - 1)))
        if {_OWNER.replace("PLACE", "place")} == me:
            prefetch(out + place * width * 4)
        place = int64(load_IDS(ids, row))
        if place < -size or place >= size:
            return 1
        if place < 0:
            place += size
        if {_OWNER.replace("PLACE", "place")} == me:
            for i in range(WIDTH):
                independent()
                v = load_float32(out, place * WIDTH + i) + load_float32(rows, row * WIDTH + i)
                store_float32(out, place * WIDTH + i, v)
    return 0
"""

_ONE_HOT = """
def one_hot(args):
    ids = load_int64(args, 0)
    out = load_int64(args, 1)
    rows = load_int64(args, 2)
    depth = load_int64(args, 3)
    size = load_int64(args, 4)
    team = team_size()
    first = rows * thread_id() // team
    last = rows * (thread_id() + 1) // team
    fill_bytes(out + first * depth * size, 0, (last - first) * depth * size)
    for row in range(first, last):
        place = int64(load_IDS(ids, row))
        if place >= 0 and place < depth:
            store_DTYPE(out, row * depth + place, ONE)
    return 0
"""


# The table ends with how many ids each feature has, and then with the first row of each.
_FIELD_IDS = """
def field_ids(args):
    ids = load_int64(args, 0)
    out = load_int64(args, 1)
    count = load_int64(args, 2)
    fields = load_int64(args, 3)
    team = team_size()
    for row in range(count * thread_id() // team, count * (thread_id() + 1) // team):
        for f in range(fields):
            i = int64(load_IDS(ids, row * fields + f))
            if i < 0 or i >= load_int64(args, 4 + f):
                return 1
            store_IDS(out, row * fields + f, i + load_int64(args, 4 + fields + f))
    return 0
"""


def constant_text(name: str, number: int) -> str:
    """What stands for a size in a source: the number where it is small, else the variable."""
    return str(number) if number <= SHORT else name


@cache
def _gather_source(ids: str, words: int, one: bool) -> str:
    """words: of a row; one: only one table, the usual case, without divisions"""
    copy_row = _WORDS.replace("WIDTH", str(words)) if words <= SHORT else _BYTES
    source = _GATHER.replace("IDS", ids).replace("COPY", copy_row.strip("\n"))
    if one:
        source = source.replace("row // count * size", "0").replace("row % count", "row")
    return source


@cache
def _scatter_source(ids: str, width: int) -> str:
    return _SCATTER.replace("IDS", ids).replace("WIDTH", constant_text("width", width))


class Gather(Kernel):
    """`embedding`, and `gather` along any axis."""

    name = "numba:gather"
    ops = ("embedding", "gather")

    def accepts(self, op: Operator) -> None:
        need(op, IDS, (1,))

    def bind(self, bound: BoundOp) -> Prepared:
        table, ids = bound.inputs
        out = bound.outputs[0]
        assert table is not None and ids is not None
        nested = bound.op.type == "gather"
        at = axis_of(bound.attrs["axis"], len(table.shape)) if nested else 0
        size = table.shape[at]
        nbytes = prod(table.shape[at + 1 :]) * itemsize(table.dtype)
        words = min(nbytes // 4, SHORT + 1) if nbytes % 4 == 0 else SHORT + 1
        rows = prod(table.shape[:at]) * ids.size
        source = _gather_source(ids.dtype, words, rows == ids.size)
        end = [rows, ids.size, size, -size if nested else 0, nbytes]
        moved = 2 * out.nbytes + ids.nbytes

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins, *outs, *end]
            return [launch(self.name, source, "gather", table, threads=bound.threads, bytes=moved)]

        return Prepared(emit)


class ScatterRows(Kernel):
    """The dense gradient of a table."""

    name = "numba:scatter_rows"
    ops = ("scatter_rows",)

    def accepts(self, op: Operator) -> None:
        need(op, IDS, (0,))
        need(op, ("float32",), (1,))

    def bind(self, bound: BoundOp) -> Prepared:
        ids, rows = bound.inputs
        out = bound.outputs[0]
        assert ids is not None and rows is not None
        width = prod(out.shape[1:])
        source = _scatter_source(ids.dtype, min(width, SHORT + 1))
        shift = max(16 // width, 1).bit_length() - 1  # 16 floats fill a line
        end = [ids.size, out.shape[0], width, shift]
        moved = out.nbytes + 3 * rows.nbytes

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins, *outs, *end]
            return [
                launch(self.name, source, "scatter_rows", table, threads=bound.threads, bytes=moved)
            ]

        return Prepared(emit, work=rows.size)


class OneHot(Kernel):
    """A new last axis."""

    name = "numba:one_hot"
    ops = ("one_hot",)

    def accepts(self, op: Operator) -> None:
        need(op, IDS)
        if op.attrs["axis"] not in (-1, op.operands[0].ndim):
            raise Declined("the new axis is not the last one")

    def bind(self, bound: BoundOp) -> Prepared:
        ids, out = bound.inputs[0], bound.outputs[0]
        assert ids is not None
        source = _ONE_HOT.replace("IDS", ids.dtype).replace("DTYPE", out.dtype)
        source = source.replace("ONE", "True" if out.dtype == "bool" else "1")
        end = [ids.size, out.shape[-1], itemsize(out.dtype)]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins, *outs, *end]
            moved = out.nbytes
            return [launch(self.name, source, "one_hot", table, threads=bound.threads, bytes=moved)]

        return Prepared(emit)


class FieldIds(Kernel):
    """Checked and moved to the rows of their features."""

    name = "numba:field_ids"
    ops = ("field_ids",)

    def accepts(self, op: Operator) -> None:
        need(op, IDS)

    def bind(self, bound: BoundOp) -> Prepared:
        ids, sizes = bound.inputs[0], list(bound.attrs["sizes"])
        assert ids is not None
        source = _FIELD_IDS.replace("IDS", ids.dtype)
        starts = [sum(sizes[:f]) for f in range(len(sizes))]
        end = [ids.size // len(sizes), len(sizes), *sizes, *starts]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table, moved = [*ins, *outs, *end], 4 * ids.nbytes
            return [
                launch(self.name, source, "field_ids", table, threads=bound.threads, bytes=moved)
            ]

        return Prepared(emit)  # not in place: the reference must find the wrong id


register(Gather())
register(FieldIds())
register(ScatterRows())
register(OneHot())
