import pytest

from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:resize"
BATCH = {0: {0: "N"}}
CROP = {"coordinates": "tf_crop_and_resize", "crop": (-0.2, 0.1, 1.3, 0.8)}
# image, sizes, attributes; 3 channels lie row-major, 9 channels-last
CASES = [
    ((2, 3, 5, 6), (10, 12), {}),
    ((2, 9, 5, 6), (10, 12), {}),
    ((2, 9, 5, 6), (3, 11), {"coordinates": "align_corners"}),
    ((1, 9, 5, 4), (10, 8), {"mode": "nearest", "coordinates": "asymmetric", "rounding": "floor"}),
    ((1, 3, 5, 4), (10, 8), {"mode": "nearest"}),
    ((2, 9, 5, 6), (7, 13), {"mode": "cubic"}),
    ((1, 3, 9, 8), (4, 5), {"mode": "cubic", "antialias": True, "exclude_outside": True}),
    ((1, 9, 4, 5), (6, 7), {**CROP, "beyond": 3.0}),
    ((2, 3, 6), (9,), {}),
    ((2, 9, 3, 4, 5), (4, 6, 3), {}),
    ((1, 3, 3, 4, 5), (4, 4, 3), {}),
    ((2, 5, 6, 9), (4, 7), {"axes": (1, 2)}),
    ((2, 9, 5, 6), (8,), {"axes": (2,)}),
    ((2, 9, 5, 6), (5, 6), {}),
]


@pytest.mark.parametrize(("image", "sizes", "attrs"), CASES, ids=str)
def test_an_image_is_resized(image, sizes, attrs):
    check_kernel("resize", [arr(*image)], {"sizes": sizes, **attrs}, kernel=NAME, symbolic=BATCH)


@pytest.mark.parametrize(("image", "sizes", "attrs"), CASES, ids=str)
def test_the_gradient_is_the_transpose(image, sizes, attrs):
    how = {k: v for k, v in attrs.items() if k != "beyond"}
    axes = how.get("axes", tuple(range(2, len(image))))
    grad = list(image)
    for axis, size in zip(axes, sizes, strict=True):
        grad[axis] = size
    how["sizes"] = tuple(image[a] for a in axes)
    check_kernel("resize_grad", [arr(*grad)], how, kernel=NAME, symbolic=BATCH)


def test_an_open_image_is_resized():
    from noria.core.dims import symbol

    attrs = {"sizes": (2 * symbol("H"), 7)}
    open_ = {0: {0: "N", 2: "H"}}
    check_kernel("resize", [arr(2, 9, 3, 4)], attrs, kernel=NAME, symbolic=open_)
