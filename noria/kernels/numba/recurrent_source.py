"""Source of the kernels that run a recurrent layer over a ragged batch, forward and backward.

The work is a grid of `groups` x `slices`. Rows, sorted by length, are dealt to the groups; a group
goes through the steps of its rows, and drops those that have ended, which are always the last of
its list. Within a group each member owns a slice of the hidden units, with all their gates, and
reads only that part of the weight; the members meet at each step. With one slice nobody waits: the
threads take the groups, of which there may be more than threads, as they become free.

Units are worked on in blocks of UNITS lanes. Where the size of the layer cuts a block, its lanes
pass through a stage of whole vectors, so that the arithmetic is vectors everywhere.

Arrays of the kernel's own, for each row of each group at work: `h` and `h_other`, read and written
by a step in turn, and `state`, all padded to whole blocks. A cell of two phases makes of `h` first
`h_other`, then of that `h` in place, and meets in between; backwards its rows have one thread each.
The backward kernel has `dz`, the gradients of each member's gates. They never leave it: a member
multiplies them with its rows of the weight, and of what this makes of the gradient of h, for all
units, the members meet to take their own (`parts`, two in turn). That is a quarter of the memory
between cores, if there are four gates.

Where the weight is bfloat16, so are `h` and `dz`, and products take two numbers at a time where the
CPU does; gates, states and sums are float32, and arrays of the op are what `Kinds` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from textwrap import indent

from noria.core.dtypes import itemsize
from noria.kernels.numba import gemm
from noria.kernels.numba.lines import LINE, whole_lines
from noria.kernels.numba.recurrent_cells import Cell, Slot, Sweep
from noria.kernels.numba.recurrent_texts import (
    BACKWARD,
    BACKWARD_PHASED,
    CLEAR,
    CLEAR_HANDED,
    DEAL,
    FIRST,
    FIRST_ROUNDED,
    FORWARD,
    LAST,
    LAST_ROUNDED,
    MEET,
    NEXT,
    PHASE,
    PHASE_BACKWARD,
    ROLE,
    SORT,
    SUM,
    SWAP,
)
from noria.kernels.numba.texts import CHECK_SPLITS, reading
from noria.kernels.numba.tile_sizes import PANEL, ROWS, VECTORS, WIDTH

CHUNK = 8 * ROWS  # rows whose product is in the tile buffer at a time
DEPTH = 128  # of a product which several tiles of rows share: its panel stays in the first cache

# Numbers in the kernel's table besides the arrays of the cell.
NUMBERS = [
    *("weight", "second_weight", "splits", "first", "first_state", "last", "last_state"),
    *("total", "rows", "size", "padded", "reverse", "groups", "slices"),
    *("members", "room"),
    *("keys", "counters", "lists", "h", "h_other", "state", "dz", "parts"),
    *("private", "private_size", "product", "begin_step", "end_step"),
]


@dataclass(frozen=True, slots=True)
class Kinds:
    """halves: arrays that are bfloat16; pairs: whether products are of words of two such."""

    halves: frozenset[str] = frozenset()
    pairs: bool = False

    def of(self, array: str) -> str:
        """The dtype of an array of the op, of `handed` or of `next`."""
        half = array in self.halves or (self.pairs and array in ("handed", "next"))
        return "bfloat16" if half else "float32"

    def numbers(self, backward: bool) -> dict[str, int]:
        """What the texts need: numbers of a word, bytes of h, of dz, and between slices of dz."""
        word = 2 if self.pairs else 1
        h = 4 if backward else 4 // word
        return {"WORD": word, "H_BYTES": h, "DZ_BYTES": 4 // word, "SPACE": word * LINE}


FLOAT32 = Kinds()


def units_of(cell: Cell) -> int:
    """Hidden units of a block: with all gates a panel of the product, or some panels."""
    return WIDTH * max(1, VECTORS // (1 if cell.phased else cell.gates))


def tile_columns(cell: Cell) -> int:
    """Floats of a row of the tile buffer: the gates of a block, padded to panels."""
    return -(-cell.gates * units_of(cell) // PANEL) * PANEL


def sweeps_of(cell: Cell, backward: bool) -> list[Sweep]:
    """All sweeps of a direction."""
    cells = [cell] if cell.second is None else [cell, cell.second]
    return [c.backward if backward else c.forward for c in cells]


def arrays_of(*sweeps: Sweep) -> list[str]:
    """The arrays whose addresses come first in the kernel's table."""
    slots = [slot for sweep in sweeps for slot in (*sweep.loads, *sweep.stores)]
    return list(dict.fromkeys(s.array for s in slots))


def private_bytes(cell: Cell, *sweeps: Sweep) -> int:
    """Scratch memory of one thread: zeros, stages, the table of a product, the tile buffer."""
    stages = 1 + max(len(s.loads) + len(s.stores) for s in sweeps) + cell.gates
    table = whole_lines(8 * gemm.FIELDS)  # the tile begins at a line of memory
    nbytes = stages * units_of(cell) * 4 + table + CHUNK * tile_columns(cell) * 4
    return whole_lines(nbytes) + LINE


@lru_cache(maxsize=64)  # writing it takes milliseconds, and no size is in it
def source(
    cell: Cell, backward: bool, splits: str, solo: bool = False, kinds: Kinds = FLOAT32
) -> str:
    """The kernel `recurrent`, which runs steps begin_step .. end_step - 1.

    splits: dtype of row_splits; kinds: dtypes of the other arrays; solo: called by one thread of a
    team, for itself. A forward kernel goes on where it stopped if begin_step is not 0, and is even.
    """
    known = [*arrays_of(*sweeps_of(cell, backward)), *NUMBERS]
    table = reading(*known) + CHECK_SPLITS
    body, stages = _backward(cell, kinds) if backward else _forward(cell, kinds)
    role = ROLE
    if backward and kinds.pairs:
        role = role.replace("    queue = counters\n", f"{CLEAR_HANDED[1:]}    queue = counters\n")
    text = f"def recurrent(args):\n{table}{SORT}{role}{DEAL}{indent(body, '    ')}{NEXT}"
    first = FIRST_ROUNDED if kinds.pairs else FIRST
    last = LAST_ROUNDED if "last" in kinds.halves else LAST
    for name, lines in (("MEET", MEET), ("SUM", SUM), ("FIRST", first), ("LAST", last)):
        put = partial(_put, lines.strip())
        text = re.sub(f"^( *){name}$", put, text, flags=re.MULTILINE)
    text = text.replace("SPLITS", splits)
    if solo:
        text = text.replace("thread_id()", "0").replace("team_size()", "1")
        text = text.replace("    barrier()\n", "")
    numbers = {
        "UNITS": units_of(cell),
        "STAGES": stages,
        "GATES": cell.gates,
        "ADDS": int(cell.adds),
        "PANEL": PANEL,
        "ROWS": ROWS,
        "CHUNK": CHUNK,
        "DEPTH": DEPTH,
        "LINE": LINE,
        "FIELDS": gemm.FIELDS,
        **kinds.numbers(backward),
    }
    numbers |= {f"AT_{name}": getattr(gemm, name) for name in _PRODUCT}
    for name, number in numbers.items():
        text = re.sub(rf"\b{name}\b", str(number), text)
    return text


def _put(lines: str, found: re.Match[str]) -> str:
    return indent(lines, found[1])


def _forward(cell: Cell, kinds: Kinds) -> tuple[str, int]:
    """(the text of the steps, stages it needs)."""
    if cell.second is None:
        text, stages = _phase(cell, kinds, "h", "weight", "h_other")
        clear = CLEAR if kinds.pairs else "\n"
        return clear + FORWARD[1:].replace("PHASES\n", text + SWAP.lstrip("\n")), stages
    one, stages = _phase(cell, kinds, "h", "weight", "h_other")
    two, more = _phase(cell.second, kinds, "h_other", "second_weight", "h")
    return FORWARD.replace("PHASES\n", f"{one}        MEET\n{two}"), max(stages, more)


def _phase(cell: Cell, kinds: Kinds, given: str, matrix: str, to: str) -> tuple[str, int]:
    lanes = _Lanes(cell, cell.forward, False, kinds)
    text = _with_lanes(PHASE.lstrip("\n"), lanes)
    names = {"GIVEN": given, "MATRIX": matrix, "NEXT": to, "TILE": str(tile_columns(cell))}
    names["COLUMNS"] = str(cell.gates * units_of(cell))
    for name, value in names.items():
        text = re.sub(rf"\b{name}\b", value, text)
    return text, lanes.stages


def _backward(cell: Cell, kinds: Kinds) -> tuple[str, int]:
    if cell.second is None:
        lanes = _Lanes(cell, cell.backward, True, kinds)
        return _with_lanes(BACKWARD, lanes), lanes.stages
    two, stages = _phase_backward(cell.second, "second_weight", "state")
    one, more = _phase_backward(cell, "weight", "h")
    return BACKWARD_PHASED.replace("PHASES\n", two + one), max(stages, more)


def _phase_backward(cell: Cell, matrix: str, result: str) -> tuple[str, int]:
    lanes = _Lanes(cell, cell.backward, True, FLOAT32)
    text = _with_lanes(PHASE_BACKWARD.lstrip("\n"), lanes)
    names = {"COLUMNS": f"size * {cell.gates}", "MATRIX": matrix, "RESULT": result}
    names["ADDS"] = str(int(cell.adds))
    for name, value in names.items():
        text = re.sub(rf"\b{name}\b", value, text)
    return text, lanes.stages


def _with_lanes(text: str, lanes: _Lanes) -> str:
    for name, staged in (("WHOLE_LANES", False), ("CUT_LANES", True)):
        put = partial(_indented, lanes, staged)
        text = re.sub(f"^( *){name}$", put, text, flags=re.MULTILINE)
    return text


def _indented(lanes: _Lanes, staged: bool, found: re.Match[str]) -> str:
    return lanes.text(found[1], staged)


_PRODUCT = (
    *("A", "B", "B_PANEL", "C", "M", "N", "A_ROW", "A_STEP", "B_ROW", "C_ROW", "K"),
    "ACCUMULATE",
)


class _Lanes:
    """The lines of a cell for one block of one row, between pointers and stages."""

    def __init__(self, cell: Cell, sweep: Sweep, backward: bool, kinds: Kinds) -> None:
        gates = range(cell.gates) if backward else ()
        handed = tuple(Slot(f"dz{k}", "handed", cell.gates, k, at="handed") for k in gates)
        self.loads, self.stores = sweep.loads, (*sweep.stores, *handed)
        self.stages = len(self.loads) + len(self.stores)
        self.product, self.lines = cell.product, sweep.lines
        self.local = set(re.findall(r"^(\w+) = ", sweep.lines, re.MULTILINE))
        self.kinds = {s.name: kinds.of(s.array) for s in (*self.loads, *self.stores)}
        self.kinds["next"] = kinds.of("next")

    def kind(self, name: str) -> str:
        """The dtype behind p_NAME."""
        return self.kinds.get(name, "float32")

    def text(self, indent: str, staged: bool) -> str:
        """staged: the block is cut; without, nothing is called and all stays in registers."""
        slots = (*self.loads, *self.stores)
        size = {s.name: itemsize(self.kinds[s.name]) for s in slots}
        lines = [line for s in slots for line in _pointer(s, size[s.name])]
        if staged:
            stages = {s.name: f"stage + {k} * UNITS * 4" for k, s in enumerate(slots)}
            for s in self.loads:
                lines.append(f"copy_bytes({stages[s.name]}, p_{s.name}, lanes * {size[s.name]})")
            lines += [f"to_{s.name} = p_{s.name}" for s in self.stores]
            lines += [f"p_{name} = {at}" for name, at in stages.items()]
        else:
            lines += _asked(self.loads, self.stores, size)
        lines += ["for l in range(UNITS):", "    independent()"]
        lines += [
            f"    {made}" for line in self.lines.split("\n") if line for made in self._c(line)
        ]
        if staged:
            for s in self.stores:
                lines.append(f"copy_bytes(to_{s.name}, p_{s.name}, lanes * {size[s.name]})")
        return "\n".join(indent + line for line in lines)

    def _c(self, line: str) -> list[str]:
        """A line of a cell as kernel source."""
        line = re.sub(r"\bLOAD\((\w+)\)", lambda m: f"load_{self.kind(m[1])}(p_{m[1]}, l)", line)
        line = re.sub(r"\bGATE\((\d)\)", r"load_float32(p_tile, \1 * UNITS + l)", line)
        line = re.sub(r"^STORE\((\w+), ", lambda m: f"store_{self.kind(m[1])}(p_{m[1]}, l, ", line)
        for name in self.local:
            line = re.sub(rf"\b{name}\b", f"v_{name}", line)
        handed = re.match(r"OUT\((\d), (.*)\)$", line)
        if not handed:
            return [line]
        k, value = handed.groups()
        return [
            f"d{k} = {value}",
            f"store_{self.kind(self.product + k)}(p_{self.product}{k}, l, d{k})",
            f"store_{self.kind('dz' + k)}(p_dz{k}, l, d{k})",
        ]


def _asked(loads: Sequence[Slot], stores: Sequence[Slot], size: Mapping[str, int]) -> list[str]:
    """Lines that have what a row's next step reads and writes brought in behind the next product.

    What a step reads of the step before is what that one reads as its own: it lies a step further.
    """
    before = {s.array for s in loads if s.at == "before"}
    lines = []
    for how, slots in (("", loads), ("_to_write", stores)):
        for s in slots:
            steps = {"step": 1 + (s.array in before), "before": 0}.get(s.at, 0)
            if steps:
                further = steps * s.blocks * size[s.name]
                lines.append(f"prefetch{how}(p_{s.name} + towards * {further} * size)")
    return lines


def _pointer(slot: Slot, size: int) -> list[str]:
    """Lines that set p_NAME to the lanes of a block in an array of elements of so many bytes."""
    start = f"p_{slot.name} = {slot.array} + "
    if slot.at == "all":
        return [f"{start}({slot.block} * size + u) * {size}"]
    if slot.at == "handed":
        return [f"{start}r * line + ({slot.block} * width + u - begin) * {size}"]
    if slot.at == "step":
        return [f"{start}((place * {slot.blocks} + {slot.block}) * size + u) * {size}"]
    return [
        f"p_{slot.name} = zeros",
        "if not ends:",
        f"    {start}((place + towards) * size + u) * {size}",
        "elif first != 0:",
        f"    p_{slot.name} = first + (load_int64(lists, 3 * r) * size + u) * {size}",
    ]
