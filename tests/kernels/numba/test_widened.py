"""Kernels of float32 on halves, by way of copies."""

import numpy as np

from noria.core.dtypes import to_numpy
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.kernels.numba.launch import launch
from noria.kernels.numba.lines import LINE
from noria.kernels.numba.widened import Widened
from noria.kernels.registry import Array, BoundOp
from noria.runtime.arena import Arena
from noria.runtime.tape import Tape

ADD = """
def add(args):
    a, b, out = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    for i in range(load_int64(args, 3)):
        independent()
        store_float32(out, i, load_float32(a, i) + load_float32(b, i))
    return 0
"""


def test_halves_are_copied_and_the_rest_is_not():
    n = 37
    builder = Builder(Program("p"))
    x = builder.input("x", (n,), "bfloat16")
    y = builder.input("y", (n,), "float32")
    with builder:
        o.add(o.cast(x, dtype="float32"), y)
    operator = builder.program.operators[-1]
    half, full = (Array((n,), d, (1,)) for d in ("bfloat16", "float32"))
    bound = BoundOp(operator, {}, [half, full, None], [half], 1, [False] * 3)
    widened = Widened(bound, 100)
    assert widened.nbytes == 2 * LINE + 2 * 3 * LINE  # 148 bytes take three lines

    def kernel(ins, outs, packs, scratch):
        return [launch("add", ADD, "add", [*ins[:2], *outs, n], threads=1)]

    memory, scratch = Arena(1024), Arena(widened.nbytes)
    a = memory.view(0, (n,), "bfloat16")
    b, out = memory.view(256, (n,), "float32"), memory.view(512, (n,), "bfloat16")
    a[:], b[:] = np.linspace(-3, 3, n), np.arange(n) / 8
    b[5] = np.nan
    at = memory.address
    emit = widened.around(kernel)
    Tape(emit([at, at + 256, 0], [at + 512], [], scratch.address)).run()
    want = (a.astype(np.float32) + b).astype(to_numpy("bfloat16"))
    np.testing.assert_array_equal(out.astype(np.float32), want.astype(np.float32))
