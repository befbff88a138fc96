"""Loops over a space: which axes become one, and that every element is met where it lies."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.kernels.numba.space import Space, fold, kept_strides, memory_order, spread_strides, whole
from noria.kernels.registry import LAST, PLAIN, Array, strides_of

N = symbol("N")


def array(shape, layout=PLAIN):
    return Array(tuple(shape), "float32", strides_of(shape, layout))


def folded(*shapes, layout=PLAIN, reduced=(), declared=None):
    """The loops of operands of these shapes, broadcast to the first of them."""
    space = shapes[0] if declared is None else declared[0]
    operands = [
        spread_strides(s if declared is None else d, array(s, layout), space)
        for s, d in zip(shapes, declared or shapes, strict=True)
    ]
    order = memory_order(operands[0])
    return fold(space, shapes[0], operands, order, reduced)


def test_contiguous_arrays_are_one_loop():
    assert folded((2, 3, 4), (2, 3, 4)) == Space((24,), ((1, 1),), (False,))


def test_channels_last_is_one_loop_too():
    assert folded((2, 3, 4, 5), (2, 3, 4, 5), layout=LAST) == Space((120,), ((1, 1),), (False,))


def test_a_bias_makes_a_loop_of_its_own():
    assert folded((5, 6), (6,)) == Space((5, 6), ((6, 0), (1, 1)), (False, False))


def test_a_channel_in_the_middle_makes_three_loops():
    loops = folded((2, 3, 4, 5), (3, 1, 1))
    assert loops.sizes == (2, 3, 20)
    assert [s[1] for s in loops.strides] == [0, 1, 0]


def test_channels_last_puts_the_channel_innermost():
    space = (2, 8, 4, 5)
    operands = [strides_of(space, LAST), spread_strides((8, 1, 1), array((8, 1, 1)), space)]
    loops = fold(space, space, operands, memory_order(operands[0]))
    assert loops == Space((40, 8), ((8, 0), (1, 1)), (False, False))


def test_a_very_short_loop_is_not_innermost():
    assert folded((50, 3), (3,)) == Space((3, 50), ((1, 1), (3, 0)), (False, False))
    assert folded((50, 3), reduced=(1,)) == Space((3, 50), ((1,), (3,)), (True, False))
    assert folded((3,), (3,)).sizes == (3,)


def test_a_loop_that_is_short_today_stays_innermost():
    loops = folded((50, 3), (3,), declared=[(50, N), (N,)])
    assert loops == Space((50, 3), ((3, 0), (1, 1)), (False, False))


def test_reduced_and_kept_axes_are_not_mixed():
    loops = folded((4, 5, 6), reduced=(1, 2))
    assert loops == Space((4, 30), ((30,), (1,)), (False, True))


def test_axes_declared_to_be_1_are_left_out():
    assert folded((1, 4, 1, 5), (4, 1, 5)).sizes == (20,)


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_size_gives_the_same_kind_of_loops(batch):
    declared = [(N, 3, 8), (3, 1), (N, 1, 1)]
    loops = folded((batch, 3, 8), (3, 1), (batch, 1, 1), declared=declared)
    assert loops == Space((batch, 3, 8), ((24, 0, 1), (8, 1, 0), (1, 0, 0)), (False,) * 3)


def test_a_scalar_is_one_loop_of_one_step():
    assert folded((), ()) == Space((1,), ((0, 0),), (False,))


def test_a_result_has_no_step_along_reduced_axes():
    assert kept_strides(array((4, 6)), (1, 3), 4) == (6, 0, 1, 0)
    assert kept_strides(array((4, 1, 6, 1)), (1, 3), 4) == (6, 0, 1, 0)
    assert kept_strides(array(()), (0, 1), 2) == (0, 0)


def test_a_negative_step_orders_like_a_positive_one():
    assert memory_order((1, -12, 3)) == [1, 2, 0]


def addresses(loops, operand):
    """Where an operand lies at each point, in the order of the loops."""
    places = np.zeros((), np.int64)
    for n, steps in zip(loops.sizes, loops.strides, strict=True):
        places = places[..., None] + np.arange(n) * steps[operand]
    return places.reshape(-1)


@pytest.mark.parametrize("seed", range(40))
def test_every_element_is_met_beside_its_partners(seed):
    """Places of random operands, some broadcast, some transposed, against NumPy's own strides."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 5))
    shape = tuple(int(n) for n in rng.integers(1, 5, rank))
    reduced = tuple(a for a in range(rank) if rng.random() < 0.3)
    operands, views = [], []
    for _ in range(3):
        order = rng.permutation(rank)
        own = [n if rng.random() < 0.6 else 1 for n in shape]
        base = np.arange(np.prod(own)).reshape([own[a] for a in order]).transpose(np.argsort(order))
        strides = [s // base.itemsize for s in base.strides]
        operands.append(
            spread_strides(tuple(own), Array(base.shape, "int64", tuple(strides)), shape)
        )
        views.append(np.broadcast_to(base, shape))
    loops = fold(shape, shape, operands, memory_order(operands[0]), reduced)
    met = sorted(zip(*(addresses(loops, o) for o in range(3)), strict=True))
    assert met == sorted(zip(*(v.reshape(-1) for v in views), strict=True))


@pytest.mark.parametrize("shape", [(7,), (1,), (1, 5), (5, 1), (1, 1), (2, 3, 4), (2, 1, 4)])
@pytest.mark.parametrize("first", [2, N])
def test_the_loop_over_all_of_dense_operands_is_known_without_looking(shape, first):
    declared = (first, *shape[1:])
    loops = folded(shape, shape, shape, declared=[declared] * 3)
    if any(d != 1 for d in declared):
        assert loops == whole(array(shape).size, 3)
