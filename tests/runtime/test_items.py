"""Items of a Plan: packed copies are made once for all readers, and again for other sizes."""

import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.kernels.call import Call
from noria.kernels.numba import jit
from noria.kernels.registry import Pack
from noria.runtime.executor import Executor
from tests.runtime.binding import Negate, bind
from tests.runtime.programs import N, build, floats

COPY = """
def copy(args):
    x, y = load_int64(args, 0), load_int64(args, 1)
    for i in range(load_int64(args, 2)):
        store_float32(y, i, load_float32(x, i))
    return 0
"""


class Packed(Negate):
    """The kernel of the tests, on a copy of its input. key: size of the input -> key of the copy"""

    def __init__(self, key=lambda size: "copy"):
        super().__init__()
        self.key = key

    def bind(self, bound):
        prepared, size = super().bind(bound), bound.inputs[0].size
        emit, kernel = prepared.emit, jit.compile_source(COPY, "copy")

        def pack(source, target):
            table = np.array([source, target, size], np.int64)
            return [Call("copy", kernel.address, (table.ctypes.data, 0, 0, 0), (kernel, table))]

        prepared.packs = [Pack(0, self.key(size), 4 * size, pack)]
        prepared.emit = lambda ins, outs, packs, scratch: emit(packs, outs, [], scratch)
        return prepared


def twice(b):
    x, z = b.input("x", (N, 4)), b.input("z", (2, 4))
    return {"a": o.relu(x), "b": o.relu(x), "c": o.relu(z)}


def test_a_copy_is_made_once_for_all_that_ask_for_it(own_kernels):
    own_kernels(Packed())
    items = bind(build(twice), {"N": 3}, frozenset({"test"})).items
    made = [i for i in items if i.pack is not None]
    assert [i.inputs[0].name for i in made] == ["x", "z"]
    first, second, third = (i.packs[0] for i in items if i.pack is None)
    assert first is second is made[0].packs[0] and third is made[1].packs[0]


@pytest.mark.parametrize("key", [lambda size: "copy", lambda size: size, lambda size: size > 20])
def test_other_sizes_make_copies_of_their_own_in_the_same_memory(fast_kernels, own_kernels, key):
    own_kernels(Packed(key))
    executor = Executor(build(twice))
    for n in (6, 3, 2, 5):
        feeds = {"x": floats(n, 4, seed=n), "z": floats(2, 4, seed=n + 1)}
        got = executor.run(feeds)
        np.testing.assert_array_equal(got["a"], -feeds["x"])
        np.testing.assert_array_equal(got["b"], -feeds["x"])
        np.testing.assert_array_equal(got["c"], -feeds["z"])
    (molds,) = executor._space.molds.values()
    assert len(molds) == 1
