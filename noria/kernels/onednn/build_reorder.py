"""Builder of copies into another layout or dtype."""

from __future__ import annotations

from noria.kernels.onednn.attr import PLAIN, Attr
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.lib import library
from noria.kernels.onednn.memory import MemDesc
from noria.kernels.onednn.primitive import Primitive, create, remembered


def reorder(src: MemDesc, dst: MemDesc, attr: Attr = PLAIN) -> Primitive:
    """dst = src in another layout or dtype (float to integer rounds to even and saturates)."""
    return remembered(_reorder, src, dst, attr)


def _reorder(src: MemDesc, dst: MemDesc, attr: Attr) -> Primitive:
    engine = library().engine
    given = (src, engine, dst, engine)
    return create("reorder", "reorder", given, (ARG.SRC, ARG.DST), attr=attr)
