"""Gradient by the weight behind a max-pooling, where an element of the convolution sees much.

What `taken.py` does, but patches are not laid out: they would take longer than what is done with
them. In channels-last memory a row of taps sees numbers that lie side by side, so each row is by
itself a patch that is there already. Images are copied into the second cache with zeros around
them, since vectors reach beyond what a row sees; what they add there is left out in the end.
"""

from __future__ import annotations

from functools import cache
from textwrap import indent

from noria.ir.program import Operator
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.pooled_layer import Layer
from noria.kernels.numba.taken import FEW, ByWeight, calls, seen_by
from noria.kernels.numba.taken_sizes import offsets_of, parts
from noria.kernels.numba.texts import reading
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.registry import BoundOp, Declined, Prepared, register

# An image of x is `across` pixels wide once zeros are around it; the first window begins `begin`
# bytes before it. `line`: bytes of the sums of a row of taps; `patch`: of those of a channel;
# `room`: of a thread's own image.
_READ = reading(
    """
    x grad places out own sums room images high wide ins outs
    taps_high taps_wide above left across begin each line patch
    """,
    behind="table",
)
_SOURCE = f"""
def weight_grad(args):
{_READ}
    team = team_size()
    me = thread_id()
    mine = sums + me * outs * patch
    fill_bytes(mine, 0, outs * patch)
    image = own + me * room
    fill_bytes(image, 0, room)
    for n in range(images * me // team, images * (me + 1) // team):
        for row in range(high):
            to = image + ((row + above) * across + left) * ins * 4
            copy_bytes(to, x + (n * high + row) * wide * ins * 4, wide * ins * 4)
        g = grad + n * each * 4
        p = places + n * each
        for h in range(taps_high):
            seen = image + h * across * ins * 4 - begin
            target = mine + h * line
PARTS
    barrier()
    taps = taps_high * taps_wide
    for o in range(outs * me // team, outs * (me + 1) // team):
        for tap in range(taps):
            to = o * patch + tap // taps_wide * line
            for c in range(ins):
                s = float32(0)
                for part in range(team):
                    s += load_float32(sums + part * outs * patch + to, tap % taps_wide * ins + c)
                store_float32(out, (o * ins + c) * taps + tap, s)
    return 0
"""


@cache
def source(numbers: int) -> str:
    """Text of the kernel for rows of taps of so many numbers."""
    text = "\n".join(map(calls, parts(-(-numbers // WIDTH))))
    return _SOURCE.replace("PARTS", indent(text, " " * 12))


class TakenRows(ByWeight):
    """taken_weight_grad of float32, for patches of more than FEW numbers."""

    name = "numba:taken_rows"
    priority = 10  # large patches only

    def accepts(self, op: Operator) -> None:
        super().accepts(op)
        if seen_by(op) <= FEW:
            raise Declined("patches are small")

    def bind(self, bound: BoundOp) -> Prepared:
        x, grad, _ = bound.inputs
        out = bound.outputs[0]
        assert x is not None and grad is not None
        outs, ins, *taps = out.shape
        layer = Layer.of(bound.attrs, x.shape[2:], out.shape)
        pool, row, step = layer.pool, layer.row, layer.step
        line = -(-taps[1] * ins // WIDTH) * WIDTH * 4
        patch, room = taps[0] * line, whole_lines(layer.nbytes + line)
        above, left = layer.pool_fronts
        numbers = [x.shape[0], *x.shape[2:], ins, outs, *taps]
        numbers += [*layer.fronts, layer.across, above * row + left * step]
        numbers += [grad.shape[2] * grad.shape[3] * outs, line, patch]
        numbers += [pool.stride[1] * step, pool.stride[0] * row, grad.shape[3], grad.shape[2]]
        numbers += [outs, patch, *offsets_of(pool.kernel, row, step)]
        return self.prepared(bound, source(taps[1] * ins), room, patch, numbers)


register(TakenRows())
