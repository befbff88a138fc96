"""Small steps that do not need each other, side by side: each on a thread of its own.

A step too small for a team runs on one thread while the others wait; towers, heads and directions
of a network are made of such steps. `find` looks through the items of a bound plan: of neighbours
without a team, those that use the same buffer, one of them writing it, form chains, and what
threads gain by sharing the chains is weighed against the fork. Nothing is moved past a step that
has a team, nothing past one it must come after, and state is a buffer like any other. Where chains
run side by side, all their buffers live as long as the last of them, so that none takes the memory
of another; the plan of memory is proved with these lives.

`rows` makes the tape: each such group becomes one row.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from noria.ir.program import Value
from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.numba.parallel import BYTES, OPS, SERIAL_BELOW
from noria.kernels.registry import Array
from noria.runtime.buffers import Buffers, Item
from noria.runtime.memory import Buffer

OVERHEAD = 1_500  # nanoseconds of a fork: twice what it costs when nothing disturbs
LEAST = SERIAL_BELOW  # nanoseconds of a group: no less is worth a team, here as elsewhere
PART = 20  # of a step's time at least is saved where groups are worth more than a recipe
WINDOW = 48  # items that are weighed together at most
Lists = list[list[Item]]  # what each thread does
Groups = list[list[list[int]]]  # the same of each group, by the positions of items
Used = list[tuple[Buffer, bool]]  # and whether it is written

# Where to cut n items into stretches whose chains run side by side, so that all is over soonest.
# `clash` [n, WINDOW] tells whether an item must come after the one so many places before it.
_CUT = f"""
def cut(args):
    ranges, first = load_int64(args, 0), load_int64(args, 1)
    cost, clash = load_int64(args, 2), load_int64(args, 3)
    best, begin = load_int64(args, 4), load_int64(args, 5)
    label, total = load_int64(args, 6), load_int64(args, 7)
    count, threads = load_int64(args, 8), load_int64(args, 9)
    overhead, least = load_int64(args, 10), load_int64(args, 11)
    store_int64(best, 0, int64(0))
    for j in range(count):
        low = max(int64(0), j - {WINDOW - 1})
        for i in range(low, j):
            hit = int64(0)
            for a in range(load_int64(first, j), load_int64(first, j + 1)):
                start, end = load_int64(ranges, 3 * a), load_int64(ranges, 3 * a + 1)
                written = load_int64(ranges, 3 * a + 2)
                for b in range(load_int64(first, i), load_int64(first, i + 1)):
                    apart = load_int64(ranges, 3 * b) >= end
                    apart = apart or load_int64(ranges, 3 * b + 1) <= start
                    if not apart and (written != 0 or load_int64(ranges, 3 * b + 2) != 0):
                        hit = int64(1)
            store_int64(clash, j * {WINDOW} + j - 1 - i, hit)
        sum = load_int64(cost, j)
        longest = sum
        store_int64(label, 0, int64(0))
        store_int64(total, 0, sum)
        store_int64(best, j + 1, load_int64(best, j) + sum)
        store_int64(begin, j + 1, j)
        i = j - 1
        while i >= low:
            mine = j - i
            chain = load_int64(cost, i)
            sum += chain
            store_int64(label, mine, mine)
            for k in range(i + 1, j + 1):
                other = load_int64(label, j - k)
                if load_int64(clash, k * {WINDOW} + k - 1 - i) != 0 and other != mine:
                    chain += load_int64(total, other)
                    for m in range(mine):
                        if load_int64(label, m) == other:
                            store_int64(label, m, mine)
            store_int64(total, mine, chain)
            longest = max(longest, chain)
            time = load_int64(best, i) + max(longest, sum // threads) + overhead
            if sum >= least and time < load_int64(best, j + 1):
                store_int64(best, j + 1, time)
                store_int64(begin, j + 1, i)
            i -= 1
    return 0
"""

# The table of a row that runs lists of rows side by side: `lists`, status, number of the row that
# failed, how many lists, `one`, threads; then for each list [this table, rows, first, last].
_SHARED, _STATUS, _FAILED, _COUNT, _ONE, _TEAM, _HEAD = range(7)
_BESIDE = f"""
def beside(args):
    store_int64(args, {_STATUS}, int64(0))
    run_team(load_int64(args, {_SHARED}), args, load_int64(args, {_TEAM}))
    return load_int64(args, {_STATUS})
"""
# Within a team of its own a thread is number 0 of 1, as rows without a team expect.
_LISTS = f"""
def lists(args):
    one = load_int64(args, {_ONE})
    for which in range(thread_id(), load_int64(args, {_COUNT}), team_size()):
        run_team(one, args + 8 * ({_HEAD} + 4 * which), int64(1))
    return 0
"""
_LIST = f"""
def one(args):
    group, rows = load_int64(args, 0), load_int64(args, 1)
    row, last = load_int64(args, 2), load_int64(args, 3)
    while row < last:
        at = row * 5
        status = call4(
            load_int64(rows, at), load_int64(rows, at + 1), load_int64(rows, at + 2),
            load_int64(rows, at + 3), load_int64(rows, at + 4),
        )
        if status & 0xFFFFFFFF:
            store_int64(group, {_FAILED}, row)
            store_int64(group, {_STATUS}, status)
            last = row
        row += 1
    return 0
"""


_KERNELS = (_CUT, "cut"), (_BESIDE, "beside"), (_LISTS, "lists"), (_LIST, "one")


# ---- which ---------------------------------------------------------------------------------------


def ask(
    items: Sequence[Item], memory: Buffers, sized: Callable[[Value], Array], threads: int
) -> None:
    """Within `jit.deferred`: what `find` and `rows` will need becomes one of those missing."""
    if threads > 1 and any(_runs(items, memory, sized)):
        for kernel in _KERNELS:
            _ = jit.compile_source(*kernel).address


def find(
    items: Sequence[Item], memory: Buffers, sized: Callable[[Value], Array], threads: int
) -> Groups:
    """Of each group the lists of items, by position, that run side by side.

    Lengthens the lives of their buffers; to be called before these get their places.
    """
    found: Groups = []
    for run in _runs(items, memory, sized) if threads > 1 else ():
        used = [_used(items[t], memory) for t, _ in run]
        for lists in _groups([cost for _, cost in run], used, threads):
            group = [[run[i][0] for i in one] for one in lists]
            times = [t for one in group for t in one]
            _lengthen([b for one in lists for i in one for b, _ in used[i]], min(times), max(times))
            found.append(group)
    return found


def pay(
    groups: Groups,
    items: Sequence[Item],
    memory: Buffers,
    sized: Callable[[Value], Array],
    threads: int,
) -> bool:
    """Do groups save enough of a step to be worth more than quick binding to other sizes?"""
    costs = [0.0 if item.step.view else _cost(item, memory, sized) for item in items]
    every = sum(cost if cost < SERIAL_BELOW else cost / threads for cost in costs)
    times = [[sum(costs[t] for t in one) for one in group] for group in groups]
    saved = sum(sum(each) - max(each) - OVERHEAD for each in times)
    return saved * PART > every


def positioned(groups: Groups, items: Sequence[Item]) -> dict[Item, Lists]:
    """First item of a group -> its lists of items."""
    return {
        items[min(map(min, group))]: [[items[t] for t in one] for one in group] for group in groups
    }


def _runs(
    items: Sequence[Item], memory: Buffers, sized: Callable[[Value], Array]
) -> Iterator[list[tuple[int, float]]]:
    """Neighbours without a team that are worth looking at: (position, nanoseconds) of each."""
    run: list[tuple[int, float]] = []
    for t, item in enumerate(items):
        if item.step.view or (item.reorders and memory.is_nothing(item)):
            continue
        cost = _alone(item, memory, sized)
        if cost:
            run.append((t, cost))
            continue
        if _worth(run):
            yield run
        run = []
    if _worth(run):
        yield run


def _worth(run: Sequence[tuple[int, float]]) -> bool:
    return len(run) > 1 and sum(cost for _, cost in run) >= LEAST


def _alone(item: Item, memory: Buffers, sized: Callable[[Value], Array]) -> float:
    """Nanoseconds an item takes at least on one thread; 0 for one that has a team, or may have.

    Libraries share out their work themselves; Python steps and unknown sizes are not looked at.
    """
    if item.prepared is None and not item.reorders:
        return 0.0
    if item.kernel is not None and item.kernel.engine != "numba":
        return 0.0
    if not all(v in memory.of for v in _values(item)):
        return 0.0
    cost = _cost(item, memory, sized)
    return cost if cost < SERIAL_BELOW else 0.0


def _cost(item: Item, memory: Buffers, sized: Callable[[Value], Array]) -> float:
    """Nanoseconds on one thread, at least."""
    nbytes = sum(sized(v).nbytes for v in _values(item) if v in memory.of)
    nbytes += sum(b.nbytes for b in item.packs)
    work = 0.0 if item.prepared is None or item.pack is not None else item.prepared.work
    return max(nbytes / BYTES, work / OPS, 1.0)


def _values(item: Item) -> set[Value]:
    return {*(v for v in item.inputs if v is not None), *item.outputs}


def _used(item: Item, memory: Buffers) -> Used:
    if item.pack is not None:
        return [(memory.of[item.pack[1]], False), (item.packs[0], True)]
    read = [memory.of[v] for v in item.inputs if v is not None] + item.packs
    written = [memory.of[v] for v in item.outputs]
    written += [] if item.scratch is None else [item.scratch]
    return [(b, False) for b in read] + [(b, True) for b in written]


def _lengthen(buffers: Sequence[Buffer], first: int, last: int) -> None:
    for buffer in buffers:
        if not buffer.pinned:
            buffer.first, buffer.last = min(buffer.first, first), max(buffer.last, last)


def _groups(
    costs: Sequence[float], used: Sequence[Used], threads: int
) -> Iterator[list[list[int]]]:
    """Of each stretch that gains by it, what each thread does: positions in the run."""
    begin, clash = _cut(costs, used, threads)
    last = len(costs)
    while last:
        first = int(begin[last])
        lists = _lists(_chains(first, last, clash), costs, threads)
        if lists is not None:
            yield lists
        last = first


def _cut(
    costs: Sequence[float], used: Sequence[Used], threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """(where the stretch that ends before an item begins, which items must follow which)."""
    count, number = len(costs), dict[Buffer, int]()
    uses = [(number.setdefault(b, len(number)), w) for one in used for b, w in one]
    ranges = np.array([(n, n + 1, written) for n, written in uses], np.int64)
    first = np.array([0, *accumulate(map(len, used))], np.int64)
    cost, clash = np.array(costs, np.int64), np.zeros((count, WINDOW), np.int64)
    best, begin = np.zeros((2, count + 1), np.int64)
    label, total = np.zeros((2, WINDOW), np.int64)
    arrays = (ranges, first, cost, clash, best, begin, label, total)
    table = np.array([*(a.ctypes.data for a in arrays), count, threads, OVERHEAD, LEAST], np.int64)
    jit.compile_source(_CUT, "cut")(table.ctypes.data)
    return begin, clash


def _chains(first: int, last: int, clash: np.ndarray) -> list[list[int]]:
    """Positions that must follow each other."""
    chains: list[list[int]] = []
    for j in range(first, last):
        before = {j - 1 - k for k in np.flatnonzero(clash[j, : j - first]).tolist()}
        mine = [chain for chain in chains if before.intersection(chain)]
        chains = [chain for chain in chains if not before.intersection(chain)]
        chains.append(sorted([j, *(i for chain in mine for i in chain)]))
    return chains


def _lists(
    chains: Sequence[Sequence[int]], costs: Sequence[float], threads: int
) -> list[list[int]] | None:
    """Chains shared out to threads; None if that gains nothing."""
    times = [sum(costs[i] for i in chain) for chain in chains]
    shares: list[list[int]] = [[] for _ in range(min(threads, len(chains)))]
    busy = [0.0] * len(shares)
    for n in sorted(range(len(chains)), key=lambda n: -times[n]):  # the longest first
        least = busy.index(min(busy))
        shares[least] += chains[n]
        busy[least] += times[n]
    return [sorted(one) for one in shares] if sum(busy) > max(busy) + OVERHEAD else None


# ---- how -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Beside:
    """Owner of a row that makes several calls: the items behind them, and the row's table."""

    items: Sequence[Item]
    table: Sequence[int]


def behind(owner: Item | Beside) -> Item:
    """The item to which a row belongs that failed."""
    return owner.items[owner.table[_FAILED]] if isinstance(owner, Beside) else owner


def rows(
    calls: Sequence[Call], makers: Sequence[Item], groups: Mapping[Item, Lists], threads: int
) -> tuple[list[Call], list[Item | Beside]]:
    """The rows of a tape that makes these calls, of groups side by side, and who is behind each.

    makers: the item behind each call
    """
    of: dict[Item, list[Call]] = {}
    for item, call in zip(makers, calls, strict=True):
        of.setdefault(item, []).append(call)
    taken: set[Item] = set()
    found: list[Call] = []
    owners: list[Item | Beside] = []
    for item, some in of.items():
        lists = groups.get(item)
        if lists is not None and all(c.alone for one in lists for i in one for c in of.get(i, ())):
            taken.update(i for one in lists for i in one)
            call, owner = _together(
                [[(i, c) for i in one for c in of.get(i, ())] for one in lists], threads
            )
            found.append(call)
            owners.append(owner)
        elif item not in taken:
            found += some
            owners += [item] * len(some)
    return found, owners


def _together(lists: Sequence[Sequence[tuple[Item, Call]]], threads: int) -> tuple[Call, Beside]:
    """One row that makes all these calls, each list on a thread of a whole team."""
    owners = [item for one in lists for item, _ in one]
    calls = [call for one in lists for _, call in one]
    native = array("q", [n for call in calls for n in (call.fn, *call.args)])
    beside, shared, single = jit.compile_many(
        ((_BESIDE, "beside"), (_LISTS, "lists"), (_LIST, "one"))
    )
    table = array("q", [shared.address, 0, 0, len(lists), single.address, threads])
    table.extend([0] * 4 * len(lists))
    address, ends = table.buffer_info()[0], [0, *accumulate(map(len, lists))]
    for n in range(len(lists)):
        at = _HEAD + 4 * n
        table[at : at + 4] = array("q", [address, native.buffer_info()[0], ends[n], ends[n + 1]])
    keep = (table, native, [call.keep for call in calls], beside, shared, single)
    call = Call("side by side", beside.address, (address, 0, 0, 0), keep)
    return call, Beside(owners, table)
