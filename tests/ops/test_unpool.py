import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.unpool import (
    adaptive_max_pool_with_indices,
    global_lp_pool,
    lp_pool,
    max_pool_with_indices,
    max_unpool,
)
from noria.testing.case import Case, arr
from noria.testing.check import check_case


def numbers(*shape):
    return np.random.default_rng(0).normal(size=shape)


def functional():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    return torch, torch.nn.functional


POOLS = [
    ((2, 3, 7), {"kernel": 3, "stride": 2, "padding": 1}),
    ((1, 2, 7, 6), {"kernel": (3, 2), "stride": 2, "dilation": (1, 2)}),
    ((1, 2, 7, 6), {"kernel": 3, "stride": 2, "ceil_mode": True}),
    ((1, 2, 5, 4, 6), {"kernel": 2, "stride": (2, 1, 2)}),
]


@pytest.mark.parametrize(("shape", "how"), POOLS, ids=str)
def test_indices_are_those_of_pytorch_and_lead_back(shape, how):
    torch, functional_ = functional()
    x = numbers(*shape)
    names = {"kernel_size" if k == "kernel" else k: v for k, v in how.items()}
    pool = getattr(functional_, f"max_pool{len(shape) - 2}d")
    out, ids = pool(torch.asarray(x), return_indices=True, **names)
    got, places = max_pool_with_indices(x, **how)
    np.testing.assert_array_equal(got, out.numpy())
    np.testing.assert_array_equal(places, ids.numpy())
    back = np.zeros((*shape[:2], int(np.prod(shape[2:]))))
    np.put_along_axis(back, places.reshape(*shape[:2], -1), got.reshape(*shape[:2], -1), axis=2)
    np.testing.assert_array_equal(max_unpool(got, places, sizes=shape[2:]), back.reshape(shape))


def test_of_equal_elements_the_first_counts():
    _, places = max_pool_with_indices(np.ones((1, 1, 4, 4), np.uint8), kernel=2)
    assert places.ravel().tolist() == [0, 2, 8, 10]


def test_indices_of_adaptive_windows_are_those_of_pytorch():
    torch, functional_ = functional()
    x = numbers(2, 3, 7, 5)
    out, ids = functional_.adaptive_max_pool2d(torch.asarray(x), (3, 2), return_indices=True)
    got, places = adaptive_max_pool_with_indices(x, size=(3, 2))
    np.testing.assert_array_equal(got, out.numpy())
    np.testing.assert_array_equal(places, ids.numpy())


def test_pooling_with_indices_and_its_way_back_have_gradients():
    case = Case("max_pool2d", [arr(2, 2, 4, 6, distinct=True)], symbolic={0: {0: "N"}}, grad=True)
    check_case(case, lambda x: max_unpool(*max_pool_with_indices(x, kernel=2), kernel=2))


def test_sizes_before_a_pooling_are_those_that_leave_nothing_over():
    x, ids = np.ones((1, 1, 2, 3)), np.arange(6).reshape(1, 1, 2, 3)
    assert max_unpool(x, ids, kernel=3, stride=2).shape == (1, 1, 5, 7)
    assert max_unpool(x, ids, kernel=2, padding=(0, 1)).shape == (1, 1, 4, 4)


def test_indices_must_be_inside():
    x = np.ones((1, 1, 1, 1))
    with pytest.raises(ArgumentError, match="range"):
        max_unpool(x, np.full((1, 1, 1, 1), 4), kernel=2)
    with pytest.raises(ArgumentError, match="kernel or the sizes"):
        max_unpool(x, np.zeros((1, 1, 1, 1), int))
    with pytest.raises(ShapeError, match="indices"):
        max_unpool(x, np.zeros((1, 1, 2, 1), int), kernel=2)


@pytest.mark.parametrize("p", [1, 2, 3.5])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_power_means_are_those_of_pytorch(p, ceil_mode):
    torch, functional_ = functional()
    x = np.abs(numbers(2, 3, 7, 6))
    want = functional_.lp_pool2d(torch.asarray(x), p, (3, 2), stride=2, ceil_mode=ceil_mode)
    got = lp_pool(-x, p=p, kernel=(3, 2), stride=2, ceil_mode=ceil_mode)
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-9)


def test_power_means_have_gradients_also_where_all_is_zero():
    case = Case("avg_pool2d", [arr(1, 2, 4, 4, low=0.2)], symbolic={0: {0: "N"}}, grad=True)
    check_case(case, lambda x: lp_pool(x, p=3, kernel=2, stride=1))
    check_case(case, lambda x: global_lp_pool(x, p=2))
    assert lp_pool(np.zeros((1, 1, 2, 2)), p=2, kernel=2).tolist() == [[[[0]]]]


def test_a_power_is_positive():
    with pytest.raises(ArgumentError, match="positive"):
        lp_pool(np.ones((1, 1, 2, 2)), p=0, kernel=2)
    with pytest.raises(ShapeError, match="sizes"):
        lp_pool(np.ones((1, 2)), p=2, kernel=2)


def test_a_window_cut_short_has_its_own_sum_if_wanted():
    x = np.arange(1.0, 6.0).reshape(1, 1, 5)
    cut = lp_pool(x, p=1, kernel=2, ceil_mode=True, rescale=False)
    assert cut.tolist() == [[[3, 7, 5]]]
    assert lp_pool(x, p=1, kernel=2, ceil_mode=True).tolist() == [[[3, 7, 10]]]
