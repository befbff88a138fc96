import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ops.packed import behind, checked_splits, put_at, row_count, rows_of


def test_positions_know_their_row_also_beside_empty_ones():
    splits = np.array([0, 0, 2, 2, 3, 3])
    assert rows_of(np, splits, 3).tolist() == [1, 1, 3]
    assert row_count(splits) == 5


def test_splits_become_int64_once_checked():
    assert checked_splits(np, np.array([0, 2], np.int32), 2).dtype == np.int64


@pytest.mark.parametrize("splits", [[0, 9], [0, np.iinfo(np.int64).max, 4], [-4, 0, 4]], ids=str)
def test_numbers_that_lead_outside_are_refused(splits):
    with pytest.raises(ArgumentError, match="from 0 to 4"):
        checked_splits(np, np.array(splits), 4)


def test_values_of_one_number_a_row_meet_further_axes():
    assert behind(np.ones(3), np.ones((3, 4, 5)), np).shape == (3, 1, 1)


def test_put_at_writes_into_numpy_and_copies_jax():
    array = np.zeros(3)
    assert put_at(array, np.array([1]), 5.0) is array and array[1] == 5
    jnp = pytest.importorskip("jax.numpy")
    kept = jnp.zeros(3)
    assert put_at(kept, jnp.array([1]), 5.0)[1] == 5 and kept[1] == 0
