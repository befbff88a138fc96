import numpy as np
import pytest

from noria.convert.fluid.broadcast import aligned
from noria.core.errors import ArgumentError


@pytest.mark.parametrize(
    ("x", "y", "axis", "want"),
    [
        ((2, 3, 4), (4,), -1, (4,)),
        ((2, 3, 4), (3,), 1, (3, 1)),
        ((2, 3, 4), (2, 3), 0, (2, 3, 1)),
        ((2, 3), (2, 1), 0, (2, 1)),
        ((2, 3, 4), (2, 1), 0, (2, 1, 1)),
    ],
)
def test_shapes_of_the_second_value(x, y, axis, want):
    assert aligned(np.ones(x), np.ones(y), axis)[1].shape == want


def test_the_values_change_parts_where_the_first_is_the_smaller():
    x, y = aligned(np.ones(3), np.ones((2, 3, 4)), 1)
    assert (x.shape, y.shape) == ((3, 1), (2, 3, 4))


def test_a_shape_behind_the_last_axis_is_refused():
    with pytest.raises(ArgumentError, match="behind the axis"):
        aligned(np.ones((2, 3, 4)), np.ones((3, 4)), 2)
