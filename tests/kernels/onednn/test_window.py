import pytest

from noria.core.errors import ArgumentError
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.window import Window

IMAGE = MemDesc((1, 3, 8, 8), "float32")


def test_dilation_1_is_dense_for_us_and_0_for_onednn():
    strides, dilation, front, behind = Window((2, 1), (0, 1), (-1, 3), (1, 4)).arrays
    assert [list(a[:3]) for a in (strides, dilation, front, behind)] == [
        [2, 1, 0],
        [0, 3, 0],
        [0, 1, 0],
        [-1, 3, 0],
    ]


@pytest.mark.parametrize(
    "window",
    [
        Window((1,), (0, 0), (0, 0), (1, 1)),
        Window((1, 1), (0, 0, 0), (0, 0), (1, 1)),
        Window((), (), (), ()),
        Window((0, 1), (0, 0), (0, 0), (1, 1)),
        Window((1, 1), (0, 0), (0, 0), (1, 0)),
    ],
)
def test_a_window_that_does_not_fit_is_refused(window):
    with pytest.raises(ArgumentError, match="strides"):
        window.check(IMAGE)


def test_equal_windows_are_equal_keys():
    a, b = Window((1,), (0,), (0,), (1,)), Window((1,), (0,), (0,), (1,))
    assert hash(a) == hash(b) and a == b
