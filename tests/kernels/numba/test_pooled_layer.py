import pytest

from noria.core.errors import ArgumentError
from noria.kernels.numba.pooled_layer import Layer

PLAIN = {"stride": 1, "padding": 0, "pool_kernel": 2, "pool_stride": None}


def test_a_plain_layer_has_nothing_around_its_image():
    layer = Layer.of(PLAIN, (28, 26), (6, 3, 5, 5))
    assert (layer.conv.out, layer.pool.out) == ((24, 22), (12, 11))
    assert not layer.padded
    assert (layer.pixel, layer.line, layer.nbytes) == (12, 26 * 12, 28 * 26 * 12)
    assert (layer.row, layer.step) == (layer.line, layer.pixel)


def test_steps_are_those_of_the_convolution_over_the_padded_image():
    attrs = {**PLAIN, "stride": (2, 3), "padding": (1, 2)}
    layer = Layer.of(attrs, (7, 9), (4, 2, 3, 3))
    assert layer.fronts == [1, 2]
    assert (layer.down, layer.across) == (9, 12)  # the windows begin at 0, 2, 4, 6 and 0, 3, 6, 9
    assert layer.padded
    assert (layer.row, layer.step) == (2 * 12 * 8, 3 * 8)


def test_what_no_window_sees_behind_an_image_is_not_around_it():
    layer = Layer.of({**PLAIN, "stride": 4, "padding": (1, 3)}, (9, 9), (1, 1, 2, 2))
    assert layer.conv.out == (3, 4)  # the windows end at 1, 5, 9 and -1, 3, 7, 11
    assert (layer.down, layer.across) == (10, 14)


def test_the_pooling_may_have_padding_and_windows_that_reach_beyond():
    more = {"pool_kernel": 3, "pool_stride": 2, "pool_padding": 1, "ceil_mode": True}
    layer = Layer.of({**PLAIN, **more}, (10, 10), (1, 1, 3, 3))
    assert layer.pool_fronts == [1, 1]
    assert layer.pool.out == (5, 5)


def test_padding_that_hides_a_window_is_an_error():
    with pytest.raises(ArgumentError, match="smaller than the window"):
        Layer.of({**PLAIN, "pool_padding": 2}, (10, 10), (1, 1, 3, 3))
