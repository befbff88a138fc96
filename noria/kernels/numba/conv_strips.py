"""Convolutions one behind the other, some rows of the image at a time.

What is between them is larger than the caches. So a thread makes a strip of some rows of the last
result from the strips of the others that it needs, in memory of its own that stays in the second
cache; rows that the next strip sees again are kept. Threads share the rows of all images, and each
makes for itself what lies around its share. Where that costs more than it saves, as with more
threads than an image has strips, the convolutions run in turn, each by the whole team.

Each strip of each convolution is a call of the kernels for whole images (`conv.py`,
`depthwise.py`); a thread goes through lists of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from noria.core.machine import caches
from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.numba import conv, conv_sizes, depthwise, depthwise_sizes
from noria.kernels.numba.conv_panels import Panel
from noria.kernels.numba.conv_walk import Walk
from noria.kernels.numba.depthwise import Columns, Depthwise
from noria.kernels.numba.lane_bounds import BOUNDS, bits
from noria.kernels.numba.launch import need
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.strip_calls import copied, together
from noria.kernels.numba.strip_rows import Link, Strip, busiest, cut, fitting
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Pack,
    Prepared,
    register,
    strides_of,
)
from noria.ops.window import Windows, slide

STRIP = caches().second // 2  # bytes of what lies between the convolutions, in a strip
MOST = (
    1.1  # what the busiest thread may have to do, of what it would have if nothing were done twice
)
TABLE = 8 * max(conv_sizes.FIELDS, depthwise_sizes.FIELDS)  # bytes; of the fields of a tile
LISTS = 512  # of calls at most, for threads that take strips of others: beyond that none does


class ConvStrips(Kernel):
    """`fused_convs` in float32."""

    name = "numba:conv_strips"
    ops = ("fused_convs",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        inner = op.blocks["body"].operators
        for one in inner:
            if one.attrs.get("activation") not in BOUNDS:
                raise Declined(f"the tiles have no {one.attrs['activation']}")
            if one.attrs["groups"] != 1:
                Depthwise().accepts(one)
            if one is not inner[-1] and any(v is not None for v in one.inputs[3:]):
                raise Declined("a residual before the last")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        body = op.blocks["body"]
        wanted: dict[Value, str] = dict.fromkeys(body.inputs, PLAIN)
        image = body.operators[0].operands[0]
        channels, groups = image.shape[1], body.operators[0].attrs["groups"]
        few = isinstance(channels, int) and 1 < channels <= conv.FEW and groups == 1
        if not few or given[body.inputs.index(image)] != PLAIN:
            wanted[image] = LAST
        wanted.update((v, LAST) for v in body.operators[-1].inputs[3:] if v is not None)
        return [wanted[v] for v in body.inputs], [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        chain = _Chain(bound)
        if not bound.outputs[0].size:
            return Prepared(lambda ins, outs, packs, scratch: [])
        links = [stage.link for stage in chain.stages]
        threads = bound.threads
        shares = cut(links, bound.outputs[0].shape[0], threads, fitting(links, STRIP))
        if busiest(links, shares) > MOST:
            return _in_turn(self.name, chain, threads)
        return _in_strips(self.name, chain, shares)


# ---- what there is to do -----------------------------------------------------------------------


class _Stage:
    """One of the convolutions.

    x, out:  of all images, laid out as they are in memory
    inputs:  of image, weight, bias and residual the positions among the inputs of the chain, -1 for
             what the convolution before it gives, or what is absent
    """

    def __init__(self, op: Operator, x: Array, w: Array, inputs: list[int]) -> None:
        how = (op.attrs[name] for name in ("stride", "padding", "dilation"))
        self.windows = slide(x.shape[2:], w.shape[2:], *how)
        _need_plain(self.windows)
        shape = (x.shape[0], w.shape[0], *self.windows.out)
        self.x, self.w, self.inputs = x, w, inputs
        self.out = Array(shape, "float32", strides_of(shape, LAST))
        self.activation = op.attrs.get("activation")
        self.depthwise = op.attrs["groups"] != 1
        self.planes = conv.planes_of(x)
        self.limits = [bits(n) for n in BOUNDS[self.activation]]
        work = 2.0 * prod(w.shape[1:]) * self.out.shape[1] * self.out.shape[3]
        rows = (w.shape[2], self.windows.stride[0], int(self.windows.pads[0][0]))
        self.link = Link(x.shape[2], self.out.shape[2], *rows, self.row_bytes(self.out), work)
        self._made: dict[tuple[int, ...], Walk | Columns] = {}

    @staticmethod
    def row_bytes(a: Array) -> int:
        """From one row of an image to the next."""
        return 4 * a.strides[2] if a.shape[2] > 1 else 4 * a.shape[1] * a.shape[3]

    def pack(self, cut: tuple[int, bool], threads: int) -> Pack:
        """The weight as the tiles read it. cut: vectors of a panel, and whether threads share it"""
        if self.depthwise:
            return replace(depthwise.pack(self.w), input=self.inputs[1])
        return replace(self.panel(cut).pack(self.w, threads), input=self.inputs[1])

    def panel(self, cut: tuple[int, bool]) -> Panel:
        return Panel.of(self.w, cut[0] * WIDTH, self.planes)

    def vectors(self, pixels: int, threads: int) -> tuple[int, bool]:
        return conv_sizes.shape(pixels, self.out.shape[1], threads)

    def rows(
        self, low: int, high: int, cut: tuple[int, bool], threads: int = 1, batch: int = 1
    ) -> Walk | Columns:
        """What makes these rows of the result. batch: of so many images; then all of their rows"""
        first, last = self.link.seen(low, high)
        if batch > 1:  # whole images lie behind each other, with rows that no window sees
            last = self.x.shape[2]
        above = max(self.link.pad - low * self.link.stride, 0)
        key = (last - first, high - low, above, *cut, threads, batch)
        if key not in self._made:
            below = max(self.link.lowest(high) - self.x.shape[2], 0)
            pads = ((above, below), *self.windows.pads[1:])
            out = (high - low, *self.windows.out[1:])
            x, result = self._part(self.x, key[0], batch), self._part(self.out, key[1], batch)
            windows = self.windows._replace(pads=pads, out=out)
            made: Walk | Columns
            if self.depthwise:
                made = Columns(x, result, windows, threads, self.activation)
            else:
                made = conv.walk_of(x, result, windows, self.panel(cut), cut[1], threads)
            self._made[key] = made
        return self._made[key]

    def call(
        self, name: str, what: Walk | Columns, at: Sequence[int], out: int, scratch: int
    ) -> Call:
        """at: image, packed weight, bias, residual."""
        if isinstance(what, Columns):
            return what.call(name, at[:3], out, scratch)
        moved, pixels = what.x.nbytes + what.out.nbytes, what.out.size // what.out.shape[1]
        ops = int(2.0 * pixels * self.w.size)
        return what.call(name, [*at, out, scratch], self.limits, moved, ops)

    def _part(self, a: Array, rows: int, batch: int) -> Array:
        shape = (batch, a.shape[1], rows, a.shape[3])
        if a is self.x and self.planes > 1:
            return Array(shape, a.dtype, (a.strides[0], a.shape[2] * a.shape[3], a.shape[3], 1))
        return Array(shape, a.dtype, strides_of(shape, LAST))


def _need_plain(windows: Windows) -> None:
    if windows.dilation != (1, 1) or windows.stride[1] not in depthwise_sizes.STRIDES:
        raise Declined("dilated, or windows far apart")
    if any(max(pads) >= k for pads, k in zip(windows.pads, windows.kernel, strict=True)):
        raise Declined("windows that see nothing of the image")


class _Chain:
    """All of them, with real sizes."""

    def __init__(self, bound: BoundOp) -> None:
        body = bound.op.blocks["body"]
        at = {v: i for i, v in enumerate(body.inputs)}
        self.stages: list[_Stage] = []
        for op in body.operators:
            inputs = [-1 if v is None else at.get(v, -1) for v in (*op.inputs, None, None)][:4]
            w = bound.inputs[inputs[1]]
            x = self.stages[-1].out if self.stages else bound.inputs[inputs[0]]
            assert x is not None and w is not None
            self.stages.append(_Stage(op, x, w, inputs))
        self.flops = sum(s.link.work * s.out.shape[0] * s.out.shape[2] for s in self.stages)
        arrays = (*bound.inputs, *bound.outputs)
        self.nbytes = sum(a.nbytes for a in arrays if a is not None)


# ---- strip by strip ----------------------------------------------------------------------------


def _in_strips(name: str, chain: _Chain, shares: Sequence[Sequence[Strip]]) -> Prepared:
    stages = chain.stages
    links, threads = [s.link for s in stages], len(shares)
    most = [max(s.rows[i][1] - s.rows[i][0] for one in shares for s in one)
            for i in range(len(stages))]  # fmt: skip
    cuts = [(s.vectors(n * s.out.shape[3], 1)[0], False) for s, n in zip(stages, most, strict=True)]
    room = [whole_lines(n * link.row_bytes) for n, link in zip(most, links, strict=True)][:-1]
    own = whole_lines(TABLE) + sum(room)  # bytes of a thread

    strips = [strip for share in shares for strip in share]
    whole = [replace(strip, fresh=tuple(low for low, _ in strip.rows)) for strip in strips]

    def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
        def calls(strip: Strip, thread: int) -> list[Call]:
            table = scratch + thread * own
            buffers = [table + whole_lines(TABLE) + sum(room[:i]) for i in range(len(room))]
            places = _Places(chain, ins, outs[0], buffers)
            return list(_calls(name, stages, strip, cuts, packs, places, table))

        ways = [[calls(s, thread) for thread, share in enumerate(shares) for s in share]]
        if threads > 1 and threads * len(strips) <= LISTS:
            ways += [[calls(s, thread) for s in whole] for thread in range(threads)]
        work = {"bytes": chain.nbytes, "ops": int(chain.flops)}
        return together(name, ways, [len(share) for share in shares], **work)

    packs = [s.pack(c, threads) for s, c in zip(stages, cuts, strict=True)]
    rows = most[-1]
    return Prepared(emit, own * threads, packs, (), chain.flops, f"{rows} rows at a time")


@dataclass(frozen=True, slots=True)
class _Places:
    """Where rows of an image are: inputs and output of the chain, and a thread's buffers."""

    chain: _Chain
    ins: Sequence[int]
    out: int
    buffers: Sequence[int]

    def image(self, strip: Strip, stage: int, row: int) -> int:
        """A row that a convolution reads."""
        if stage:
            return self.result(strip, stage - 1, row)
        one = self.chain.stages[0]
        whole = prod(one.x.shape[1:]) * 4
        return self.ins[one.inputs[0]] + strip.image * whole + row * one.row_bytes(one.x)

    def result(self, strip: Strip, stage: int, row: int) -> int:
        """A row that a convolution writes."""
        link = self.chain.stages[stage].link
        if stage < len(self.buffers):
            return self.buffers[stage] + (row - strip.rows[stage][0]) * link.row_bytes
        return self.out + (strip.image * link.out + row) * link.row_bytes

    def operands(self, stage: int) -> list[int]:
        """Bias, or 0."""
        bias = self.chain.stages[stage].inputs[2]
        return [self.ins[bias] if bias >= 0 else 0]

    def residual(self, strip: Strip, stage: int, row: int) -> int:
        """What is added to a row, or 0."""
        one = self.chain.stages[stage]
        if one.inputs[3] < 0:
            return 0
        return self.ins[one.inputs[3]] + (strip.image * one.link.out + row) * one.link.row_bytes


def _calls(
    name: str,
    stages: Sequence[_Stage],
    strip: Strip,
    cuts: Sequence[tuple[int, bool]],
    packs: Sequence[int],
    places: _Places,
    table: int,
) -> Iterator[Call]:
    """What makes a strip, in order."""
    for i, stage in enumerate(stages):
        low, high = strip.rows[i]
        fresh = strip.fresh[i]
        if fresh > low and strip.moved[i]:
            to = places.result(strip, i, low)
            size = stage.link.row_bytes
            yield copied(name, to, to + strip.moved[i] * size, size, fresh - low)
        if fresh < high:
            seen = stage.link.seen(fresh, high)[0]
            at = [places.image(strip, i, seen), packs[i], *places.operands(i)]
            at.append(places.residual(strip, i, fresh))
            what = stage.rows(fresh, high, cuts[i])
            yield stage.call(name, what, at, places.result(strip, i, fresh), table)


# ---- in turn -----------------------------------------------------------------------------------


def _in_turn(name: str, chain: _Chain, threads: int) -> Prepared:
    """Each convolution on all images by the whole team, with all that is between them in memory."""
    stages, batch = chain.stages, chain.stages[0].x.shape[0]
    tables = whole_lines(TABLE) * max(threads, thread_count())
    cuts = [s.vectors(s.out.size // s.out.shape[1], threads) for s in stages]
    room = [whole_lines(s.out.nbytes) for s in stages[:-1]]

    def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
        buffers = [scratch + tables + sum(room[:i]) for i in range(len(room))]
        calls, image = [], ins[stages[0].inputs[0]]
        for stage, how, pack, out in zip(stages, cuts, packs, [*buffers, outs[0]], strict=True):
            more = [ins[i] if i >= 0 else 0 for i in stage.inputs[2:]]
            what = stage.rows(0, stage.out.shape[2], how, threads, batch)
            calls.append(stage.call(name, what, [image, pack, *more], out, scratch))
            image = out
        return calls

    packs = [s.pack(how, threads) for s, how in zip(stages, cuts, strict=True)]
    return Prepared(emit, tables + sum(room), packs, (), chain.flops, "in turn")


register(ConvStrips())
