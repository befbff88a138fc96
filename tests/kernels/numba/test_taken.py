from math import prod

import numpy as np
import pytest

from noria.kernels.numba.taken import FEW
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.ops.max_places import max_pool2d_places
from noria.ops.window import slide
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

LENET = {"conv": {"kernel": (5, 5)}, "pool": {"kernel": 2}}
HOW = [
    LENET,
    {"conv": {"kernel": (3, 3), "padding": 1}, "pool": {"kernel": 2, "ceil_mode": True}},
    {"conv": {"kernel": (3, 2), "stride": (2, 1), "padding": (2, 1)}, "pool": {"kernel": 2}},
    {"conv": {"kernel": (1, 4)}, "pool": {"kernel": 3, "stride": 2, "padding": 1}},
    {"conv": {"kernel": (7, 7), "stride": 2}, "pool": {"kernel": (2, 3), "stride": (1, 4)}},
    {"conv": {"kernel": (2, 2), "padding": (0, 1, 2, 0)}, "pool": {"kernel": 2, "stride": 3}},
]
ids = [str(k) for k in range(len(HOW))]


def places_of(images, outs, sizes, pool, seed=0):
    x = np.random.default_rng(seed).standard_normal((images, outs, *sizes)).astype(np.float32)
    return max_pool2d_places(x, **pool)[1]


def pooled(how, pool):
    names = {f"pool_{k}": v for k, v in pool.items() if k != "ceil_mode"}
    return {**how, **names, "ceil_mode": pool.get("ceil_mode", False)}


def weight_grad(shape, outs, how, kernel="numba:taken_weight_grad", **more):
    """Check the gradient by the weight for x of this shape."""
    conv, pool = how["conv"], how["pool"]
    rest = {k: v for k, v in conv.items() if k != "kernel"}
    sizes = slide(shape[2:], conv["kernel"], **rest).out
    places = places_of(shape[0], outs, sizes, pool)
    inputs = [arr(*shape), arr(*places.shape), places]
    attrs = pooled(conv, pool)
    check_kernel("taken_weight_grad", inputs, attrs, kernel=kernel, **more)


SMALL = [(h, ins) for h in HOW for ins in (1, 2) if ins * prod(h["conv"]["kernel"]) <= FEW]


@pytest.mark.parametrize(("how", "ins"), SMALL)
def test_the_gradient_by_the_weight(how, ins):
    weight_grad((3, ins, 14, 13), 7, how)


@pytest.mark.parametrize("outs", [1, 4, 17])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_any_number_of_outputs_and_images(outs, images):
    weight_grad((images, 2, 9, 8), outs, HOW[1], symbolic={i: {0: "N"} for i in range(3)})


@pytest.mark.parametrize("ins", [7, 9])
def test_patches_of_many_vectors(ins):
    weight_grad((2, ins, 7, 9), 5, {"conv": {"kernel": (2, 5)}, "pool": {"kernel": 2}})
