"""Values with real sizes."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, MissingError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value
from noria.kernels.registry import LAST, Array, strides_of
from noria.runtime.arena import Arena
from noria.runtime.operands import Kinds, Operands, array_at
from tests.runtime.binding import bind
from tests.runtime.programs import N, build, floats, value

DNN = frozenset({"onednn"})


def test_shapes_and_layouts_become_numbers():
    def fn(b):
        y = o.conv2d(b.input("x", (N, 3, 6, 6)), value(b, "w"), padding=1)
        return {"y": o.reshape(y, shape=(N, 4 * 36))}

    bound = bind(build(fn, w=floats(4, 3, 3, 3)), {"N": 5}, DNN)
    shapes = {v.name: bound.array(v) for v in bound.memory.of}
    assert shapes["conv2d"] == Array((5, 4, 6, 6), "float32", strides_of((5, 4, 6, 6), LAST))
    assert shapes["reshape"].shape == (5, 144) and shapes["reshape"].dense


def test_a_view_of_memory_has_its_strides_and_an_empty_one_needs_none():
    arena = Arena(4096)
    array_at(arena.address, Array((4, 3), "float32", (3, 1)))[:] = np.arange(12).reshape(4, 3)
    turned = array_at(arena.address, Array((3, 4), "float32", (1, 3)))
    np.testing.assert_array_equal(turned, np.arange(12).reshape(4, 3).T)
    assert array_at(0, Array((0, 3), "int64", (3, 1))).shape == (0, 3)


def test_a_size_that_is_not_told_is_an_error():
    k = symbol("K")
    operands = Operands({"N": 3}, Kinds({}))
    known, unknown = Value("a", (N, 2 * N + 1)), Value("b", (N, k))
    assert operands.known(known) and not operands.known(unknown)
    assert operands.array(known).shape == (3, 7) and operands.array(known) is operands.array(known)
    with pytest.raises(MissingError, match="no value for K"):
        operands.array(unknown)


def test_sizes_are_worked_out_at_once_and_attributes_have_them():
    k, n = symbol("K"), symbol("N")
    kinds = Kinds({})
    values = [Value("a", (n, n // 2), "float32"), Value("b", (k % 3,), "float32")]
    operands = Operands({"N": 7}, kinds)
    for v in values:
        kinds.number(v)
    for size in (7, 9):
        operands = Operands({"N": size}, kinds)
        assert operands.array(values[0]).shape == (size, size // 2)
        assert operands.attr((n // 2, ("x", n * 4))) == (size // 2, ("x", size * 4))
        with pytest.raises(MissingError):
            operands.array(values[1])
    assert Operands({"K": 5, "N": 8}, kinds).array(values[1]).shape == (2,)


def test_a_size_divided_by_zero_is_an_error_of_whoever_needs_it():
    k, n = symbol("K"), symbol("N")
    kinds = Kinds({})
    fine, bad = Value("a", (n,), "float32"), Value("b", (n // k,), "float32")
    kinds.number(fine), kinds.number(bad)
    operands = Operands({"K": 0, "N": 4}, kinds)
    assert operands.array(fine).shape == (4,)
    with pytest.raises(ArgumentError):
        operands.array(bad)
