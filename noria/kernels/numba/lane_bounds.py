"""Activations that are bounds of a result, for tables of tiles (`lanes.bounded`).

So tiles have one form for all of these, instead of one compiled for each.
"""

from __future__ import annotations

import struct
from math import inf

BOUNDS: dict[str | None, tuple[float, float]] = {
    None: (-inf, inf),
    "relu": (0.0, inf),
    "relu6": (0.0, 6.0),
}


def bits(x: float) -> int:
    """A float32 in the low half of an int64."""
    return int(struct.unpack("<q", struct.pack("<fi", x, 0))[0])


UNBOUND = [bits(x) for x in BOUNDS[None]]
