"""From bodies to calls: what is compiled again, what threads need, what may be overwritten."""

import time

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.kernels.numba import generate, jit
from noria.kernels.numba.elementwise import Elementwise
from noria.kernels.numba.reduce import Reduce
from tests.kernels.numba.running import bind, compute, empty, operator, team

N = symbol("N")


def bound(kernel, name, batch, *rest, **attrs):
    """A kernel bound for arrays [batch, ...] that are declared [N, ...]."""
    shapes = [(batch, *s[1:]) if s[:1] == (N,) else s for s in rest]
    inputs = [np.zeros(s, np.float32) for s in shapes]
    op = operator(name, inputs, rest, **attrs)
    outs = [empty([batch if d == N else d for d in v.shape], v.dtype) for v in op.outputs]
    return bind(kernel, op, inputs, outs, threads=2)


CASES = [
    (Elementwise(), "add", [(N, 3, 5), (3, 1)], {}),
    (Elementwise(), "mul", [(N, 8), (N, 1)], {}),
    (Reduce(), "reduce_mean", [(N, 6, 4)], {"axis": (0, 2)}),
    (Reduce(), "reduce_sum", [(N, 6)], {"axis": 0}),
    (Reduce(), "reduce_max", [(N, 6)], {"axis": 1}),
]


@pytest.mark.parametrize(("kernel", "name", "shapes", "attrs"), CASES)
def test_a_new_batch_size_compiles_nothing_new(kernel, name, shapes, attrs):
    forms = []
    for batch in (4, 1, 2, 3, 100, 1024):
        bound(kernel, name, batch, *shapes, **attrs).emit([0, 0], [0], [], 0)
        forms.append((len(generate._sources), jit.stats().compiled, jit.stats().loaded))
    assert len(set(forms[1:])) == 1
    assert forms[0][0] == forms[-1][0]


def test_the_same_formula_in_another_place_is_not_compiled_again():
    x = np.ones(5, np.float32)
    compute(Elementwise(), operator("tanh", [x]), [x])
    before = jit.stats()
    y = np.ones((2, 3), np.float32)
    compute(Elementwise(), operator("tanh", [y]), [y])
    assert jit.stats() == before


def test_binding_takes_some_microseconds():
    """Loose enough for a busy machine: the aim is 50 microseconds, and no time to compile."""
    rows, bias = np.zeros((64, 100), np.float32), np.zeros(100, np.float32)
    op, out = operator("add", [rows, bias]), empty((64, 100), "float32")
    bind(Elementwise(), op, [rows, bias], [out])
    best = 1.0
    for _ in range(50):
        start = time.perf_counter()
        bind(Elementwise(), op, [rows, bias], [out])
        best = min(best, time.perf_counter() - start)
    assert best < 500e-6


def test_work_for_a_team_is_done_by_a_team():
    x = np.zeros(100, np.float32)
    op, out = operator("neg", [x]), empty((100,), "float32")
    with team(3):
        shared = bind(Elementwise(), op, [x], [out], threads=3).emit([0], [0], [], 0)
        alone = bind(Elementwise(), op, [x], [out], threads=1).emit([0], [0], [], 0)
    alone_by_size = bind(Elementwise(), op, [x], [out], threads=3).emit([0], [0], [], 0)
    assert shared[0].fn != alone[0].fn == alone_by_size[0].fn


def prepared(shape, axis, threads):
    x = np.zeros(shape, np.float32)
    op = operator("reduce_sum", [x], axis=axis)
    out = empty(op.outputs[0].shape, "float32")
    return bind(Reduce(), op, [x], [out], threads=threads)


def test_rows_reduced_by_one_thread_each_need_no_scratch():
    with team(2):
        assert prepared((64, 10), 1, 2).scratch == 0


def test_a_full_reduction_leaves_a_partial_result_of_each_thread():
    with team(4):
        assert prepared((1000,), 0, 4).scratch == 4 * 64


def test_one_thread_never_splits():
    assert prepared((100_000,), 0, 1).scratch == 0


def test_columns_have_accumulators_for_each_thread():
    with team(3):
        assert prepared((100, 20), 0, 3).scratch == 3 * 192


def test_little_work_is_not_split(monkeypatch):
    with team(4, split=False):
        assert prepared((1000,), 0, 4).scratch == 0


def test_an_output_may_overwrite_inputs_that_lie_like_it():
    x, row = np.zeros((4, 6), np.float32), np.zeros(6, np.float32)
    turned, whole = np.zeros((6, 4), np.float32).T, np.zeros((4, 6), np.int32)
    half = np.zeros((4, 6), np.float16)
    out = empty((4, 6), "float32")

    def pairs(*inputs):
        op = operator("where", [inputs[0] > 0, *inputs[1:]])
        return bind(Elementwise(), op, [inputs[0] > 0, *inputs[1:]], [out]).in_place

    assert pairs(x, x, x) == [(0, 1), (0, 2)]
    assert pairs(x, row, turned) == []
    op = operator("cast", [whole], dtype="float32")
    assert bind(Elementwise(), op, [whole], [out]).in_place == [(0, 0)]
    op = operator("cast", [half], dtype="float32")
    assert bind(Elementwise(), op, [half], [out]).in_place == []
