import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ops import update_rules as rules

LR = np.float32(0.5)


def test_merging_adds_rows_of_one_id_in_rising_order():
    ids = np.array([3, 1, 3, 0, 3])
    rows = np.array([[1.0], [10], [2], [100], [4]])
    unique, total = rules.merged(np, ids, rows, (5, 1))
    assert unique.tolist() == [0, 1, 3, 5, 5]
    assert total.ravel().tolist() == [100, 10, 7, 0, 0]


def test_merging_many_halves_is_added_up_in_float32():
    rows = np.ones((3000, 1), np.float16)
    _, total = rules.merged(np, np.zeros(3000, int), rows, (1, 1))
    assert total.dtype == np.float32 and total[0] == 3000  # float16 stops counting at 2048


def test_merging_nothing_gives_nothing():
    unique, total = rules.merged(np, np.zeros(0, int), np.ones((0, 2)), (4, 2))
    assert unique.shape == (0,) and total.shape == (0, 2)


def test_rows_not_named_stay_exactly_what_they_were():
    param = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    ids, rows = np.array([4, 1, 4]), np.ones((3, 3), np.float32)
    (new,) = rules.applied_to_rows(np, rules.sgd, ids, rows, (param,), lr=LR)
    assert np.array_equal(new[[0, 2, 3, 5]], param[[0, 2, 3, 5]])
    assert np.allclose(new[1], param[1] - 0.5) and np.allclose(new[4], param[4] - 1)


def test_ids_that_are_no_rows_are_told_and_left_out_under_xla():
    param, rows = np.zeros((3, 1), np.float32), np.ones((2, 1), np.float32)
    for wrong in (-1, 3):
        with pytest.raises(ArgumentError, match="no row"):
            rules.applied_to_rows(np, rules.sgd, np.array([0, wrong]), rows, (param,), lr=LR)
        jnp = pytest.importorskip("jax.numpy")
        arrays = [jnp.asarray(a) for a in (np.array([0, wrong]), rows, param)]
        (new,) = rules.applied_to_rows(jnp, rules.sgd, *arrays[:2], arrays[2:], lr=jnp.asarray(LR))
        assert new.ravel().tolist() == [-0.5, 0, 0]


def test_an_empty_table_takes_no_ids():
    empty = np.zeros((0, 2), np.float32)
    none = np.zeros(0, int)
    assert rules.applied_to_rows(np, rules.sgd, none, empty, (empty,), lr=LR)[0].shape == (0, 2)
    with pytest.raises(ArgumentError):
        rules.applied_to_rows(np, rules.sgd, np.array([0]), empty, (empty,), lr=LR)


def test_the_correction_of_adam_is_accurate_in_float32():
    step = np.int64(1)
    got = rules.one_minus_power(np, 0.999, step, np.dtype(np.float32))
    assert abs(float(got) - 0.001) < 1e-9  # 1 - float32(0.999) is 1.3e-8 off
    assert rules.one_minus_power(np, 0.0, step, np.dtype(np.float32)) == 1


def test_half_parameters_are_updated_in_float32():
    param = np.ones(3, ml_dtypes.bfloat16)
    velocity = np.full(3, 0.25, np.float32)
    new, kept = rules.applied(
        np, rules.momentum, (param, param, velocity), lr=LR, momentum=0.9, nesterov=False
    )
    assert new.dtype == param.dtype and kept.dtype == np.float32
    assert np.allclose(kept, 1.225)
