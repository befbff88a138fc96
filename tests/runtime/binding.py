"""Bounds of small Programs, steps of them, and a kernel made for the tests."""

import numpy as np

from noria.ir.opdef import vocabulary as o
from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.registry import Declined, Kernel, Prepared
from noria.runtime.bind import Bound
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from tests.runtime.programs import N

NONE = frozenset()


def bind(program, sizes, engines=NONE, threads=1, **how):
    state = {
        n: np.array(s.init[1]["value"]).astype(s.value.dtype) for n, s in program.state.items()
    }
    return Bound(make_plan(program, engines), sizes, state, threads, block_functions, **how)


def step(bound, *arrays):
    """One run; all outputs by name."""
    if bound.epoch != bound.kept.epoch:
        bound.run_prologue()
    for view, array in zip(bound.feeds, arrays, strict=True):
        view[...] = array
    bound.run()
    out = {n: bound.fetch(n) for n in bound.outputs}
    bound.commit()
    return out


def relu(b):
    return {"y": o.relu(b.input("x", (N, 4)))}


class Negate(Kernel):
    """relu, wrongly: gives -x."""

    name = "test:negate"
    ops = ("relu",)
    declines = False
    source = """
def negate(args):
    x, y, n = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    for i in range(n):
        store_float32(y, i, -load_float32(x, i))
    return load_int64(args, 3)
"""
    status = 0

    def __init__(self):
        self.seen = []

    def bind(self, bound):
        if self.declines:
            raise Declined("it does not like it")
        self.seen.append(bound)
        kernel = jit.compile_source(self.source, "negate")

        def emit(ins, outs, packs, scratch):
            self.seen.append((ins, outs, packs, scratch))
            table = np.array([ins[0], outs[0], bound.outputs[0].size, self.status], np.int64)
            return [Call(self.name, kernel.address, (table.ctypes.data, 0, 0, 0), (kernel, table))]

        return Prepared(emit, scratch=100)
