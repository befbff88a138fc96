"""Weights [outputs, inputs, taps] packed as products of matrices read them, channels by channels.

Of the matrix that a tap is, the columns lie in panels, and of bfloat16 two rows together, as the
instructions take them: [panel][tap][rows, or pairs of them][column of the panel], zeros behind the
last column. It is what oneDNN asks for too, and its own copies reach a tenth of the memory's rate.

A word, of 4 bytes, is a number of float32 or a pair. Columns are the outputs, and memory runs along
the rows (WIDTH lines of WIDTH words for each tap are turned in registers), or, for a gradient by
the input, they are the inputs, and memory runs along them.

Pairs may be made of float32, rounded to nearest even on the way: a weight of mixed precision then
never lies in memory as bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from textwrap import indent
from typing import Any

from noria.core.dtypes import itemsize
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.registry import Pack

MOST_TAPS = 16  # moved together, the next ones write over what is too much


@dataclass(frozen=True, slots=True)
class Panels:
    """A layout.

    across: whether memory runs along the columns of a panel
    order:  the taps in the order they are to have, if it is another; where memory runs across only
    given:  the dtype in memory: '' for that of the panels, or float32 for panels of bfloat16
    """

    dtype: str
    rows: int
    columns: int
    taps: int
    panel: int
    across: bool
    order: tuple[int, ...] = ()
    given: str = ""

    @property
    def given_bytes(self) -> int:
        """Of a number in memory."""
        return itemsize(self.given or self.dtype)

    @property
    def words(self) -> int:
        """Words of a column."""
        return self.rows * itemsize(self.dtype) // 4

    @property
    def nbytes(self) -> int:
        return -(-self.columns // self.panel) * self.panel * self.taps * self.words * 4

    @property
    def possible(self) -> bool:
        """Whether `packing` knows how."""
        whole = self.rows * itemsize(self.dtype) % 4 == 0
        fits = self.columns % WIDTH == self.panel % WIDTH == 0 and 0 < self.taps <= MOST_TAPS
        known = self.across or not self.order
        return self.dtype in ("float32", "bfloat16") and whole and fits and known


def pack(position: int, key: Any, panels: Panels, threads: int) -> Pack:
    """The copy as a kernel asks for it; panels of bfloat16 are made of float32 too."""
    nbytes, emit = packing(panels, threads)
    if panels.dtype == "float32":
        return Pack(position, key, nbytes, emit, replaces=True)
    more, full = packing(replace(panels, given="float32"), threads)
    return Pack(position, key, max(nbytes, more), emit, replaces=True, full=full)


def packing(panels: Panels, threads: int) -> tuple[int, Callable[[int, int], list[Call]]]:
    """Bytes of the copy, and what gives the calls from the addresses of the weight and the copy."""
    lines = panels.rows if panels.across else panels.columns
    given = panels.given or panels.dtype
    form = _Form(panels.dtype, given, panels.taps, panels.across, panels.order)
    line_bytes = panels.rows * panels.columns // lines * panels.taps * panels.given_bytes
    place = whole_lines(panels.nbytes)
    room = form.space * max(threads, thread_count())
    moved = panels.nbytes + lines * line_bytes
    text = _source(form)

    def emit(address: int, copy: int) -> list[Call]:
        table = [address, copy, panels.columns, panels.words, line_bytes, panels.panel]
        work = {"threads": threads, "bytes": moved}
        return [launch("numba:weight_panels", text, "panels", [*table, copy + place], **work)]

    return place + room, emit


@dataclass(frozen=True, slots=True)
class _Form:
    """What the text of the kernel depends on."""

    dtype: str
    given: str
    taps: int
    across: bool
    order: tuple[int, ...] = ()

    @property
    def rounds(self) -> bool:
        return self.dtype != self.given

    @property
    def long(self) -> bool:
        """Whether lines become words first, which are then turned: of one tap only."""
        return self.taps == 1 and not self.across

    @property
    def part(self) -> int:
        """Words of a column that a thread takes at once. Longer lines come faster from memory."""
        return 1 if self.across else 4 * WIDTH if self.long else WIDTH

    @property
    def soon(self) -> int:
        """How many words before they are needed lines across are asked for, some KB."""
        return max(8 // self.taps, 1)

    @property
    def line(self) -> int:
        """Bytes of a line of words for each tap, and what is read and written behind it."""
        words = self.part if self.long else WIDTH * self.taps * (1 + self.rounds)
        return 4 * (words + MOST_TAPS)

    @property
    def space(self) -> int:
        """Bytes of a thread: a line as it lies, WIDTH lines of words, and those turned."""
        turned = 4 * WIDTH * WIDTH * (self.taps * (1 + self.rounds) + 1)
        return (WIDTH + 1) * self.line + turned


_SOURCE = f"""
def panels(args):
    source = load_int64(args, 0)
    target = load_int64(args, 1)
    columns = load_int64(args, 2)
    words = load_int64(args, 3)
    line_step = load_int64(args, 4)
    panel = load_int64(args, 5)
    raw = load_int64(args, 6) + thread_id() * SPACE
    lines = raw + LINE
    turned = lines + {WIDTH} * LINE
    team = team_size()
    parts = (words + PART - 1) // PART
    units = (columns + panel - 1) // panel * parts
    for unit in range(units * thread_id() // team, units * (thread_id() + 1) // team):
        number = unit // parts
        word = (unit - number * parts) * PART
        count = min(words - word, PART)
        first = number * panel
        behind = (unit + 1) // parts  # where memory runs along the rows, the unit behind this one
        after_line = source + behind * panel * line_step
        after_line += (unit + 1 - behind * parts) * PART * TAPS * ROWS * SIZE
        for j in range(0, panel, {WIDTH}):
            to = target + ((number * TAPS * words + word) * panel + j) * 4
            if first + j < columns:
WORK
            else:
                for w in range(count):
                    for tap in range(TAPS):
                        fill_bytes(to + (tap * words + w) * panel * 4, 0, {4 * WIDTH})
    return 0
"""
# Memory runs along the rows: a line is a column. WIDTH of them are turned. Lines that come next are
# asked for, since they lie too far apart for the CPU to foresee.
_SOON = f"""
source_line = source + (first + j) * line_step + word * TAPS * ROWS * SIZE
soon = after_line if j + {WIDTH} >= panel else source_line + {WIDTH} * line_step
"""
_DOWN = f"""{_SOON}
for lane in range({WIDTH}):
    line = lines + lane * LINE
    for n in range(0, count * TAPS * 4, 64):
        prefetch(soon + n)
    MAKE
    source_line += line_step
    soon += line_step
for tap in range(TAPS):
    transpose_tile(
        lines + tap * {4 * WIDTH}, LINE, turned + tap * {4 * WIDTH * WIDTH}, {4 * WIDTH}
    )
for w in range(count):
    for tap in range(TAPS):
        from_ = turned + (w * TAPS + tap) * {4 * WIDTH}
        copy_bytes(to + (tap * words + w) * panel * 4, from_, {4 * WIDTH})
"""
_DOWN_PAIRS = f"""
copy_bytes(raw, source_line, count * TAPS * 4)
for w in range(count):
    for tap in range({MOST_TAPS}):
        independent()
        low = load_uint16(raw, 2 * w * TAPS + tap)
        store_uint32(line, w * TAPS + tap, pair(low, load_uint16(raw, (2 * w + 1) * TAPS + tap)))
"""
# The same of one tap.
_DOWN_LONG = f"""{_SOON}
for lane in range({WIDTH}):
    line = lines + lane * LINE
    for n in range(0, count * ROWS * SIZE, 64):
        prefetch(soon + n)
    MAKE
    source_line += line_step
    soon += line_step
for w in range(0, count, {WIDTH}):
    if count - w >= {WIDTH}:
        transpose_tile(lines + 4 * w, LINE, to + w * panel * 4, panel * 4)
    else:
        transpose_tile(lines + 4 * w, LINE, turned, {4 * WIDTH})
        for k in range(count - w):
            copy_bytes(to + (w + k) * panel * 4, turned + k * {4 * WIDTH}, {4 * WIDTH})
"""
_ROUND_LINE = """
for i in range(2 * count):
    independent()
    store_bfloat16(line, i, load_float32(source_line, i))
"""
# The same of float32 and several taps: numbers are turned, and two vectors of them, a tap of two
# rows, rounded to words.
_DOWN_ROUNDED = f"""{_SOON}
from_line = source_line
from_step = line_step
if count < {WIDTH}:
    for lane in range({WIDTH}):
        copy_bytes(lines + lane * LINE, source_line, count * TAPS * 8)
        source_line += line_step
    from_line = lines
    from_step = int64(LINE)
for part in range((2 * count * TAPS + {WIDTH - 1}) // {WIDTH}):
    at = part * {4 * WIDTH}
    for lane in range({WIDTH}):
        prefetch(soon + lane * line_step + at)
    transpose_tile(from_line + at, from_step, turned + at * {WIDTH}, {4 * WIDTH})
for w in range(count):
    for tap in range(TAPS):
        low = turned + (2 * w * TAPS + tap) * {4 * WIDTH}
        target_line = to + (tap * words + w) * panel * 4
        for c in range({WIDTH}):
            independent()
            high = load_float32(low + TAPS * {4 * WIDTH}, c)
            store_uint32(target_line, c, rounded_pair(load_float32(low, c), high))
"""
# Memory runs along the columns of a panel: a line is a row, a word of halves is of two lines.
_ACROSS = f"""
low = source + word * ROWS * line_step + (first + j) * TAPS * SIZE
line = to if TAPS == 1 else lines
for row in range(SOON * ROWS, (SOON + 1) * ROWS):
    for n in range(0, {WIDTH} * TAPS * SIZE, 64):
        prefetch(low + row * line_step + n)
MAKE
if TAPS > 1:
    for part in range(0, TAPS, {WIDTH}):
        transpose_tile(line + part * 4, 4 * TAPS, turned + part * {4 * WIDTH}, {4 * WIDTH})
    PUT
"""
_ACROSS_PAIRS = f"""
for i in range({WIDTH} * TAPS):
    independent()
    store_uint32(line, i, pair(load_uint16(low, i), load_uint16(low + line_step, i)))
"""
_ACROSS_ROUNDED = f"""
for i in range({WIDTH} * TAPS):
    independent()
    store_uint32(line, i, rounded_pair(load_float32(low, i), load_float32(low + line_step, i)))
"""


def _put(order: Sequence[int]) -> str:
    """A line of each tap, to where the order has it."""
    return "\n    ".join(
        f"copy_bytes(to + {place} * words * panel * 4, turned + {tap * 4 * WIDTH}, {4 * WIDTH})"
        for place, tap in enumerate(order)
    )


def _work(form: _Form) -> tuple[str, str]:
    """What is done with WIDTH columns and a part of the words, and what the text calls MAKE."""
    pairs = form.dtype == "bfloat16"
    if form.across:
        work = _ACROSS.replace("PUT", _put(form.order or range(form.taps)))
        if form.rounds:
            return work, _ACROSS_ROUNDED
        return work, _ACROSS_PAIRS if pairs else f"copy_bytes(line, low, {4 * WIDTH} * TAPS)"
    copy = "copy_bytes(line, source_line, count * TAPS * 4)"
    if form.long:
        return _DOWN_LONG, _ROUND_LINE if form.rounds else copy
    if form.rounds:
        return _DOWN_ROUNDED, ""
    return _DOWN, _DOWN_PAIRS if pairs else copy


@cache
def _source(form: _Form) -> str:
    work, make = _work(form)
    work = _filled(work, make.strip())
    text = _SOURCE.replace("\nWORK\n", f"\n{indent(work.strip(), ' ' * 16)}\n")
    numbers = {"SPACE": form.space, "LINE": form.line, "PART": form.part}
    numbers |= {"TAPS": form.taps, "SIZE": itemsize(form.given)}
    numbers |= {"SOON": form.soon}
    numbers |= {"ROWS": 4 // itemsize(form.dtype)}
    for name, number in numbers.items():
        text = text.replace(name, str(number))
    return text


def _filled(work: str, make: str) -> str:
    """The text with another one where it says MAKE, as far in."""
    at = next((s for s in work.splitlines() if s.strip() == "MAKE"), None)
    return work if at is None else work.replace(at, indent(make, at[: -len("MAKE")]))
