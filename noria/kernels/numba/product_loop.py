"""A product of many rows, and a loop over it while a panel of it lies in the first cache.

It is `row_product` with the body of the loop as what finishes a panel. Sums over rows are made for
each block of rows in float64, and added up in the order of the blocks: so they do not depend on
which thread took which block. What the kernel does not take runs as the two would run alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.numba import gemm
from noria.kernels.numba.body import body_of, write_body
from noria.kernels.numba.launch import need
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.row_product import SPACE, blocks_of, packs_of, product_call, source
from noria.kernels.numba.sweep import kernel_of
from noria.kernels.numba.term import Lines
from noria.kernels.numba.tile_sizes import ROWS
from noria.kernels.registry import (
    PLAIN,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Prepared,
    choose,
    enabled_engines,
    register,
    strides_of,
)


@dataclass(frozen=True, slots=True)
class _Pair:
    """The two operators of a fused_product, and where their operands are among its own."""

    product: Operator
    loop: Operator
    inputs: dict[Value, int]
    outputs: dict[Value, int]

    @property
    def value(self) -> Value:
        """The product."""
        return self.product.outputs[0]


def _pair(op: Operator) -> _Pair:
    body = op.blocks["body"]
    product, loop = body.operators
    inputs = {v: i for i, v in enumerate(body.inputs)}
    return _Pair(product, loop, inputs, {v: o for o, v in enumerate(body.outputs)})


class ProductLoop(Kernel):
    """`fused_product` in float32."""

    name = "numba:product_loop"
    ops = ("fused_product",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        if any(v.dtype != "float32" for v in op.outputs):
            raise Declined("it gives something else than float32")
        pair = _pair(op)
        kernel_of(pair.loop).accepts(pair.loop)

    def bind(self, bound: BoundOp) -> Prepared:
        pair = _pair(bound.op)
        try:
            return _as_one(self.name, bound, pair)
        except Declined:
            return _in_turn(bound, pair)


# ---- as one ------------------------------------------------------------------------------------


def _as_one(name: str, bound: BoundOp, pair: _Pair) -> Prepared:
    """The loop on panels of the product. Raises Declined where that is not possible, or no gain."""
    weight = pair.product.operands[1]
    x, w = (bound.inputs[pair.inputs[v]] for v in pair.product.operands[:2])
    assert x is not None and w is not None
    plan = _Finish(pair)
    out = bound.outputs[plan.main]
    threads, outs = bound.threads, out.shape[-1]
    team, blocks = max(threads, thread_count()), blocks_of(x, out, threads)
    tables = SPACE * team
    room = blocks * outs * 8 * len(plan.sums)

    turned = bool(pair.product.attrs.get("transpose_y", True))
    copies = packs_of(w, pair.inputs[weight], turned, threads)

    def emit(ins: list[int], outs_: list[int], packs: list[int], scratch: int) -> list[Call]:
        x_at, w_at = (ins[pair.inputs[v]] for v in pair.product.operands[:2])
        at = [x_at, *(packs or [w_at]), outs_[plan.main]]
        extra = [*ins, *outs_, scratch + tables]
        how = {"near": len(plan.near), "scratch": scratch, "threads": threads}
        packed = bool(packs)
        return [product_call(name, plan.text, x, out, at, packed=packed, extra=extra, **how)]

    work = 2 * out.size * x.shape[-1]
    return Prepared(emit, tables + room, copies, (), work)


class _Finish:
    """What is done to a panel, as text. `i3` and `o3` are addresses of inputs and outputs.

    main: the output that holds the product first; near: inputs of the loop that are asked for
    sums: (output that is a sum, output it is the sum of)
    """

    def __init__(self, pair: _Pair) -> None:
        self.body = body_of(pair.loop)
        kept = self._kept(pair)
        self.main = pair.outputs.get(pair.value, next(iter(kept.values())))
        self.sums = self._sums(pair, kept)
        lines, stores = self._elements(pair, kept)
        before, inside = lines.levels
        self.text = source(
            (*(f"i{i}" for i in range(len(pair.inputs))), *_outputs(pair), "sums"),
            [
                "for row in range(low, high):",
                "    at = (row * outs + o) * 4",
                "    to = out + at",
                "    for j in range(COLUMNS):",
                "        together()",
                *(f"        {line}" for line in [*inside, *stores]),
                *self._add_up(),
            ],
            near=self.near,
            before=before,
            after=self._settle(),
        )

    def _kept(self, pair: _Pair) -> dict[int, int]:
        """Number of a value of the body -> the output that is this value, unreduced."""
        found: dict[int, int] = {}
        for v, out in zip(pair.loop.outputs, self.body.outputs, strict=True):
            if out.reduction is None:
                found.setdefault(out.value, pair.outputs[v])
        if not found:
            raise Declined("the loop gives nothing of the shape of the product")
        return found

    def _sums(self, pair: _Pair, kept: dict[int, int]) -> list[tuple[int, int]]:
        found = []
        for v, out in zip(pair.loop.outputs, self.body.outputs, strict=True):
            if out.reduction is not None:
                if out.reduction.kind != "sum" or out.value not in kept:
                    raise Declined("it reduces other than by sums of what it gives")
                found.append((pair.outputs[v], kept[out.value]))
        return found

    def _elements(self, pair: _Pair, kept: dict[int, int]) -> tuple[Lines, list[str]]:
        """The body for one element, and the stores of what it gives."""
        lines, near, terms = Lines(2), [], []
        for v in pair.loop.operands:
            if v is pair.value:
                bias = [*pair.product.operands, None][2]
                plus = "" if bias is None else f" + load_float32(i{pair.inputs[bias]}, o + j)"
                terms.append(lines.let(f"load_float32(to, j){plus}", v.dtype, 1))
            elif v.shape == ():
                terms.append(lines.let(f"load_float32(i{pair.inputs[v]}, 0)", v.dtype, 0))
            elif v.shape == pair.value.shape:
                near.append(f"i{pair.inputs[v]}")
                terms.append(lines.let(f"load_float32({near[-1]} + at, j)", v.dtype, 1))
            else:
                raise Declined("an operand is repeated along an axis")
        self.near = list(dict.fromkeys(near))[: gemm.MOST_NEAR]
        given = write_body(self.body, lines, terms)
        texts = {out.value: t.text for out, t in zip(self.body.outputs, given, strict=True)}
        stores = [f"store_float32(o{o} + at, j, {texts[n]})" for n, o in kept.items()]
        if pair.value in pair.outputs:
            product = terms[pair.loop.operands.index(pair.value)]
            stores.append(f"store_float32(o{pair.outputs[pair.value]} + at, j, {product.text})")
        return lines, stores

    def _add_up(self) -> list[str]:
        """Sums over the rows, added to those of the block."""
        lines = []
        for number, (_, of) in enumerate(self.sums):
            rows = " + ".join(f"float64(load_float32(line{r}, j))" for r in range(ROWS))
            lines += [
                f"part = sums + (({number} * blocks + block) * outs + o) * 8",
                f"line0 = o{of} + (low * outs + o) * 4",
                "if low == first:",
                "    fill_bytes(part, 0, columns * 8)",
                f"whole = low + (high - low) // {ROWS} * {ROWS}",
                f"for row in range(low, whole, {ROWS}):",
                *(f"    line{r} = line{r - 1} + outs * 4" for r in range(1, ROWS)),
                "    for j in range(COLUMNS):",
                "        together()",
                f"        store_float64(part, j, load_float64(part, j) + ({rows}))",
                f"    line0 += outs * {4 * ROWS}",
                "for row in range(whole, high):",
                "    for j in range(COLUMNS):",
                "        together()",
                "        s = load_float64(part, j) + float64(load_float32(line0, j))",
                "        store_float64(part, j, s)",
                "    line0 += outs * 4",
            ]
        return lines

    def _settle(self) -> list[str]:
        """Sums over the blocks, the columns shared by the team."""
        lines = []
        for number, (result, _) in enumerate(self.sums):
            lines += [
                f"part = sums + {number} * blocks * outs * 8",
                "start = outs * thread_id() // team_size()",
                "end = outs * (thread_id() + 1) // team_size()",
                "for other in range(1, blocks):",
                "    line = part + other * outs * 8",
                "    for j in range(start, end):",
                "        independent()",
                "        store_float64(part, j, load_float64(part, j) + load_float64(line, j))",
                "for j in range(start, end):",
                "    independent()",
                f"    store_float32(o{result}, j, float32(load_float64(part, j)))",
            ]
        return lines


def _outputs(pair: _Pair) -> list[str]:
    return [f"o{o}" for o in range(len(pair.outputs))]


# ---- in turn -----------------------------------------------------------------------------------


def _in_turn(bound: BoundOp, pair: _Pair) -> Prepared:
    """The product by the kernel it would have alone, then the loop, in place where it can be."""
    arrays: dict[Value, Array | None] = {v: bound.inputs[i] for v, i in pair.inputs.items()}
    arrays |= {v: bound.outputs[o] for v, o in pair.outputs.items()}
    x, full = arrays[pair.product.operands[0]], bound.outputs[pair.outputs[pair.loop.outputs[0]]]
    assert x is not None
    shape = (*x.shape[:-1], full.shape[-1])
    arrays[pair.value] = between = Array(shape, "float32", strides_of(shape, PLAIN))
    first = _alone(_bound(bound, pair, pair.product, arrays))
    second = kernel_of(pair.loop).bind(_bound(bound, pair, pair.loop, arrays))
    place = pair.outputs.get(pair.value)
    if place is None:
        which = pair.loop.inputs.index(pair.value)
        place = next((o for o, i in second.in_place if i == which), None)
        place = None if place is None else pair.outputs[pair.loop.outputs[place]]
    own = whole_lines(max(first.scratch, second.scratch))

    def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
        at = {v: ins[i] for v, i in pair.inputs.items()}
        at |= {v: outs[o] for v, o in pair.outputs.items()}
        at[pair.value] = scratch + own if place is None else outs[place]
        calls: list[Call] = []
        for op, prepared, mine in ((pair.product, first, packs), (pair.loop, second, [])):
            taken = [0 if v is None else at[v] for v in op.inputs]
            calls += prepared.emit(taken, [at[v] for v in op.outputs], mine, scratch)
        return calls

    inputs = [pair.inputs[v] if v is not None else -1 for v in pair.product.inputs]
    packs = [replace(p, input=inputs[p.input]) for p in first.packs]
    room = own + (between.nbytes if place is None else 0)
    work = 2 * between.size * x.shape[-1]
    return Prepared(emit, room, packs, (), work, "in turn")


def _bound(
    bound: BoundOp, pair: _Pair, op: Operator, arrays: Mapping[Value, Array | None]
) -> BoundOp:
    """One of the two operators with its own operands."""
    inputs = [None if v is None else arrays[v] for v in op.inputs]
    outputs = [a for v in op.outputs if (a := arrays[v]) is not None]
    fixed = [v in pair.inputs and bound.fixed[pair.inputs[v]] for v in op.operands]
    return BoundOp(op, op.attrs, inputs, outputs, bound.threads, fixed)


def _alone(bound: BoundOp) -> Prepared:
    """The first kernel that takes a product. Raises Declined if none does."""
    choice = choose(bound.op, enabled_engines())
    for kernel in ([choice.kernel] if choice.kernel else []) + choice.others:
        try:
            return kernel.bind(bound)
        except Declined:
            continue
    raise Declined("no kernel takes the product alone")


register(ProductLoop())
