"""x @ weight.T + bias for a few rows, as in inference of one example: bound by reading the weight,
and a product this small is over before a general one has looked at its arguments.

The weight is packed once. Its outputs are dealt out to the threads in pieces of whole vectors, and
each piece lies as [in, its outputs], so that every thread reads one stream of memory; some rows of
a piece at a time are added to the outputs. Of a few outputs the weight stays as it is, and each is
a sum along its row.
"""

from __future__ import annotations

from functools import cache
from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.registry import BoundOp, Declined, Kernel, Pack, Prepared, register

MAX_WORK = 1 << 14  # multiply-adds of several rows beyond which oneDNN is faster
UNROLL = 8
VECTOR = 16  # outputs: a line of cache, and the widest vector
NARROW = 8  # outputs below which sums along the rows of the weight are faster

ACTIVATIONS = {
    None: "{v}",
    "relu": "maximum({v}, float32(0))",
    "sigmoid": "sigmoid({v})",
    "tanh": "tanh({v})",
    "gelu": "gelu({v})",
    "gelu_tanh": "gelu_tanh({v})",
    "silu": "silu({v})",
}

# `piece` has the outputs from `first` up to `last`.
_PIECE = f"""
        first = (outs + {VECTOR - 1}) // {VECTOR} * piece // pieces * {VECTOR}
        last = min((outs + {VECTOR - 1}) // {VECTOR} * (piece + 1) // pieces * {VECTOR}, outs)
        width = last - first"""

_PACK = f"""
def pack(args):
    weight = load_int64(args, 0)
    packed = load_int64(args, 1)
    outs = load_int64(args, 2)
    ins = load_int64(args, 3)
    pieces = load_int64(args, 4)
    for piece in range(pieces):{_PIECE}
        for o in range(first, last):
            for i in range(ins):
                v = load_float32(weight, o * ins + i)
                store_float32(packed, first * ins + i * width + o - first, v)
    return 0
"""

_TABLE = """
    x = load_int64(args, 0)
    weight = load_int64(args, 1)
    bias = load_int64(args, 2)
    out = load_int64(args, 3)
    rows = load_int64(args, 4)
    ins = load_int64(args, 5)
    outs = load_int64(args, 6)
    pieces = load_int64(args, 7)
    residual = load_int64(args, 8)
    team = team_size()"""


@cache
def wide_source(activation: str | None, has_bias: bool) -> str:
    """The kernel on a packed weight, for any sizes."""
    scalars = "\n".join(
        f"                x{j} = load_float32(x, row * ins + i + {j})" for j in range(UNROLL)
    )
    terms = "\n".join(
        f"                    v += x{j} * load_float32(at, {j} * width + o)" for j in range(UNROLL)
    )
    start = "load_float32(bias, first + o)" if has_bias else "float32(0)"
    finish = ""
    if activation is not None:
        end = ACTIVATIONS[activation].replace("{v}", "load_float32(to, o)")
        finish = f"""
            for o in range(width):
                independent()
                store_float32(to, o, {end})"""
    return f"""
def linear(args):{_TABLE}
    for piece in range(pieces * thread_id() // team, pieces * (thread_id() + 1) // team):{_PIECE}
        for row in range(rows):
            to = out + (row * outs + first) * 4
            at = weight + first * ins * 4
            for o in range(width):
                independent()
                store_float32(to, o, {start})
            whole = ins // {UNROLL} * {UNROLL}
            i = 0
            while i < whole:
{scalars}
                for o in range(width):
                    independent()
                    v = load_float32(to, o)
{terms}
                    store_float32(to, o, v)
                at += {UNROLL} * width * 4
                i += {UNROLL}
            while i < ins:
                xi = load_float32(x, row * ins + i)
                for o in range(width):
                    independent()
                    v = load_float32(to, o) + xi * load_float32(at, o)
                    store_float32(to, o, v)
                at += width * 4
                i += 1{finish}
    return 0
"""


@cache
def narrow_source(activation: str | None, has_bias: bool, has_residual: bool = False) -> str:
    """The kernel for a few outputs, on the weight as it is."""
    end = ACTIVATIONS[activation].replace("{v}", "v")
    plus = " + load_float32(bias, o)" if has_bias else ""
    plus += " + load_float32(residual, row * outs + o)" if has_residual else ""
    return f"""
def linear(args):{_TABLE}
    for row in range(rows * thread_id() // team, rows * (thread_id() + 1) // team):
        for o in range(outs):
            v = float32(0)
            for i in range(ins):
                v += load_float32(x, row * ins + i) * load_float32(weight, o * ins + i)
            v = v{plus}
            store_float32(out, row * outs + o, {end})
    return 0
"""


class SmallLinear(Kernel):
    name = "numba:linear"
    ops = ("linear", "fused_linear")
    priority = 20  # a few rows and a small weight only

    def accepts(self, op: Operator) -> None:
        need_linear(op)

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, bias, residual = [*bound.inputs, None, None][:4]
        assert x is not None and w is not None
        rows, (outs, ins) = prod(x.shape[:-1]), w.shape
        narrow, pieces = outs < NARROW, bound.threads
        if residual is not None and not narrow:
            raise Declined("a residual")
        if not (narrow or bound.fixed[1]):
            raise Declined("the weight changes at each step")
        if not narrow and rows > 1 and rows * ins * outs > MAX_WORK:
            raise Declined("the product is large")
        activation, has_bias = bound.attrs.get("activation"), bias is not None
        text = wide_source(activation, has_bias)
        if narrow:
            text = narrow_source(activation, has_bias, residual is not None)
        moved = w.nbytes + x.nbytes + bound.outputs[0].nbytes

        def pack(address: int, copy: int) -> list[Call]:
            sizes = [outs, ins, pieces]
            return [launch(self.name, _PACK, "pack", [address, copy, *sizes], threads=1)]

        def emit(ins_: list[int], outs_: list[int], packs: list[int], scratch: int) -> list[Call]:
            weight = ins_[1] if narrow else packs[0]
            more = [*ins_[2:], 0, 0][:2]
            table = [ins_[0], weight, more[0], outs_[0], rows, ins, outs, pieces, more[1]]
            return [launch(self.name, text, "linear", table, threads=bound.threads, bytes=moved)]

        packs = [] if narrow else [Pack(1, (self.name, pieces), w.nbytes, pack, replaces=True)]
        return Prepared(emit, 0, packs, (), 2 * rows * ins * outs)


def need_linear(op: Operator) -> None:
    """Raises Declined unless it is a product of rows in float32, with an activation of these."""
    need(op, ("float32",))
    if op.operands[0].ndim == 0:
        raise Declined("x is a scalar")
    need_activation(op)


def need_activation(op: Operator) -> None:
    """Raises Declined for one that is none of ACTIVATIONS."""
    if op.attrs.get("activation") not in ACTIVATIONS:
        raise Declined(f"no activation '{op.attrs['activation']}' here")


register(SmallLinear())
