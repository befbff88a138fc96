"""The weight of a recurrent layer in panels, as the products of its kernel read it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from noria.kernels.call import Call
from noria.kernels.numba import gemm
from noria.kernels.numba.halves import widened_pack
from noria.kernels.numba.launch import launch
from noria.kernels.numba.tile_sizes import PANEL, WIDTH
from noria.kernels.registry import Array, Pack

# The weight [GATES * size, size] as the forward product reads it: for each block of units panels of
# [size, PANEL], whose columns are the UNITS rows of gate 0, then those of gate 1 and so on. A word
# of halves is two that follow each other in a row of the weight, the last one perhaps half empty.
_PACK = """
def pack(args):
    weight = load_int64(args, 0)
    packed = load_int64(args, 1)
    size = load_int64(args, 2)
    gates = load_int64(args, 3)
    units = load_int64(args, 4)
    tile = load_int64(args, 5)
    blocks = (size + units - 1) // units
    row = size * BYTES
    full = row // 4
    words = (row + 3) // 4
    team = team_size()
    for block in range(blocks * thread_id() // team, blocks * (thread_id() + 1) // team):
        for column in range(0, gates * units, WIDTH):
            unit = block * units + column % units
            some = max(min(size - unit, WIDTH), 0)
            source = weight + ((column // units) * size + unit) * row
            target = packed + block * tile * words * 4
            target += (column // PANEL) * words * PANEL * 4 + (column % PANEL) * 4
            whole = 0
            if some == WIDTH:
                whole = full - full % WIDTH
            for k in range(0, whole, WIDTH):
                transpose_tile(source + k * 4, row, target + k * PANEL * 4, PANEL * 4)
            for k in range(whole, words):
                for j in range(some if k < full else 0):
                    store_uint32(target, k * PANEL + j, load_uint32(source + j * row, k))
                for j in range(0 if k < full else some):
                    last = load_uint16(source + j * row, 2 * k)
                    store_uint32(target, k * PANEL + j, pair(last, uint16(0)))
                fill_bytes(target + (k * PANEL + some) * 4, 0, (WIDTH - some) * 4)
    return 0
"""

# The same weight as the backward product reads it: for each slice of units its rows of all gates,
# in panels of columns; of halves a word is of two rows.
_PACK_BACKWARD = """
def pack_backward(args):
    weight = load_int64(args, 0)
    packed = load_int64(args, 1)
    size = load_int64(args, 2)
    gates = load_int64(args, 3)
    units = load_int64(args, 4)
    slices = load_int64(args, 5)
    blocks = (size + units - 1) // units
    panels = (size + PANEL - 1) // PANEL
    team = team_size()
    for number in range(thread_id(), slices * panels, team):
        slice = number // panels
        u = number % panels * PANEL
        some = min(PANEL, size - u)
        begin = blocks * slice // slices * units
        width = min(blocks * (slice + 1) // slices * units, size) - begin
        words = (width * gates + WORD - 1) // WORD
        at = packed + (begin * gates // WORD * panels + words * (number % panels)) * PANEL * 4
ALL_ROWS
    return 0
"""
_ALL_ROWS = """
        for gate in range(gates):
            for k in range(gate * size + begin, gate * size + begin + width):
                copy_bytes(at, weight + (k * size + u) * 4, some * 4)
                fill_bytes(at + some * 4, 0, (PANEL - some) * 4)
                at += PANEL * 4
"""
# Behind the last row of a gate comes the first one of the next.
_ALL_PAIRS = """
        low = weight + (begin * size + u) * 2
        jump = (size - width) * size * 2
        row = 0
        for k in range(0, width * gates, 2):
            high = low + size * 2
            row += 1
            if row == width:
                high += jump
                row = 0
            if k + 1 < width * gates:
                for j in range(some):
                    independent()
                    store_uint32(at, j, pair(load_uint16(low, j), load_uint16(high, j)))
            else:
                for j in range(some):
                    store_uint32(at, j, pair(load_uint16(low, j), uint16(0)))
            low = high + size * 2
            row += 1
            if row == width:
                low += jump
                row = 0
            fill_bytes(at + some * 4, 0, (PANEL - some) * 4)
            at += PANEL * 4
"""


@cache
def _with_numbers(text: str, word: int) -> str:
    """word: numbers of a word of the packed weight."""
    text = text.replace("ALL_ROWS", (_ALL_ROWS if word == 1 else _ALL_PAIRS).strip("\n"))
    known = {"PANEL": PANEL, "WIDTH": WIDTH, "WORD": word, "BYTES": 4 // word}
    for name, number in known.items():
        text = text.replace(name, str(number))
    return text


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight [gates * size, size] of one or more phases; a pack is of those gates of it that
    belong to a phase, of which `gate` is the first.

    input: which one of the operator it is
    units: of a block; word: numbers of a word of the packed weight
    given: the weight, if it must be widened before it is packed
    """

    input: int
    size: int
    units: int
    word: int
    threads: int
    given: Array | None

    def forward(self, gates: int, gate: int, tile: int) -> Pack:
        """tile: columns of the panels of a block."""
        rest = [self.size, gates, self.units, tile]
        nbytes = -(-self.size // self.units) * tile * -(-self.size // self.word) * 4
        key = ("forward", self.units, gates, gate)
        return self._pack("pack", _PACK, key, rest, nbytes, gate)

    def backward(self, gates: int, gate: int, slices: int) -> Pack:
        """slices: of units, each of which has its rows by itself."""
        rest = [self.size, gates, self.units, slices]
        nbytes = gemm.packed_bytes(-(-gates * self.size // self.word), self.size)
        key = ("backward", self.units, slices, gates, gate)
        return self._pack("pack_backward", _PACK_BACKWARD, key, rest, nbytes, gate)

    def _pack(
        self,
        entry: str,
        text: str,
        key: tuple[str | int, ...],
        rest: list[int],
        nbytes: int,
        gate: int,
    ) -> Pack:
        skipped = 4 // self.word * gate * self.size**2
        text = _with_numbers(text, self.word)

        def emit(address: int, copy: int) -> list[Call]:
            table, name = [address + skipped, copy, *rest], f"numba:{entry}"
            return [launch(name, text, entry, table, threads=self.threads, bytes=2 * nbytes)]

        made = Pack(self.input, ("recurrent", self.word, *key), nbytes, emit)
        return made if self.word == 2 else widened_pack(made, self.given, self.threads)
