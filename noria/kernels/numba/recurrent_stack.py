"""LSTM layers, one or stacked: one after the other, each by the whole team, or side by side. Of the
cells' states and gates, which only training needs, they write what somebody reads.

Side by side (a wavefront: Lamport, 1974), layer l works on a chunk of steps while the layer above
works on the chunk before it; a thread has every team-th layer, and a layer's weight stays in the
cache of its core. Nobody meets at each step, which pays where threads are disturbed and steps are
short; on quiet cores it takes longer, so it must be asked for (NORIA_WAVEFRONT). Otherwise each
layer is the kernel of `recurrent.py`, with a product over all steps in front of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from noria.core.flags import flags
from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.numba import gemm, parallel
from noria.kernels.numba.halves import HALF
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import LINE, whole_lines
from noria.kernels.numba.recurrent import IDS, Direction, Layer, Sizes, direction
from noria.kernels.numba.recurrent_cells import lstm
from noria.kernels.numba.recurrent_source import DEPTH, FLOAT32, Kinds
from noria.kernels.numba.tile_sizes import PAIRS, PANEL, ROWS
from noria.kernels.registry import BoundOp, Kernel, Pack, Prepared, register
from noria.kernels.traced import table_of

SHORTEST = 8  # steps of a chunk

# Numbers that describe a layer to the kernels below: the table of a product, then these.
_OUT, _INPUT, _PANELS, _DEPTH, _WIDTH = range(gemm.FIELDS, gemm.FIELDS + 5)
_STEPS, _TABLE, _LIMITS, _FIELDS = range(gemm.FIELDS + 5, gemm.FIELDS + 9)

# Steps `first` .. `last` - 1: what the layer below gave, times a weight.
_PROJECT = f"""
{{indent}}out = load_int64(layer, {_OUT})
{{indent}}below = load_int64(layer, {_INPUT})
{{indent}}depth = load_int64(layer, {_DEPTH})
{{indent}}width = load_int64(layer, {_WIDTH})
{{indent}}if last > first:
{{indent}}    store_int64(layer, {gemm.M}, last - first)
{{indent}}    panel = load_int64(layer, {_PANELS})
{{indent}}    for column in range(0, width, {PANEL}):
{{indent}}        store_int64(layer, {gemm.C}, out + (first * width + column) * 4)
{{indent}}        store_int64(layer, {gemm.N}, min({PANEL}, width - column))
{{indent}}        for k in range(0, depth, {DEPTH}):
{{indent}}            store_int64(layer, {gemm.A}, below + (first * depth + k) * 4)
{{indent}}            store_int64(layer, {gemm.B}, panel + k * {PANEL} * 4)
{{indent}}            store_int64(layer, {gemm.K}, min({DEPTH}, depth - k))
{{indent}}            store_int64(layer, {gemm.ACCUMULATE}, min(k, 1))
{{indent}}            call1(product, layer)
{{indent}}        panel += depth * {PANEL} * 4
"""

_ALL_STEPS = f"""
def project(args):
    tables = load_int64(args, 0)
    product = load_int64(args, 1)
    total = load_int64(args, 2)
    team = team_size()
    me = thread_id()
    tiles = (total + {ROWS} - 1) // {ROWS}
    first = min(tiles * me // team * {ROWS}, total)
    last = min(tiles * (me + 1) // team * {ROWS}, total)
    layer = tables + me * {8 * _FIELDS}
{_PROJECT.format(indent="    ")}
    return 0
"""

_WAVEFRONT = f"""
def wavefront(args):
    tables = load_int64(args, 0)
    product = load_int64(args, 1)
    total = load_int64(args, 2)
    splits = load_int64(args, 3)
    rows = load_int64(args, 4)
    layers = load_int64(args, 5)
    done = load_int64(args, 6)
    parts = load_int64(args, 7)
    if load_SPLITS(splits, 0) != 0 or load_SPLITS(splits, rows) != total:
        return 1
    longest = int64(0)
    for n in range(rows):
        length = int64(load_SPLITS(splits, n + 1)) - int64(load_SPLITS(splits, n))
        if length < 0:
            return 1
        longest = max(longest, length)
    me = thread_id()
    team = team_size()
    if me == 0:
        fill_bytes(done, 0, layers * {LINE})
    barrier()
    chunk = max(longest // parts // 2 * 2, {SHORTEST})
    chunks = (longest + chunk - 1) // chunk
    for diagonal in range(chunks + layers - 1):
        for number in range(me, layers, team):
            part = diagonal - number
            if part >= 0 and part < chunks:
                layer = tables + number * {8 * _FIELDS}
                begin = part * chunk
                if number > 0:
                    turns = 0
                    while load_shared(done + (number - 1) * {LINE}) <= part:
                        turns += 1
                        if turns % 64 == 0:
                            yield_thread()
                        pause()
                    for n in range(rows):
                        start = int64(load_SPLITS(splits, n))
                        end = int64(load_SPLITS(splits, n + 1))
                        first = min(start + begin, end)
                        last = min(start + begin + chunk, end)
{_PROJECT.format(indent=" " * 24)}
                limits = load_int64(layer, {_LIMITS})
                store_int64(limits, 0, begin)
                store_int64(limits, 1, begin + chunk)
                call1(load_int64(layer, {_STEPS}), load_int64(layer, {_TABLE}))
                atomic_add(done + number * {LINE}, 1)
    return 0
"""

_SHARE = """
def share(args):
    function = load_int64(args, 0)
    tables = load_int64(args, 1)
    nbytes = load_int64(args, 2)
    for i in range(thread_id(), load_int64(args, 3), team_size()):
        call1(function, tables + i * nbytes)
    return 0
"""


@dataclass(frozen=True, slots=True)
class _Member:
    """One layer of the stack: values of the operator's body.

    below: (what is multiplied, weight, bias or None), None for the lowest layer
    """

    x: Value
    weight: Value
    splits: Value
    first: Value | None
    first_state: Value | None
    outputs: tuple[Value, ...]
    reverse: bool
    below: tuple[Value, Value, Value | None] | None


def members(operators: Sequence[Operator]) -> list[_Member]:
    """The layers of a body, from the lowest."""
    found: list[_Member] = []
    below = None
    for operator in operators:
        ins = [*operator.inputs, None, None]
        if operator.type == "linear":
            below = ins[0], ins[1], ins[2]
            continue
        x, weight, splits, first, first_state = ins[:5]
        assert x is not None and weight is not None and splits is not None
        states = first, first_state, operator.outputs, bool(operator.attrs["reverse"])
        found.append(_Member(x, weight, splits, *states, below))  # type: ignore[arg-type]
    return found


class _Stack:
    """A bound stack: where everything is."""

    def __init__(self, bound: BoundOp) -> None:
        body = bound.op.blocks["body"]
        self.members = bound.note("members", members, body.operators)
        self.threads = bound.threads
        self.inputs = {v: i for i, v in enumerate(body.inputs)}
        self.outputs = {v: i for i, v in enumerate(body.outputs)}
        self.splits = self.inputs[self.members[0].splits]
        row_splits, x = bound.inputs[self.splits], bound.inputs[self.inputs[self.members[0].x]]
        assert row_splits is not None and x is not None
        self.dtype, self.rows, self.total = row_splits.dtype, row_splits.shape[0] - 1, x.shape[0]
        self.sizes = [self._size(bound, m) for m in self.members]
        several = self.threads > 1 and len(self.members) > 1
        self.side_by_side = flags.wavefront and several and parallel.worthwhile(ops=self.work)
        self.layers = [
            self._layer(bound, m, size) for m, size in zip(self.members, self.sizes, strict=True)
        ]
        self._place()

    def _size(self, bound: BoundOp, member: _Member) -> int:
        weight = bound.inputs[self.inputs[member.weight]]
        assert weight is not None
        return weight.shape[1]

    def _layer(self, bound: BoundOp, member: _Member, size: int) -> Layer:
        sizes = Sizes(self.total, self.rows, size, self.dtype)
        weight, solo = self.inputs[member.weight], self.side_by_side
        way = bound.note((member.weight, member.x), self._direction, member)
        return Layer(way, sizes, weight, self.threads, solo=solo, given=bound.inputs[weight])

    def _direction(self, member: _Member) -> Direction:
        _, c, gates = (v in self.outputs for v in member.outputs)
        bias = member.below is not None and member.below[2] is not None
        half = member.weight.dtype == HALF
        kinds = Kinds(frozenset({"out"}), PAIRS) if half else FLOAT32
        return direction(lstm(has_bias=bias, keeps_c=c, keeps_gates=gates), False, kinds)

    @property
    def chunks(self) -> int:
        """Parts of the longest row: more for few layers, so that all threads soon have work."""
        return max(24 // len(self.sizes), 4)

    @property
    def work(self) -> int:
        """Multiplications and additions."""
        steps = sum(8 * self.total * size * size for size in self.sizes)
        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        return steps + sum(8 * self.total * below * size for below, size in pairs)

    def _place(self) -> None:
        """Offsets in scratch memory: each layer's own, and what the operator does not give: outputs
        for the layer above, and what comes to it from below. One by one, layers share it."""
        rooms: dict[tuple[str, int], int] = {}
        own: list[tuple[str, int]] = []
        hidden: dict[Value, tuple[str, int]] = {}
        for k, (member, layer) in enumerate(zip(self.members, self.layers, strict=True)):
            out, _, gates = member.outputs
            mine = k if self.side_by_side else 0
            wanted: list[tuple[str, int, Value | None, int]] = [("own", mine, None, layer.scratch)]
            if out not in self.outputs:
                turn = k if self.side_by_side else k % 2  # read while the next is written
                wanted.append(("out", turn, out, 4 * self.total * layer.size))
            if gates not in self.outputs and member.below is not None:
                wanted.append(("gates", mine, gates, 16 * self.total * layer.size))
            for name, number, value, nbytes in wanted:
                key = name, number
                rooms[key] = max(rooms.get(key, 0), whole_lines(nbytes))
                if value is None:
                    own.append(key)
                else:
                    hidden[value] = key
        starts = dict(zip(rooms, accumulate(rooms.values(), initial=0), strict=False))
        self.offsets = [starts[key] for key in own]
        self.hidden = {value: starts[key] for value, key in hidden.items()}
        self.done = sum(rooms.values())
        self.scratch = self.done + LINE * len(self.members)

    def packs(self) -> list[Pack]:
        """Each recurrent weight, and each weight between two layers."""
        found = [pack for layer in self.layers for pack in layer.packs()]
        for member, size in zip(self.members, self.sizes, strict=True):
            if member.below is not None:
                below = self.sizes[self.members.index(member) - 1]
                found.append(self._panels(self.inputs[member.below[1]], below, 4 * size))
        return found

    def _panels(self, weight: int, depth: int, width: int) -> Pack:
        """weight [width, depth] as the right side of a product."""
        parts = -(-width // PANEL)

        def emit(address: int, copy: int) -> list[Call]:
            numbers: list[int] = []
            for i in range(parts):
                columns = min(PANEL, width - i * PANEL)
                source = address + i * PANEL * depth * 4
                target = copy + i * PANEL * depth * 4
                numbers += [source, 4, depth * 4, target, depth, columns]
            at, tables = table_of(numbers)
            table = [gemm.packer().address, at, 8 * gemm.PACK_FIELDS, parts]
            moved = 8 * width * depth
            row = launch("numba:pack", _SHARE, "share", table, threads=self.threads, bytes=moved)
            row.keep = row.keep, tables
            return [row]

        return Pack(weight, ("gemm", "turned"), gemm.packed_bytes(depth, width), emit)

    def rows_of_tape(
        self, ins: list[int], outs: list[int], packs: list[int], scratch: int, name: str
    ) -> list[Call]:
        """The rows that run the stack."""

        def place(v: Value | None) -> int:
            if v is None:
                return 0
            if v in self.inputs:
                return ins[self.inputs[v]]
            if v in self.outputs:
                return outs[self.outputs[v]]
            return scratch + self.hidden[v] if v in self.hidden else 0

        tables, projections, between = [], list[int](), len(self.members)
        for k, (member, layer) in enumerate(zip(self.members, self.layers, strict=True)):
            out, c, gates = map(place, member.outputs)
            addresses = {
                "x": place(member.x) if member.below is None else gates,
                "weight": packs[k],
                "splits": ins[self.splits],
                "first": place(member.first),
                "first_state": place(member.first_state),
                "bias": place(member.below[2]) if member.below is not None else 0,
                "out": out,
                "c": c,
                "gates": gates,
            }
            tables.append((addresses, scratch + self.offsets[k]))
            description = [0] * _FIELDS
            if member.below is not None:
                depth, panels = self.sizes[k - 1], packs[between]
                between += 1
                below = place(member.below[0])
                description = _described(below, panels, gates, depth, 4 * layer.size)
            projections += description
        if self.side_by_side:
            return [self._wavefront(tables, projections, ins[self.splits], scratch, name)]
        return self._one_by_one(tables, projections, name)

    def _one_by_one(self, tables: list, projections: list[int], name: str) -> list[Call]:
        calls = []
        for k, (layer, (addresses, scratch)) in enumerate(zip(self.layers, tables, strict=True)):
            if k:
                mine = projections[k * _FIELDS : (k + 1) * _FIELDS] * self.threads
                at, kept = table_of(mine)
                table = [at, gemm.product().address, self.total]
                work = 2 * self.total * mine[_DEPTH] * mine[_WIDTH]
                row = launch(name, _ALL_STEPS, "project", table, threads=self.threads, ops=work)
                row.keep = row.keep, kept
                calls.append(row)
            calls.append(layer.call(addresses, scratch, self.members[k].reverse, name))
        return calls

    def _wavefront(
        self, tables: list, projections: list[int], splits: int, scratch: int, name: str
    ) -> Call:
        kept = []
        for k, (layer, (addresses, own)) in enumerate(zip(self.layers, tables, strict=True)):
            start, memory = table_of(layer.table(addresses, own, False))
            at, steps = k * _FIELDS, layer.function()
            projections[at + _STEPS], projections[at + _TABLE] = steps.address, start
            projections[at + _LIMITS] = start + 8 * layer.way.fields.index("begin_step")
            kept.append((memory, steps))
        where, together = table_of(projections)
        table = [where, gemm.product().address, self.total, splits]
        table += [self.rows, len(self.members), scratch + self.done, self.chunks]
        source = _WAVEFRONT.replace("SPLITS", self.dtype)
        row = launch(name, source, "wavefront", table, threads=self.threads, ops=self.work)
        row.keep = row.keep, kept, together
        return row


def _described(below: int, panels: int, out: int, depth: int, width: int) -> list[int]:
    """The numbers of a layer's projection, of which the table of the product is the first part."""
    numbers = [0] * _FIELDS
    numbers[gemm.A_ROW], numbers[gemm.A_STEP] = depth * 4, 4
    numbers[gemm.B_ROW], numbers[gemm.C_ROW] = PANEL * 4, width * 4
    numbers[_OUT], numbers[_INPUT], numbers[_PANELS] = out, below, panels
    numbers[_DEPTH], numbers[_WIDTH] = depth, width
    return numbers


class RecurrentStack(Kernel):
    """LSTM layers, one or stacked."""

    name = "numba:recurrent_stack"
    ops = ("fused_recurrent",)

    def accepts(self, op: Operator) -> None:
        layers, body = members(op.blocks["body"].operators), op.blocks["body"]
        splits, weight = (body.inputs.index(v) for v in (layers[0].splits, layers[0].weight))
        need(op, ("float32", HALF) if len(layers) == 1 else ("float32",), (weight,))
        others = [i for i in range(len(op.inputs)) if i not in (splits, weight)]
        need(op, ("float32",), others)
        need(op, IDS, (splits,))

    def bind(self, bound: BoundOp) -> Prepared:
        stack = _Stack(bound)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            return stack.rows_of_tape(ins, outs, packs, scratch, self.name)

        body = bound.op.blocks["body"]
        gates, x = stack.members[0].outputs[2], stack.members[0].x
        in_place = []
        if gates in stack.outputs:
            in_place.append((stack.outputs[gates], body.inputs.index(x)))
        how = "side by side" if stack.side_by_side else "one by one"
        detail = f"{len(stack.members)} layers {how}" if len(stack.members) > 1 else "one layer"
        return Prepared(emit, stack.scratch, stack.packs(), in_place, stack.work, detail)


register(RecurrentStack())
