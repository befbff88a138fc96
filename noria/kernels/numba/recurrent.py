"""LSTM, GRU and plain recurrent layers: `recurrent_source.py` bound to real sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import gemm, jit, parallel
from noria.kernels.numba import recurrent_cells as cells
from noria.kernels.numba.halves import HALF
from noria.kernels.numba.jit import NativeFunction
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import LINE, whole_lines
from noria.kernels.numba.recurrent_cells import Cell
from noria.kernels.numba.recurrent_grid import Grid, choose_grid
from noria.kernels.numba.recurrent_packs import Weight
from noria.kernels.numba.recurrent_source import (
    FLOAT32,
    NUMBERS,
    Kinds,
    arrays_of,
    private_bytes,
    source,
    sweeps_of,
    tile_columns,
    units_of,
)
from noria.kernels.numba.tile_sizes import PAIRS, ROWS
from noria.kernels.registry import Array, BoundOp, Declined, Kernel, Pack, Prepared, register
from noria.kernels.traced import known

IDS = ("int64", "int32")


class Direction:
    """All of a cell's kernel in one direction that no size is part of; see `recurrent_source`.

    kinds: dtypes of its arrays; numbers: what follows from them
    fields: names of the numbers in its table, in order; nothing: 0 for each
    """

    def __init__(self, cell: Cell, backward: bool, kinds: Kinds) -> None:
        self.cell, self.backward, self.units = cell, backward, units_of(cell)
        self.kinds, self.numbers = kinds, kinds.numbers(backward)
        self.gates = cell.gates + (cell.second.gates if cell.second else 0)
        sweeps = sweeps_of(cell, backward)
        self.private = private_bytes(cell, *sweeps)
        self.fields = [*arrays_of(*sweeps), *NUMBERS]
        self.nothing = dict.fromkeys(self.fields, 0)
        self._texts: dict[tuple[str, bool], str] = {}

    def source(self, splits: str, solo: bool) -> str:
        """The kernel; splits: dtype of row_splits."""
        key = splits, solo
        if key not in self._texts:
            self._texts[key] = source(self.cell, self.backward, splits, solo, self.kinds)
        return self._texts[key]


class Places:
    """How a team shares rows of a layer, and where its scratch memory has what: the same for any
    number of steps.

    room: for the rows of a group; members: of the team; offsets: in scratch memory, by name
    """

    def __init__(self, way: Direction, rows: int, size: int, threads: int) -> None:
        blocks = -(-size // way.units)
        word, h, dz, space = (way.numbers[n] for n in ("WORD", "H_BYTES", "DZ_BYTES", "SPACE"))
        grid = choose_grid(rows, blocks, 4 // word * way.gates * way.units * size, threads)
        if way.backward and way.cell.second is not None:
            grid = Grid(grid.groups, 1)
        groups, slices = grid.groups, grid.slices
        self.grid, self.blocks = grid, blocks
        self.members = groups * slices if slices > 1 else min(groups, threads)
        self.room = -(-rows // (groups * ROWS)) * ROWS
        padded, team = blocks * way.units, self.members
        slots = self.room * (team // slices)
        gates = way.cell.gates * size
        parts = 8 * slots * slices * padded if way.backward and slices > 1 else 0
        sizes = {
            "keys": 8 * rows,
            "counters": LINE * (1 + groups),
            "lists": 24 * max(self.room * team, rows + 1),
            "h": h * slots * padded,
            "h_other": 0 if way.backward else h * slots * padded,
            "state": 4 * slots * padded,
            "dz": slots * (dz * gates + space * slices) if way.backward else 0,
            "parts": parts,
            "private": way.private * team,
        }
        self.offsets, at = dict[str, int](), 0
        for name, nbytes in sizes.items():
            self.offsets[name] = at
            at += whole_lines(nbytes)
        self.scratch = at


@lru_cache(maxsize=256)
def places(way: Direction, rows: int, size: int, threads: int) -> Places:
    """The same for the same numbers."""
    return Places(way, rows, size, threads)


@lru_cache(maxsize=64)
def direction(cell: Cell, backward: bool, kinds: Kinds = FLOAT32) -> Direction:
    """The same for the same cell and dtypes."""
    return Direction(cell, backward, kinds)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a bound layer: packed steps, rows, hidden units; dtype of row_splits."""

    total: int
    rows: int
    size: int
    splits: str


class Layer:
    """A bound layer: its grid, its scratch memory, its packed weight, its row of the tape.

    weight: which input of the op the recurrent weight is
    threads: of the team; solo: the kernel is called by one of them, which does all of the layer
    given: the weight, if it must be widened before it is packed
    """

    def __init__(
        self,
        way: Direction,
        sizes: Sizes,
        weight: int,
        threads: int,
        *,
        solo: bool = False,
        given: Array | None = None,
    ) -> None:
        self.way, self.cell, self.backward = way, way.cell, way.backward
        self.weight, self.solo, self.given = weight, solo, given
        self.total, self.rows, self.size = sizes.total, sizes.rows, sizes.size
        self.splits = sizes.splits
        if max(self.total, self.rows) >> 31:
            raise Declined("rows or steps need more than 31 bits")
        self.units = way.units
        self.work = 2 * self.total * way.gates * self.size**2
        self.threads = threads if parallel.worthwhile(ops=self.work) and not solo else 1
        found = places(way, known(self.rows), self.size, self.threads)
        self.grid, self.blocks, self.offsets = found.grid, found.blocks, found.offsets
        self.members, self.room, self.scratch = found.members, found.room, found.scratch

    def packs(self) -> list[Pack]:
        """The weight as the products read it: of each phase its rows."""
        word, second = self.way.numbers["WORD"], self.cell.second
        weight = Weight(self.weight, self.size, self.units, word, self.threads, self.given)

        def pack(cell: Cell, gate: int) -> Pack:
            if self.backward:
                return weight.backward(cell.gates, gate, self.grid.slices)
            return weight.forward(cell.gates, gate, tile_columns(cell))

        found = [pack(self.cell, 0)]
        return found if second is None else [*found, pack(second, self.cell.gates)]

    def function(self) -> NativeFunction:
        """The compiled kernel."""
        return jit.compile_source(self.way.source(self.splits, self.solo), "recurrent")

    def table(self, addresses: Mapping[str, int], scratch: int, reverse: bool) -> list[int]:
        """The kernel's numbers; addresses: of the cell's arrays and of NUMBERS that are arrays."""
        numbers = {
            **self.way.nothing,
            **{n: scratch + at for n, at in self.offsets.items()},
            "total": self.total,
            "rows": self.rows,
            "size": self.size,
            "padded": self.blocks * self.units,
            "reverse": int(reverse),
            "groups": self.grid.groups,
            "slices": self.grid.slices,
            "members": self.members,
            "room": self.room,
            "private_size": self.way.private,
            "product": gemm.product(pairs=self.way.kinds.pairs).address,
            "end_step": self.total,
            **addresses,
        }
        return [numbers[n] for n in self.way.fields]

    def call(self, addresses: Mapping[str, int], scratch: int, reverse: bool, name: str) -> Call:
        """The row that runs the layer on the team."""
        table = self.table(addresses, scratch, reverse)
        text = self.way.source(self.splits, False)
        return launch(name, text, "recurrent", table, threads=self.threads, ops=self.work)


def sizes_of(bound: BoundOp, weight: int, splits: int) -> Sizes:
    """weight, splits: which inputs of the op they are."""
    matrix, row_splits = bound.inputs[weight], bound.inputs[splits]
    assert matrix is not None and row_splits is not None
    total, rows = bound.outputs[0].shape[0], row_splits.shape[0] - 1
    return Sizes(total, rows, matrix.shape[1], row_splits.dtype)


def _given(bound: BoundOp, index: int) -> bool:
    """Whether an optional input of the op is there."""
    return index < len(bound.inputs) and bound.inputs[index] is not None


def _alike(bound: BoundOp, output: int, index: int) -> bool:
    """Whether an output and an input have one dtype."""
    given = bound.inputs[index]
    return given is not None and bound.outputs[output].dtype == given.dtype


class _Recurrent(Kernel):
    """Binds an op: which of its operands is what."""

    inputs: tuple[str, ...] = ()  # names in the kernel, in the order of the op's inputs
    outputs: tuple[str, ...] = ()
    in_place: tuple[tuple[int, int], ...] = ()
    backward = False
    multiplied: tuple[str, ...] | None = None  # inputs that are halves too where the weight is

    def accepts(self, op: Operator) -> None:
        at, halves = self.inputs.index("splits"), self._halves(op)
        need(op, (HALF,), halves)
        need(op, ("float32",), [i for i in range(len(op.inputs)) if i != at and i not in halves])
        need(op, IDS, (at,))

    def _halves(self, op: Operator) -> list[int]:
        """Positions of the inputs that must be halves."""
        weight = op.inputs[self.inputs.index("weight")]
        if self.multiplied is None or weight is None or weight.dtype != HALF:
            return []
        return [self.inputs.index(name) for name in ("weight", *self.multiplied)]

    def kinds(self, bound: BoundOp) -> Kinds:
        """Which arrays are halves, and whether products are made of them."""
        halves = {self.inputs[i] for i in self._halves(bound.op)}
        made = zip(self.outputs, bound.outputs, strict=True)
        given = frozenset(halves.union(name for name, a in made if a.dtype == HALF))
        return Kinds(given, bool(halves) and PAIRS)

    def cell(self, bound: BoundOp) -> Cell:
        raise NotImplementedError

    def _direction(self, bound: BoundOp) -> Direction:
        return direction(self.cell(bound), self.backward, self.kinds(bound))

    def bind(self, bound: BoundOp) -> Prepared:
        weight, splits = self.inputs.index("weight"), self.inputs.index("splits")
        sizes = sizes_of(bound, weight, splits)
        way = bound.note("way", self._direction, bound)
        layer = Layer(way, sizes, weight, bound.threads, given=bound.inputs[weight])
        given = [n for n, a in zip(self.inputs, bound.inputs, strict=False) if a is not None]
        reverse = bool(bound.attrs["reverse"]) != self.backward

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            known = dict(zip(self.inputs, ins, strict=False))
            addresses = {n: known[n] for n in given}
            addresses |= dict(zip(self.outputs, outs, strict=True))
            addresses |= zip(("weight", "second_weight"), packs, strict=False)
            if layer.cell.state_is_h:
                addresses["first_state"] = addresses.get("first", 0)
            return [layer.call(addresses, scratch, reverse, self.name)]

        grid = layer.grid
        return Prepared(
            emit,
            layer.scratch,
            layer.packs(),
            [(o, i) for o, i in self.in_place if _alike(bound, o, i)],
            layer.work,
            f"{grid.groups} groups of rows x {grid.slices} slices of units",
        )


class Lstm(_Recurrent):
    name = "numba:lstm"
    ops = ("lstm",)
    inputs = ("x", "weight", "splits", "first", "first_state", "peepholes")
    outputs = ("out", "c", "gates")
    in_place = ((2, 0),)
    multiplied = ()

    def cell(self, bound: BoundOp) -> Cell:
        return cells.lstm(has_peepholes=_given(bound, 5))


class LstmGrad(_Recurrent):
    name = "numba:lstm_grad"
    ops = ("lstm_grad",)
    inputs = ("gates", "c", "weight", "splits", "grad", "grad_c", "first", "peepholes")
    outputs = ("dx", "last", "last_state")
    in_place = ((0, 0),)
    backward = True
    multiplied = ("grad",)

    def cell(self, bound: BoundOp) -> Cell:
        return cells.lstm(_given(bound, 4), _given(bound, 5), has_peepholes=_given(bound, 7))


class Gru(_Recurrent):
    name = "numba:gru"
    ops = ("gru",)
    inputs = ("x", "weight", "splits", "bias", "first")
    outputs = ("out", "gates")
    multiplied = ()

    def cell(self, bound: BoundOp) -> Cell:
        return cells.gru(bound.inputs[3] is not None, rounds=self.kinds(bound).pairs)


class GruGrad(_Recurrent):
    name = "numba:gru_grad"
    ops = ("gru_grad",)
    inputs = ("gates", "hidden", "weight", "splits", "grad", "first")
    outputs = ("dx", "da", "last")
    backward = True
    multiplied = ("hidden", "grad", "first")

    def cell(self, bound: BoundOp) -> Cell:
        return cells.gru()


class GruResetBefore(_Recurrent):
    name = "numba:gru_reset_before"
    ops = ("gru_reset_before",)
    inputs = ("x", "weight", "splits", "first")
    outputs = ("out", "gates")
    in_place = ((1, 0),)

    def cell(self, bound: BoundOp) -> Cell:
        return cells.gru_reset_before()


class GruResetBeforeGrad(_Recurrent):
    name = "numba:gru_reset_before_grad"
    ops = ("gru_reset_before_grad",)
    inputs = ("gates", "hidden", "weight", "splits", "grad", "first")
    outputs = ("dx", "last")
    in_place = ((0, 0),)
    backward = True

    def cell(self, bound: BoundOp) -> Cell:
        return cells.gru_reset_before()


class Rnn(_Recurrent):
    name = "numba:rnn"
    ops = ("rnn",)
    inputs = ("x", "weight", "splits", "first")
    outputs = ("out",)
    in_place = ((0, 0),)
    multiplied = ()

    def cell(self, bound: BoundOp) -> Cell:
        return cells.rnn(bound.attrs["activation"])


class RnnGrad(_Recurrent):
    name = "numba:rnn_grad"
    ops = ("rnn_grad",)
    inputs = ("hidden", "weight", "splits", "grad")
    outputs = ("dx", "last")
    in_place = ((0, 0), (0, 3))
    backward = True
    multiplied = ("hidden", "grad")

    def cell(self, bound: BoundOp) -> Cell:
        return cells.rnn(bound.attrs["activation"])


_LAYERS = (Lstm(), LstmGrad(), Gru(), GruGrad(), GruResetBefore(), GruResetBeforeGrad())
for _kernel in (*_LAYERS, Rnn(), RnnGrad()):
    register(_kernel)
