"""Lines of whole rows, and one source for all forms of an operator."""

import ast

import pytest

from noria.kernels.numba import lower, tile_sizes
from noria.kernels.numba.norm_source import (
    backward,
    factors,
    forward,
    room_of,
    scratch_of,
    width_of,
)

FORMS = [(d, bits) for d in ("float32", "bfloat16") for bits in (False, True)]


@pytest.mark.parametrize("channels", [1, 3, 7, 17, 64, 250, 256, 300, 2048, 5000])
def test_a_line_is_whole_rows_and_whole_vectors_where_that_is_cheap(channels):
    width = width_of(channels)
    assert width % channels == 0
    assert width >= min(512, channels)
    assert width <= max(1024, channels)
    assert width % 16 == 0 or channels in (250, 300, 5000)


def test_each_thread_of_a_team_has_room_of_its_own():
    assert room_of(250) == 256
    one, two, three = (scratch_of(512, n) for n in (1, 2, 3))
    assert three - two == two - one > 512 * 28


@pytest.mark.parametrize("dtype, bits", FORMS)
def test_each_text_is_one_function_of_a_table(dtype, bits):
    texts = [(text(dtype, bits), "batch_norm") for text in (forward, factors)]
    masks = ("positive", "factors", *(["mask"] if bits else []))
    texts += [(backward(dtype, bits, mask), "batch_norm_grad") for mask in masks]
    for text, name in texts:
        (function,) = ast.parse(text).body
        assert isinstance(function, ast.FunctionDef) and function.name == name


def test_a_branch_has_a_form_of_its_own():
    text = forward("bfloat16", True, scaled=True)
    (function,) = ast.parse(text).body
    assert function.name == "batch_norm" and text != forward("bfloat16", True)
    assert "vpgather" not in lower.assembly(text, "batch_norm")


def test_bits_are_the_masks_of_vectors():
    """A word of bits goes into a mask register as it is, and out of one."""
    if tile_sizes.WIDTH < 16:
        pytest.skip("vectors of this CPU have no mask registers")
    code = lower.assembly(backward("bfloat16", True, "mask"), "batch_norm_grad")
    assert "kmov" in code and "vpgather" not in code
    assert "kmov" in lower.assembly(forward("bfloat16", True), "batch_norm")
