"""What a value depends on."""

import numpy as np

from noria import ops
from noria.convert.onnx.origins import Origins
from noria.core.dims import symbol
from noria.ir.emit import Builder
from noria.ir.program import Program


def test_numbers_are_known_where_only_state_decides_them() -> None:
    builder = Builder(Program())
    with builder:
        x = builder.input("x", (symbol("N"),))
        y = builder.input("y", ())
        w = builder.state("w", (3,))
        origins = Origins(builder)
        origins.arrays[w] = np.array([1, 2, 3], np.float32)
        doubled = ops.add(w, w)
        mixed = ops.mul(ops.add(doubled, y), 2.0)
        size = ops.dim_value(dim=symbol("N"))
        assert origins.known(doubled).tolist() == [2, 4, 6]
        assert origins.known(mixed) is None
        assert origins.known(size) is None
        assert (origins.inputs(size), origins.symbols(size)) == ((), ["N"])
        assert origins.inputs(mixed) == ("y",)
        assert origins.inputs(ops.reduce_sum(x)) == ("x",)


def test_a_branch_sees_where_the_values_around_it_come_from() -> None:
    builder = Builder(Program())
    with builder:
        x = builder.input("x", ())
        w = builder.state("w", (2,))
        origins = Origins(builder)
        origins.arrays[w] = np.array([1, 2], np.float32)
        found = []

        def branch() -> object:
            inside = ops.add(w, 1.0)
            found.append((origins.known(inside), origins.inputs(ops.mul(inside, x))))
            return inside

        ops.cond(ops.greater(x, 0.0), branch, lambda: w)
    assert found[0][0].tolist() == [2, 3]
    assert found[0][1] == ("x",)
