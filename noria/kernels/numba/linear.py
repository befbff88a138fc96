"""x @ weight.T + bias for a few rows, as in inference of one example: a product this small is over
before a general one has looked at its arguments.

The weight is packed once as [in, out]; eight of its rows at a time are added to the output.
"""

from __future__ import annotations

from math import prod

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.registry import BoundOp, Declined, Kernel, Pack, Prepared, register

MAX_WORK = 1 << 15  # multiply-adds beyond which oneDNN is faster
UNROLL = 8

_ACTIVATIONS = {
    None: "{v}",
    "relu": "maximum({v}, float32(0))",
    "sigmoid": "sigmoid({v})",
    "tanh": "tanh({v})",
    "gelu": "gelu({v})",
    "gelu_tanh": "gelu_tanh({v})",
    "silu": "silu({v})",
}

_PACK = """
def pack(args):
    weight = load_int64(args, 0)
    packed = load_int64(args, 1)
    outs = load_int64(args, 2)
    ins = load_int64(args, 3)
    for o in range(outs):
        for i in range(ins):
            store_float32(packed, i * outs + o, load_float32(weight, o * ins + i))
    return 0
"""


def source(activation: str | None, has_bias: bool) -> str:
    """The kernel, for any sizes."""
    scalars = "\n".join(
        f"            x{j} = load_float32(x, row * ins + i + {j})" for j in range(UNROLL)
    )
    terms = "\n".join(
        f"                v += x{j} * load_float32(weight, at + {j} * outs + o)"
        for j in range(UNROLL)
    )
    start = "load_float32(bias, o)" if has_bias else "float32(0)"
    end = _ACTIVATIONS[activation].replace("{v}", "load_float32(out, to + o)")
    finish = ""
    if activation is not None:
        finish = f"""
        for o in range(outs):
            independent()
            store_float32(out, to + o, {end})"""
    return f"""
def linear(args):
    x = load_int64(args, 0)
    weight = load_int64(args, 1)
    bias = load_int64(args, 2)
    out = load_int64(args, 3)
    rows = load_int64(args, 4)
    ins = load_int64(args, 5)
    outs = load_int64(args, 6)
    for row in range(rows):
        to = row * outs
        for o in range(outs):
            independent()
            store_float32(out, to + o, {start})
        whole = ins // {UNROLL} * {UNROLL}
        i = 0
        while i < whole:
            at = i * outs
{scalars}
            for o in range(outs):
                independent()
                v = load_float32(out, to + o)
{terms}
                store_float32(out, to + o, v)
            i += {UNROLL}
        while i < ins:
            at = i * outs
            xi = load_float32(x, row * ins + i)
            for o in range(outs):
                independent()
                v = load_float32(out, to + o) + xi * load_float32(weight, at + o)
                store_float32(out, to + o, v)
            i += 1{finish}
    return 0
"""


class SmallLinear(Kernel):
    name = "numba:linear"
    ops = ("linear", "fused_linear")

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",))
        if op.operands[0].ndim == 0:
            raise Declined("x is a scalar")
        if op.attrs.get("activation") not in _ACTIVATIONS:
            raise Declined(f"no activation '{op.attrs['activation']}' here")

    def bind(self, bound: BoundOp) -> Prepared:
        x, w, *rest = bound.inputs
        assert x is not None and w is not None
        bias = rest[0] if rest else None
        rows, (outs, ins) = prod(x.shape[:-1]), w.shape
        if not bound.fixed[1]:
            raise Declined("the weight changes at each step")
        if rows * ins * outs > MAX_WORK:
            raise Declined("the product is large")
        text = source(bound.attrs.get("activation"), bias is not None)

        def pack(address: int, copy: int) -> list[Call]:
            return [launch(self.name, _PACK, "pack", [address, copy, outs, ins], threads=1)]

        def emit(ins_: list[int], outs_: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [ins_[0], packs[0], ins_[2] if bias is not None else 0, outs_[0]]
            return [launch(self.name, text, "linear", [*table, rows, ins, outs], threads=1)]

        packs = [Pack(1, (self.name, "transposed"), w.nbytes, pack)]
        return Prepared(emit, 0, packs, (), 2.0 * rows * ins * outs)


register(SmallLinear())
