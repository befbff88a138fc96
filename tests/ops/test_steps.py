"""The two orders of steps, all rows at once and a scan over packed steps, give the same."""

import numpy as np
import pytest

from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.steps import DenseRows, scan_steps, states_spec, unroll

SPLITS = np.array([0, 2, 2, 5, 6])
X = np.random.default_rng(0).normal(size=(6, 3))
START = np.random.default_rng(1).normal(size=(4, 3))


def sums(x, s):
    """A running sum that fades."""
    s = o.add(x, o.mul(s, 0.5))
    return (s,), (s,)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_at_once_and_one_packed_step_after_the_other_agree(reverse):
    last, (together,) = unroll(np, sums, SPLITS, [X], [START], (3,), reverse)
    (apart,) = scan_steps(sums, SPLITS, [X], [START], reverse)
    np.testing.assert_allclose(together, apart)
    first = SPLITS[:-1] if reverse else SPLITS[1:] - 1
    np.testing.assert_allclose(last[0][[0, 2, 3]], apart[first[[0, 2, 3]]])
    np.testing.assert_allclose(last[0][1], START[1])  # a row without steps keeps its state


@pytest.mark.parametrize("reverse", [False, True])
def test_dense_rows_take_their_steps_together(reverse):
    x, start = np.arange(18.0).reshape(6, 3), START[:2]
    (dense,) = scan_steps(sums, DenseRows(2, 3), [x], [start], reverse)
    (packed,) = scan_steps(sums, np.array([0, 3, 6]), [x], [start], reverse)
    np.testing.assert_allclose(dense, packed)
    lengths = DenseRows(2, 3, np.array([3, 1]))
    (short,) = scan_steps(sums, lengths, [x], [start], reverse)
    (packed,) = scan_steps(sums, np.array([0, 3, 4]), [x[:4]], [start], reverse)
    np.testing.assert_allclose(short[:4], packed)
    assert (short[4:] == 0).all()


def test_states_that_do_not_fit_are_told():
    x, weight, splits = Spec((6, 8), "float32"), Spec((8, 2), "float32"), Spec((5,), "int64")
    assert states_spec(x, weight, 4, splits).shape == (4, 2)
    with pytest.raises(ShapeError, match="weight"):
        states_spec(x, Spec((6, 2), "float32"), 4, splits)
    with pytest.raises(ShapeError, match="h0"):
        states_spec(x, weight, 4, splits, h0=Spec((5, 2), "float32"))
