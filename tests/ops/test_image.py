import io

import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, FormatError
from noria.ops.image import decode_image
from noria.testing.case import Case
from noria.testing.check import check_case

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
SIZES = {"height": "height", "width": "width"}


def file_of(pixels, kind="png", **how):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=kind, **how)
    return np.frombuffer(out.getvalue(), np.uint8)


CASES = [
    Case("decode_image", [file_of(PIXELS)], SIZES, expect=lambda _: PIXELS, jax=False, id="png"),
    Case(
        "decode_image",
        [file_of(PIXELS, "bmp")],
        SIZES | {"pixels": "BGR"},
        expect=lambda _: PIXELS[:, :, ::-1],
        jax=False,
        id="bmp",
    ),
    Case(
        "decode_image",
        [file_of(PIXELS[:, :, 0])],
        SIZES | {"pixels": "Grayscale"},
        expect=lambda _: PIXELS[:, :, :1],
        jax=False,
        id="grey",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_a_palette_becomes_colours():
    red = Image.new("P", (2, 1))
    red.putpalette([255, 0, 0])
    out = io.BytesIO()
    red.save(out, format="png")
    got = decode_image(np.frombuffer(out.getvalue(), np.uint8), **SIZES)
    assert got.tolist() == [[[255, 0, 0], [255, 0, 0]]]


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_what_is_no_image_is_refused(cut):
    with pytest.raises(FormatError, match="no image"):
        decode_image(file_of(PIXELS)[:cut], **SIZES)


def test_bad_attributes_are_refused():
    with pytest.raises(DTypeError, match="bytes"):
        decode_image(np.zeros(3), **SIZES)
    with pytest.raises(ArgumentError, match="pixels"):
        decode_image(np.zeros(3, np.uint8), pixels="CMYK", **SIZES)
    with pytest.raises(ArgumentError, match="symbols"):
        decode_image(np.zeros(3, np.uint8), height=3, width=4)
