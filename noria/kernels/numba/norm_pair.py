"""The gradients of two batch norms whose results are added: what comes back to the sum is read once
for the sums of both, and once for what both write. Otherwise it is `norm_source.py`'s gradient.
"""

from __future__ import annotations

from functools import cache

from noria.kernels.call import Call
from noria.kernels.numba.launch import launch
from noria.kernels.numba.norm import BatchNorm, is_mask
from noria.kernels.numba.norm_source import (
    CENTRED,
    FOLDED,
    VECTOR,
    absent,
    accumulate,
    filled,
    gradient,
    number,
    ones,
    room_of,
    scratch_of,
    typed,
    width_of,
    write,
)
from noria.kernels.numba.parallel import thread_count
from noria.kernels.registry import BoundOp, Prepared, register

# Bytes of scratch for each number of a line, of a thread: three float64 totals and float32 parts,
# two means; of all: a level, slopes and factors.
EACH, SHARED = 3 * 12 + 2 * 4, 6 * 4
_BESIDE = "e = fma(other[c], float32(1), -load_float32(center, room + c))"

_HEAD = """
def batch_norm_pair_grad(args):
    x = load_int64(args, 0)
    scale = load_int64(args, 1)
    mean = load_int64(args, 2)
    inv_std = load_int64(args, 3)
    other = load_int64(args, 4)
    other_scale = load_int64(args, 5)
    other_mean = load_int64(args, 6)
    other_inv_std = load_int64(args, 7)
    grad = load_int64(args, 8)
    POSITIVE = load_int64(args, 9)
    more = load_int64(args, 10)
    gx = load_int64(args, 11)
    g_scale = load_int64(args, 12)
    g_bias = load_int64(args, 13)
    gother = load_int64(args, 14)
    g_other_scale = load_int64(args, 15)
    g_other_bias = load_int64(args, 16)
    scratch = load_int64(args, 17)
    rows = load_int64(args, 18)
    channels = load_int64(args, 19)
    width = load_int64(args, 20)
    room = load_int64(args, 21)
"""
_MEANS = """
        inv = float64(load_float32(inv_std, c))
        other_inv = float64(load_float32(other_inv_std, c))
        store_float32(g_bias, c, float32(t1))
        store_float32(g_other_bias, c, float32(t1))
        store_float32(g_scale, c, float32(t2 * inv))
        store_float32(g_other_scale, c, float32(t3 * other_inv))
        level = float32(t1 / float64(rows))
        other_level = level
        slope = float32(t2 * inv * inv / float64(rows))
        other_slope = float32(t3 * other_inv * other_inv / float64(rows))
        FOLDED
        factor = load_float32(scale, c) * float32(inv)
        other_factor = load_float32(other_scale, c) * float32(other_inv)
        for at in range(0, width, channels):
            store_float32(shared, at + c, level)
            store_float32(shared, room + at + c, slope)
            store_float32(shared, 2 * room + at + c, factor)
            store_float32(shared, 3 * room + at + c, other_slope)
            store_float32(shared, 4 * room + at + c, other_factor)
            store_float32(shared, 5 * room + at + c, other_level)
"""


_FOLDED = [
    "level -= load_float32(mean, c) * slope",
    "other_level -= load_float32(other_mean, c) * other_slope",
]


@cache
def source(dtype: str, bits: bool) -> str:
    """Source of batch_norm_pair_grad.

    The table: addresses of x, scale, mean, inv_std, of those of the other, of the gradient, what is
    positive or the mask, the second gradient, of outputs and scratch, 0 for what is not there;
    rows, channels, width, room.

    dtype: of the gradients, both inputs and out
    bits:  channels are whole vectors, and the mask is one of bits
    """
    positive = "mask" if bits else "positive"
    given = [CENTRED, _BESIDE, gradient(positive)]
    means = ["load_float32(mean, c)", "load_float32(other_mean, c)"]
    sums = [*given, "s1 += g", "s2 += g * d", "s3 += g * e"]
    rest = number(dtype, "other", "e")
    results = [
        *given,
        "level = load_float32(shared, c)",
        "other_level = load_float32(shared, 5 * room + c)",
        f"gx[c] = (g - (level + {number(dtype)} * load_float32(shared, room + c)))"
        " * load_float32(shared, 2 * room + c)",
        f"gother[c] = (g - (other_level + {rest} * load_float32(shared, 3 * room + c)))"
        " * load_float32(shared, 4 * room + c)",
    ]
    lines = [*ones(dtype, bits), *absent(more="zeros", **{positive: "ones"})]
    first = filled(accumulate(dtype, bits, means, sums, 3), "LINES", lines)
    shares = filled(_MEANS, "FOLDED", _FOLDED if dtype in FOLDED else [])
    text = typed(dtype, _HEAD, first, shares, write(dtype, bits, results), each=EACH)
    return text.replace("POSITIVE", positive)


_IN_PLACE = ((0, 0), (0, 8), (0, 10), (3, 4), (3, 8), (3, 10))


class BatchNormPair(BatchNorm):
    """It takes and lays out what a batch norm's gradient does."""

    name = "numba:batch_norm_pair"
    ops = ("batch_norm_pair_grad",)

    def bind(self, bound: BoundOp) -> Prepared:
        x = bound.inputs[0]
        assert x is not None
        rows, channels = x.size // x.shape[1], x.shape[1]
        width = width_of(channels)
        end = [rows, channels, width, room_of(width)]
        out = bound.inputs[9]
        text = source(x.dtype, is_mask(out) or (out is None and channels % VECTOR == 0))
        moved = 2 * sum(a.nbytes for a in bound.inputs if a is not None and len(a.shape) > 1)
        more = {"threads": bound.threads, "bytes": moved + 2 * x.nbytes, "ops": 16 * x.size}

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins, *outs, scratch, *end]
            return [launch(self.name, text, "batch_norm_pair_grad", table, **more)]

        team = max(bound.threads, thread_count())
        scratch = scratch_of(width, team, EACH, SHARED)
        return Prepared(emit, scratch, in_place=_IN_PLACE)


register(BatchNormPair())
