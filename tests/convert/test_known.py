import numpy as np

from noria.convert.known import Known
from noria.core.dims import symbol
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program


def test_numbers_that_no_feed_decides_are_worked_out():
    with Builder(Program()) as builder:
        w = builder.state("w", (2,), "int64")
        x = builder.input("x", (2,), "int64")
        known = Known({"w": np.array([1, 2])})
        y = o.add(o.mul(w, 2), o.fill(shape=(2,), value=1, dtype="int64"))
        assert known.array(y).tolist() == [3, 5]
        assert known.array(o.add(y, x)) is None
        assert known.array(np.ones(2)).tolist() == [1, 1]
        assert known.inputs(o.add(y, x)) == ("x",)


def test_a_shape_taken_apart_and_put_together_again_keeps_its_symbols():
    n = symbol("N")
    with Builder(Program()) as builder:
        x = builder.input("x", (n, 3), "float32")
        known = Known()
        sizes = [o.unsqueeze(o.dim_value(dim=d), axis=(0,)) for d in x.shape]
        shape = o.concat(*sizes, axis=0)
        rows = o.mul(o.slice(shape, axes=(0,), starts=(0,), stops=(1,)), 2)
        assert known.sizes(shape) == (n, 3)
        assert known.sizes(o.concat(rows, np.array([5]), axis=0)) == (2 * n, 5)
        assert known.sizes(o.floor_divide(o.add(rows, 1), 2)) == ((2 * n + 1) // 2,)
        assert known.sizes(o.cast(o.reduce_sum(x), dtype="int64")) is None
