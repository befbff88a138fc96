"""The two orders of steps, all rows at once and a scan over packed steps, give the same."""

import numpy as np
import pytest

from noria.core.errors import ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.steps import scan_steps, states_spec, unroll

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


def test_states_that_do_not_fit_are_told():
    x, weight, splits = Spec((6, 8), "float32"), Spec((8, 2), "float32"), Spec((5,), "int64")
    assert states_spec(x, weight, 4, splits).shape == (4, 2)
    with pytest.raises(ShapeError, match="weight"):
        states_spec(x, Spec((6, 2), "float32"), 4, splits)
    with pytest.raises(ShapeError, match="h0"):
        states_spec(x, weight, 4, splits, h0=Spec((5, 2), "float32"))
