"""Layer norm and its gradient on memory [rows, width]: each number is read from memory once.

A row that fits the cache is gone through again there. Sums of a row are those of differences from
its first number, so that a large mean does not cancel the variance away: by an fma, which unlike a
difference is never reordered. Long sums go over BLOCK numbers in float32, then into float64, and so
do the sums over rows of the gradients of scale and bias, of which each thread has its own.
"""

from __future__ import annotations

from math import prod
from textwrap import indent

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import float_bits, launch, need, typed
from noria.kernels.numba.parallel import thread_count
from noria.kernels.registry import Array, BoundOp, Declined, Kernel, Prepared, register
from noria.ops.common import axes_of

BLOCK = 1024  # numbers of a row
ROWS = 64  # whose terms are added up in float32

_SPLIT = """
    team = team_size()
    first = rows * thread_id() // team
    last = rows * (thread_id() + 1) // team
"""


def _sums(at: int, terms: str, *names: str) -> str:
    """Float64 sums `names` of terms that are added to p0, p1 ... for each i in a row."""
    parts = [f"p{k}" for k in range(len(names))]
    lines = [
        *(f"{name} = float64(0)" for name in names),
        f"for low in range(0, width, {BLOCK}):",
        *(f"    {p} = float32(0)" for p in parts),
        f"    for i in range(low, min(low + {BLOCK}, width)):",
        indent(terms.strip(), " " * 8),
        *(f"    {name} += float64({p})" for name, p in zip(names, parts, strict=True)),
    ]
    return indent("\n".join(lines), " " * at)


def _forward(scale: bool, bias: bool) -> str:
    y = "d * inv"
    y = f"{y} * load_float32(scale, i)" if scale else y
    y = f"{y} + load_float32(bias, i)" if bias else y
    return f"""
def layer_norm(args):
    x = load_int64(args, 0)
    scale = load_int64(args, 1)
    bias = load_int64(args, 2)
    out = load_int64(args, 3)
    mean = load_int64(args, 4)
    inv_std = load_int64(args, 5)
    rows = load_int64(args, 6)
    width = load_int64(args, 7)
    epsilon = load_float64(args, 8){_SPLIT}
    for row in range(first, last):
        line = x + row * width * ITEMSIZE
        to = out + row * width * ITEMSIZE
        start = load_float32(line, 0)
        start = where(isfinite(start), start, float32(0))
{_sums(8, "p0 += fma(load_float32(line, i), float32(1), -start)", "total")}
        shift = float32(total / float64(width))
{
        _sums(
            8,
            '''
d = fma(load_float32(line, i), float32(1), -start) - shift
p0 += d * d
''',
            "squares",
        )
    }
        inv = float32(float64(1) / sqrt(squares / float64(width) + epsilon))
        store_float32(mean, row, float32(float64(start) + total / float64(width)))
        store_float32(inv_std, row, inv)
        for i in range(width):
            independent()
            d = fma(load_float32(line, i), float32(1), -start) - shift
            store_float32(to, i, {y})
    return 0
"""


# The terms of the gradients of scale and bias, of this row; of the rows since the last flush, in
# float64; of all rows and threads.
_PARTS = """
store_float32(part, i, load_float32(part, i) + g * hat)
store_float32(part, width + i, load_float32(part, width + i) + g)
"""
_FLUSH = f"""
        if (row - first) % {ROWS} == {ROWS - 1} or row == last - 1:
            for i in range(2 * width):
                independent()
                store_float64(total, i, load_float64(total, i) + float64(load_float32(part, i)))
            fill_bytes(part, 0, width * 8)
"""
_JOIN = """
    barrier()
    for i in range(width * thread_id() // team, width * (thread_id() + 1) // team):
        scales = float64(0)
        biases = float64(0)
        for t in range(team):
            scales += load_float64(scratch + t * width * 24, i)
            biases += load_float64(scratch + t * width * 24, width + i)
        store_float32(g_scale, i, float32(scales))
        store_float32(g_bias, i, float32(biases))
"""


def _backward(scale: bool) -> str:
    scaled = "g * load_float32(scale, i)" if scale else "g"
    terms = f"""
independent()
g = load_float32(slope, i)
hat = (load_float32(line, i) - m) * inv
scaled = {scaled}
p0 += scaled
p1 += scaled * hat
"""
    return f"""
def layer_norm_grad(args):
    x = load_int64(args, 0)
    mean = load_int64(args, 1)
    inv_std = load_int64(args, 2)
    grad = load_int64(args, 3)
    scale = load_int64(args, 4)
    gx = load_int64(args, 5)
    g_scale = load_int64(args, 6)
    g_bias = load_int64(args, 7)
    scratch = load_int64(args, 8)
    rows = load_int64(args, 9)
    width = load_int64(args, 10){_SPLIT}
    total = scratch + thread_id() * width * 24
    part = total + width * 16
    fill_bytes(total, 0, width * 24)
    for row in range(first, last):
        line = x + row * width * ITEMSIZE
        slope = grad + row * width * ITEMSIZE
        to = gx + row * width * ITEMSIZE
        m = load_float32(mean, row)
        inv = load_float32(inv_std, row)
{_sums(8, terms + (_PARTS.strip() if scale else ""), "level", "tilt")}
        level = level / float64(width)
        tilt = tilt / float64(width)
        for i in range(width):
            independent()
            g = load_float32(slope, i)
            hat = (load_float32(line, i) - m) * inv
            rest = float32(level) + hat * float32(tilt)
            store_float32(to, i, ({scaled} - rest) * inv){_FLUSH + _JOIN if scale else ""}
    return 0
"""


def _of(source: str, dtype: str) -> str:
    """The kernel for rows of that dtype; statistics, scale and bias are float32."""
    for pointer in ("line,", "to,", "slope,"):
        source = typed(source, dtype, pointer)
    return source


class LayerNorm(Kernel):
    """`layer_norm` and its gradient, in float32 on memory of float32 or bfloat16."""

    name = "numba:layer_norm"
    ops = ("layer_norm", "layer_norm_grad")

    def accepts(self, op: Operator) -> None:
        rows = (0,) if op.type == "layer_norm" else (0, 3)
        need(op, ("float32", "bfloat16"), rows)
        need(op, ("float32",), [i for i in range(len(op.inputs)) if i not in rows])
        if len({op.operands[i].dtype for i in rows}) > 1:
            raise Declined("halves beside float32")

    def bind(self, bound: BoundOp) -> Prepared:
        x = bound.inputs[0]
        assert x is not None
        width = prod(x.shape[a] for a in axes_of(bound.attrs["axes"], len(x.shape)))
        sizes = [x.size // width, width]
        if bound.op.type == "layer_norm":
            return self._prepared_forward(bound, x, sizes)
        return self._prepared_backward(bound, x, sizes)

    def _prepared_forward(self, bound: BoundOp, x: Array, sizes: list[int]) -> Prepared:
        scale, bias = ([*bound.inputs, None, None])[1:3]
        source = _of(_forward(scale is not None, bias is not None), x.dtype)
        end = [*sizes, float_bits(bound.attrs["epsilon"])]

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins, *[0] * (3 - len(ins)), *outs, *end]
            how = {"threads": bound.threads, "bytes": 2 * x.nbytes, "ops": 12 * x.size}
            return [launch(self.name, source, "layer_norm", table, **how)]

        return Prepared(emit, in_place=((0, 0),))

    def _prepared_backward(self, bound: BoundOp, x: Array, sizes: list[int]) -> Prepared:
        scale = len(bound.inputs) > 4 and bound.inputs[4] is not None
        source = _of(_backward(scale), x.dtype)
        team = max(bound.threads, thread_count())

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins[:4], ins[4] if scale else 0, *outs, *[0] * (3 - len(outs))]
            table += [scratch, *sizes]
            how = {"threads": bound.threads, "bytes": 3 * x.nbytes, "ops": 16 * x.size}
            return [launch(self.name, source, "layer_norm_grad", table, **how)]

        return Prepared(emit, 24 * sizes[1] * team, in_place=((0, 0), (0, 3)))


register(LayerNorm())
