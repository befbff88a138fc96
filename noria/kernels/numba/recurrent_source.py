"""Source of the kernels that run a recurrent layer over a ragged batch, forward and backward.

The team is a grid of `groups` x `slices`. Rows, sorted by length, are dealt to the groups; a group
goes through the steps of its rows, and drops those that have ended, which are always the last of
its list. Within a group each member owns a slice of the hidden units, with all their gates, and
reads only that part of the weight; the members meet at each step. One slice: nobody waits.

Units are worked on in blocks of UNITS lanes. Where the size of the layer cuts a block, its lanes
pass through a stage of whole vectors, so that the arithmetic is vectors everywhere.

Arrays of the kernel's own, for each row of each group: `h` and `h_other`, read and written by a
step in turn, and `state`, all padded to whole blocks. The backward kernel has `dz`, the gradients
of each member's gates. They never leave it: a member multiplies them with its rows of the weight,
and of what this makes of the gradient of h, for all units, the members meet to take their own
(`parts`, two in turn). That is a quarter of the memory between cores, if there are four gates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from textwrap import indent

from noria.kernels.numba import gemm
from noria.kernels.numba.recurrent_cells import Cell, Slot, Sweep
from noria.kernels.numba.tile_sizes import PANEL, ROWS, VECTORS, WIDTH

CHUNK = 8 * ROWS  # rows whose product is in the tile buffer at a time
DEPTH = 128  # of a product which several tiles of rows share: its panel stays in the first cache
LINE = 64

# Numbers in the kernel's table besides the arrays of the cell.
NUMBERS = [
    *("weight", "splits", "first", "first_state", "last", "last_state"),
    *("total", "rows", "size", "padded", "reverse", "groups", "slices"),
    *("keys", "counters", "lists", "h", "h_other", "state", "dz", "parts"),
    *("private", "private_size", "product", "begin_step", "end_step"),
]


def units_of(cell: Cell) -> int:
    """Hidden units of a block: with all gates a panel of the product, or some panels."""
    return WIDTH * max(1, VECTORS // cell.gates)


def tile_columns(cell: Cell) -> int:
    """Floats of a row of the tile buffer: the gates of a block, padded to panels."""
    return -(-cell.gates * units_of(cell) // PANEL) * PANEL


def arrays_of(sweep: Sweep) -> list[str]:
    """The arrays whose addresses come first in the kernel's table."""
    return list(dict.fromkeys(s.array for s in (*sweep.loads, *sweep.stores)))


def private_bytes(cell: Cell, sweep: Sweep) -> int:
    """Scratch memory of one thread: zeros, stages, the table of a product, the tile buffer."""
    stages = 1 + len(sweep.loads) + len(sweep.stores) + cell.gates
    nbytes = stages * units_of(cell) * 4 + 8 * gemm.FIELDS + CHUNK * tile_columns(cell) * 4
    return -(-nbytes // LINE) * LINE + LINE


@lru_cache(maxsize=64)  # writing it takes milliseconds, and no size is in it
def source(cell: Cell, backward: bool, splits: str, solo: bool = False) -> str:
    """The kernel `recurrent`, which runs steps begin_step .. end_step - 1.

    splits: dtype of row_splits; solo: called by one thread of a team, for itself. A forward kernel
    goes on where it stopped if begin_step is not 0, and is even.
    """
    sweep = cell.backward if backward else cell.forward
    known = [*arrays_of(sweep), *NUMBERS]
    table = "".join(f"    {name} = load_int64(args, {i})\n" for i, name in enumerate(known))
    lanes = _Lanes(cell, sweep, backward)
    body = _BACKWARD if backward else _FORWARD
    body = re.sub("^( *)WHOLE_LANES$", lambda m: lanes.text(m[1], False), body, flags=re.MULTILINE)
    body = re.sub("^( *)CUT_LANES$", lambda m: lanes.text(m[1], True), body, flags=re.MULTILINE)
    text = f"def recurrent(args):\n{table}{_CHECK}{_SORT}{_DEAL}{body}"
    text = text.replace("MEET", _MEET).replace("SPLITS", splits)
    text = re.sub("^( *)SUM$", lambda m: indent(_SUM.strip(), m[1]), text, flags=re.MULTILINE)
    if solo:
        text = text.replace("thread_id()", "0").replace("team_size()", "1")
        text = text.replace("    barrier()\n", "")
    numbers = {
        "UNITS": units_of(cell),
        "STAGES": lanes.stages,
        "TILE": tile_columns(cell),
        "GATES": cell.gates,
        "ADDS": int(cell.adds),
        "PANEL": PANEL,
        "ROWS": ROWS,
        "CHUNK": CHUNK,
        "DEPTH": DEPTH,
        "LINE": LINE,
        "FIELDS": gemm.FIELDS,
    }
    numbers |= {f"AT_{name}": getattr(gemm, name) for name in _PRODUCT}
    for name, number in numbers.items():
        text = re.sub(rf"\b{name}\b", str(number), text)
    return text


_PRODUCT = (
    *("A", "B", "B_PANEL", "C", "M", "N", "A_ROW", "A_STEP", "B_ROW", "C_ROW", "K"),
    "ACCUMULATE",
)

_CHECK = """
    if load_SPLITS(splits, 0) != 0 or load_SPLITS(splits, rows) != total:
        return 1
    for n in range(rows):
        if load_SPLITS(splits, n + 1) < load_SPLITS(splits, n):
            return 1
"""

# Longest first, by Shell's method (1959) with Knuth's gaps; the keys are lengths, then rows.
_SORT = """
    me = thread_id()
    if me == 0:
        for n in range(rows):
            length = int64(load_SPLITS(splits, n + 1)) - int64(load_SPLITS(splits, n))
            store_int64(keys, n, (length << 32) | n)
        gap = 1
        while gap < rows // 3:
            gap = 3 * gap + 1
        while gap > 0:
            for n in range(gap, rows):
                key = load_int64(keys, n)
                at = n
                while at >= gap and load_int64(keys, at - gap) < key:
                    store_int64(keys, at, load_int64(keys, at - gap))
                    at -= gap
                store_int64(keys, at, key)
            gap //= 3
        fill_bytes(counters, 0, groups * LINE)
    barrier()
"""

# The list of a group: row, length, position of its first step. Dealt to and fro, so that the groups
# have as many steps to do as each other. A team smaller than the grid leaves all to one thread.
_DEAL = """
    alone = team_size() < groups * slices
    if me >= groups * slices or (alone and me > 0):
        return 0
    room = rows // groups + 1
    group = me % groups
    first_slice = me // groups
    last_slice = first_slice + 1
    all_groups = groups
    if alone:
        groups = 1
        last_slice = slices
    blocks = padded // UNITS
    first_block = blocks * first_slice // slices
    last_block = blocks * last_slice // slices
    first_unit = first_block * UNITS
    units = min(last_block * UNITS, size) - first_unit
    lists += me * room * 24
    count = 0
    for i in range(rows // groups + 1):
        at = i * groups + (group if i % 2 == 0 else groups - 1 - group)
        if at < rows:
            key = load_int64(keys, at)
            n = key & 0xFFFFFFFF
            edge = int64(load_SPLITS(splits, n))
            if reverse != 0:
                edge = int64(load_SPLITS(splits, n + 1)) - 1
            store_int64(lists, 3 * i, n)
            store_int64(lists, 3 * i + 1, key >> 32)
            store_int64(lists, 3 * i + 2, edge)
            count = i + 1
    steps = 0
    if count > 0:
        steps = min(load_int64(lists, 1), end_step)
    towards = 1
    if reverse != 0:
        towards = -1
    h += group * room * padded * 4
    h_other += group * room * padded * 4
    state += group * room * padded * 4
    dz += group * room * (size * GATES + slices * (LINE // 4)) * 4
    zeros = private + me * private_size
    stage = zeros + UNITS * 4
    table = stage + STAGES * UNITS * 4
    tile = table + FIELDS * 8
    fill_bytes(zeros, 0, tile - zeros)
    store_int64(table, AT_A_STEP, 4)
    store_int64(table, AT_B_ROW, PANEL * 4)
    counters += group * LINE
    met = 0
    goal = 0
    if slices > 1 and not alone:
        goal = slices
    for i in range(count if begin_step == 0 else 0):
        n = load_int64(lists, 3 * i)
        at = (i * padded + first_unit) * 4
        fill_bytes(h + at, 0, (last_block - first_block) * UNITS * 4)
        fill_bytes(state + at, 0, (last_block - first_block) * UNITS * 4)
"""

# The members of a group wait for each other, at a counter that only grows.
_MEET = """if goal > 0:
            atomic_add(counters, 1)
            met += goal
            turns = 0
            while load_shared(counters) < met:
                turns += 1
                if turns % 64 == 0:
                    yield_thread()
                pause()
"""

_FORWARD = """
        if first != 0:
            copy_bytes(h + at, first + (n * size + first_unit) * 4, units * 4)
        if first_state != 0:
            copy_bytes(state + at, first_state + (n * size + first_unit) * 4, units * 4)
    store_int64(table, AT_B_PANEL, size * PANEL * 4)
    store_int64(table, AT_C, tile)
    store_int64(table, AT_N, GATES * UNITS)
    store_int64(table, AT_A_ROW, padded * 4)
    store_int64(table, AT_C_ROW, TILE * 4)
    active = count
    for t in range(begin_step, steps):
        MEET
        while active > 0 and load_int64(lists, 3 * active - 2) <= t:
            active -= 1
        for block in range(first_block, last_block):
            u = block * UNITS
            lanes = min(UNITS, size - u)
            panel = weight + block * size * TILE * 4
            for begin in range(0, active, CHUNK):
                end = min(begin + CHUNK, active)
                store_int64(table, AT_M, end - begin)
                depth = DEPTH if end - begin > ROWS else size
                for k in range(0, size, depth):
                    store_int64(table, AT_A, h + (begin * padded + k) * 4)
                    store_int64(table, AT_B, panel + k * PANEL * 4)
                    store_int64(table, AT_K, min(depth, size - k))
                    store_int64(table, AT_ACCUMULATE, min(k, 1))
                    call1(product, table)
                for r in range(begin, end if lanes == UNITS else begin):
                    place = load_int64(lists, 3 * r + 2) + towards * t
                    p_tile = tile + (r - begin) * TILE * 4
                    at = (r * padded + u) * 4
                    p_h = h + at
                    p_next = h_other + at
                    p_state = state + at
                    WHOLE_LANES
                for r in range(end if lanes == UNITS else begin, end):
                    place = load_int64(lists, 3 * r + 2) + towards * t
                    p_tile = tile + (r - begin) * TILE * 4
                    at = (r * padded + u) * 4
                    p_h = h + at
                    p_next = h_other + at
                    p_state = state + at
                    CUT_LANES
        swap = h
        h = h_other
        h_other = swap
    return 0
"""

_BACKWARD = """
    store_int64(table, AT_B_PANEL, 0)
    store_int64(table, AT_C_ROW, padded * 4)
    columns = (size + PANEL - 1) // PANEL * PANEL
    parts += group * slices * room * padded * 4
    half = all_groups * slices * room * padded * 4
    active = count
    for t in range(begin_step, steps):
        if t > begin_step:
            SUM
        while active > 0 and load_int64(lists, 3 * active - 2) <= t:
            active -= 1
        for slice in range(first_slice, last_slice):
            begin = blocks * slice // slices * UNITS
            width = min(blocks * (slice + 1) // slices * UNITS, size) - begin
            lanes = width % UNITS  # of the last block, if it is cut
            line = (width * GATES + LINE // 4) * 4
            handed = dz + (begin * GATES + slice * (LINE // 4)) * room * 4
            for r in range(active):
                place = load_int64(lists, 3 * r + 2) + towards * t
                ends = load_int64(lists, 3 * r + 1) == t + 1
                for u in range(begin, begin + width - lanes, UNITS):
                    at = (r * padded + u) * 4
                    p_dh = h + at
                    p_state = state + at
                    WHOLE_LANES
            for r in range(active if lanes > 0 else 0):
                place = load_int64(lists, 3 * r + 2) + towards * t
                ends = load_int64(lists, 3 * r + 1) == t + 1
                u = begin + width - lanes
                at = (r * padded + u) * 4
                p_dh = h + at
                p_state = state + at
                CUT_LANES
        to = h
        if goal > 0:
            to = parts + t % 2 * half + first_slice * room * padded * 4
        store_int64(table, AT_M, active)
        for slice in range(first_slice, last_slice):
            begin = blocks * slice // slices * UNITS
            width = min(blocks * (slice + 1) // slices * UNITS, size) - begin
            handed = dz + (begin * GATES + slice * (LINE // 4)) * room * 4
            panel = weight + begin * GATES * columns * 4
            adds = 0
            if goal == 0:
                adds = max(ADDS, slice - first_slice)
            depth = DEPTH if active > ROWS else width * GATES
            store_int64(table, AT_A_ROW, (width * GATES + LINE // 4) * 4)
            for u in range(0, size, PANEL):
                store_int64(table, AT_C, to + u * 4)
                store_int64(table, AT_N, min(PANEL, size - u))
                for k in range(0, width * GATES, depth):
                    store_int64(table, AT_A, handed + k * 4)
                    store_int64(table, AT_B, panel + k * PANEL * 4)
                    store_int64(table, AT_K, min(depth, width * GATES - k))
                    store_int64(table, AT_ACCUMULATE, min(adds + k, 1))
                    call1(product, table)
                panel += width * GATES * PANEL * 4
        MEET
    t = steps
    if steps > begin_step:
        SUM
    for i in range(count):
        to = (load_int64(lists, 3 * i) * size + first_unit) * 4
        at = (i * padded + first_unit) * 4
        copy_bytes(last + to, h + at, units * 4)
        if last_state != 0:
            copy_bytes(last_state + to, state + at, units * 4)
    return 0
"""

# The gradient of h, of a member's units: the sum of what the members of its group found from the
# gates of theirs, in the step before, which `active` rows had.
_SUM = """
for slice in range(slices if goal > 0 else 0):
    found = parts + (t - 1) % 2 * half + slice * room * padded * 4
    for r in range(active):
        at = (r * padded + first_unit) * 4
        p_dh = h + at
        p_found = found + at
        for l in range(units if slice == 0 and ADDS == 0 else 0):
            independent()
            store_float32(p_dh, l, load_float32(p_found, l))
        for l in range(0 if slice == 0 and ADDS == 0 else units):
            independent()
            store_float32(p_dh, l, load_float32(p_dh, l) + load_float32(p_found, l))
"""


class _Lanes:
    """The lines of a cell for one block of one row, between pointers and stages."""

    def __init__(self, cell: Cell, sweep: Sweep, backward: bool) -> None:
        gates = range(cell.gates) if backward else ()
        handed = tuple(Slot(f"dz{k}", "handed", cell.gates, k, at="handed") for k in gates)
        self.loads, self.stores = sweep.loads, (*sweep.stores, *handed)
        self.stages = len(self.loads) + len(self.stores)
        self.product, self.lines = cell.product, sweep.lines
        self.local = set(re.findall(r"^(\w+) = ", sweep.lines, re.MULTILINE))

    def text(self, indent: str, staged: bool) -> str:
        """staged: the block is cut; without, nothing is called and all stays in registers."""
        slots = (*self.loads, *self.stores)
        lines = [line for s in slots for line in _pointer(s)]
        if staged:
            stages = {s.name: f"stage + {k} * UNITS * 4" for k, s in enumerate(slots)}
            for s in self.loads:
                lines.append(f"copy_bytes({stages[s.name]}, p_{s.name}, lanes * 4)")
            lines += [f"to_{s.name} = p_{s.name}" for s in self.stores]
            lines += [f"p_{name} = {at}" for name, at in stages.items()]
        else:
            lines += _asked(self.loads, self.stores)
        lines += ["for l in range(UNITS):", "    independent()"]
        lines += [
            f"    {made}" for line in self.lines.split("\n") if line for made in self._c(line)
        ]
        if staged:
            lines += [f"copy_bytes(to_{s.name}, p_{s.name}, lanes * 4)" for s in self.stores]
        return "\n".join(indent + line for line in lines)

    def _c(self, line: str) -> list[str]:
        """A line of a cell as kernel source."""
        line = re.sub(r"\bLOAD\((\w+)\)", r"load_float32(p_\1, l)", line)
        line = re.sub(r"\bGATE\((\d)\)", r"load_float32(p_tile, \1 * UNITS + l)", line)
        line = re.sub(r"^STORE\((\w+), ", r"store_float32(p_\1, l, ", line)
        for name in self.local:
            line = re.sub(rf"\b{name}\b", f"v_{name}", line)
        handed = re.match(r"OUT\((\d), (.*)\)$", line)
        if not handed:
            return [line]
        k, value = handed.groups()
        return [
            f"d{k} = {value}",
            f"store_float32(p_{self.product}{k}, l, d{k})",
            f"store_float32(p_dz{k}, l, d{k})",
        ]


def _asked(loads: Sequence[Slot], stores: Sequence[Slot]) -> list[str]:
    """Lines that have what a row's next step reads and writes brought in behind the next product.

    What a step reads of the step before is what that one reads as its own: it lies a step further.
    """
    further = {s.array for s in loads if s.at == "before"}
    lines = []
    for how, slots in (("", loads), ("_to_write", stores)):
        for s in slots:
            steps = {"step": 1 + (s.array in further), "before": 0}.get(s.at, 0)
            if steps:
                lines.append(f"prefetch{how}(p_{s.name} + towards * {4 * steps * s.blocks} * size)")
    return lines


def _pointer(slot: Slot) -> list[str]:
    """Lines that set p_NAME to the lanes of a block in an array."""
    start = f"p_{slot.name} = {slot.array} + "
    if slot.at == "all":
        return [f"{start}({slot.block} * size + u) * 4"]
    if slot.at == "handed":
        return [f"{start}r * line + ({slot.block} * width + u - begin) * 4"]
    if slot.at == "step":
        return [f"{start}((place * {slot.blocks} + {slot.block}) * size + u) * 4"]
    return [
        f"p_{slot.name} = zeros",
        "if not ends:",
        f"    {start}((place + towards) * size + u) * 4",
        "elif first != 0:",
        f"    p_{slot.name} = first + (load_int64(lists, 3 * r) * size + u) * 4",
    ]
