import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:pool3d"
BATCH = {0: {0: "N"}}
ATTRS = [
    {"kernel": 2},
    {"kernel": 3, "stride": 2, "padding": 1},
    {"kernel": (2, 3, 1), "stride": (1, 2, 1), "padding": (1, 0, 0, 0, 1, 0)},
    {"kernel": 2, "stride": 3, "ceil_mode": True},
    {"kernel": (3, 2, 2), "dilation": (1, 2, 2), "padding": 1},
    {"kernel": 3, "stride": 2, "padding": "same"},
]


def text(attrs):
    return ",".join(f"{k}={v}".replace(" ", "") for k, v in attrs.items())


def volume(ties):
    if not ties:
        return arr(2, 3, 5, 6, 4, distinct=True)
    return np.random.default_rng(1).integers(-1, 2, (2, 3, 5, 6, 4)).astype(np.float32)


@pytest.mark.parametrize("attrs", ATTRS, ids=text)
def test_the_largest_of_each_box(attrs):
    check_kernel("max_pool3d", [volume(False)], attrs, kernel=NAME, symbolic=BATCH, tol=0.0)


@pytest.mark.parametrize("attrs", ATTRS, ids=text)
@pytest.mark.parametrize("ties", [False, True])
def test_the_gradient_goes_to_the_first_of_the_largest(attrs, ties):
    x = volume(ties) if ties else volume(ties).make((0,))
    out = o.max_pool3d(x, **attrs)
    check_kernel("max_pool3d_grad", [x, out, arr(*out.shape)], attrs, kernel=NAME)


@pytest.mark.parametrize("attrs", ATTRS, ids=text)
@pytest.mark.parametrize("included", [True, False])
def test_means_and_their_gradients(attrs, included):
    how = attrs | {"count_include_pad": included}
    check_kernel("avg_pool3d", [volume(False)], how, kernel=NAME, symbolic=BATCH)
    out = o.avg_pool3d(volume(False).make((0,)), **how)
    backward = how | {"sizes": (5, 6, 4)}
    check_kernel("avg_pool3d_grad", [arr(*out.shape)], backward, kernel=NAME, symbolic=BATCH)
