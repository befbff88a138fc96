import pytest

from noria.kernels.numba.taken import FEW
from tests.kernels.numba.test_taken import HOW, ids, weight_grad

ROWS = "numba:taken_rows"


@pytest.mark.parametrize("how", HOW, ids=ids)
def test_the_gradient_by_the_weight(how):
    weight_grad((3, 25, 14, 13), 7, how, ROWS)


@pytest.mark.parametrize("outs", [1, 4, 17])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_any_number_of_outputs_and_images(outs, images):
    weight_grad((images, 5, 9, 10), outs, HOW[0], ROWS, symbolic={i: {0: "N"} for i in range(3)})


@pytest.mark.parametrize("ins", [16, 33, 100])
def test_rows_wider_than_a_tile(ins):
    weight_grad((2, ins, 7, 9), 5, {"conv": {"kernel": (2, 5)}, "pool": {"kernel": 2}}, ROWS)


def test_small_patches_are_declined():
    with pytest.raises(AssertionError, match="small"):
        weight_grad((1, FEW // 25, 9, 9), 2, HOW[0], ROWS)
