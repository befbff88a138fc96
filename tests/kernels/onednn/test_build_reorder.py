import itertools

import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import EngineError
from noria.kernels.onednn.build_reorder import reorder
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc

rng = np.random.default_rng(0)
ORDERS = list(itertools.product(itertools.permutations(range(3)), repeat=2))


def normal(*shape):
    return rng.standard_normal(shape).astype("f")


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("orders", ORDERS)
def test_reorder_between_any_two_layouts(arrays, orders, gap):
    x = arrays.lay(normal(3, 1, 5), orders[0], gap)
    out = arrays.lay(np.zeros((3, 1, 5), "f"), orders[1], gap)
    arrays.execute(reorder(arrays.desc(x), arrays.desc(out)), {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_array_equal(out, x)


def test_reorder_leaves_the_gaps_alone(arrays):
    room = np.full((3, 8), 7, "f")
    x, out = normal(3, 5), room[:, :5]
    arrays.execute(reorder(arrays.desc(x), arrays.desc(out)), {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_array_equal(out, x)
    assert (room[:, 5:] == 7).all()


@pytest.mark.parametrize(
    ("dtype", "want"),
    [
        ("int8", [-128, -2, 0, 2, 127]),
        ("uint8", [0, 0, 0, 2, 255]),
        ("int32", [-300, -2, 0, 2, 300]),
    ],
)
def test_reorder_to_integers_rounds_and_saturates(arrays, dtype, want):
    x, out = np.array([-300, -1.5, 0.5, 1.5, 300], "f"), np.zeros(5, dtype)
    arrays.execute(reorder(arrays.desc(x), arrays.desc(out)), {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_array_equal(out, np.array(want, dtype))


def test_reorder_to_bfloat16_rounds_as_numpy_does(arrays):
    x, out = normal(1000), np.zeros(1000, ml_dtypes.bfloat16)
    arrays.execute(reorder(arrays.desc(x), arrays.desc(out)), {ARG.SRC: x, ARG.DST: out})
    np.testing.assert_array_equal(out, x.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    "target", [MemDesc((2, 4), "float32"), MemDesc.any((2, 3), "float32")], ids=["sizes", "open"]
)
def test_what_is_no_copy_is_refused(target):
    with pytest.raises(EngineError):
        reorder(MemDesc((2, 3), "float32"), target)
