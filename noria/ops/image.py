"""Pixels of compressed images."""

from __future__ import annotations

import io

import numpy as np

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, EngineError, ExtraMissing, FormatError
from noria.ir.opdef import op
from noria.ir.program import Spec
from noria.ops.common import need_rank

CHANNELS = {"RGB": 3, "BGR": 3, "Grayscale": 1}


@op
def decode_image(data, *, height, width, pixels="RGB"):
    """The pixels of a JPEG, PNG, BMP, WebP, TIFF, JPEG 2000 or PNM file: uint8 [height, width, C].

    data:          the file, uint8 [bytes]
    height, width: names of new symbols, for what only the data tell. XLA cannot compile it
    pixels:        'RGB', 'BGR' (C is 3) or 'Grayscale' (C is 1)

    Needs Pillow (extra `images`). Raises FormatError for what is no image, ExtraMissing without
    Pillow.
    """
    need_rank(data, 1, what="data")
    if data.dtype != "uint8":
        raise DTypeError("a file is made of bytes", expected="uint8", got=str(data))
    if pixels not in CHANNELS:
        raise ArgumentError("unknown pixels", expected=", ".join(CHANNELS), got=repr(pixels))
    if not (isinstance(height, str) and isinstance(width, str)):
        raise ArgumentError("sizes must be names of new symbols", got=f"{height!r}, {width!r}")
    return Spec((symbol(height), symbol(width), CHANNELS[pixels]), "uint8")


@decode_image.compute
def _(xp, data, height, width, pixels):
    if xp is not np:
        raise EngineError("XLA cannot compile decode_image: only the data tell its size")
    picture = _decoded(data.tobytes(), "L" if pixels == "Grayscale" else "RGB")
    if pixels == "Grayscale":
        return picture[:, :, None]
    return np.ascontiguousarray(picture[:, :, ::-1]) if pixels == "BGR" else picture


def _decoded(data: bytes, mode: str) -> np.ndarray:
    try:
        from PIL import Image
    except ImportError:
        raise ExtraMissing("pillow", "images", "decoding images") from None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError("this is no image that can be decoded", got=str(error)) from None
