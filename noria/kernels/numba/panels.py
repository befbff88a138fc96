"""Matrices packed in panels, as copies that operators share: see `gemm.py`."""

from __future__ import annotations

from noria.kernels.call import Call
from noria.kernels.numba import gemm
from noria.kernels.numba.tile_sizes import PANEL
from noria.kernels.registry import Array, Pack


def pack(weight: Array, position: int, turned: bool, threads: int) -> Pack:
    """A weight [ins, outs], or [outs, ins] if turned, in panels of PANEL outputs."""
    ins, outs = weight.shape[::-1] if turned else weight.shape
    strides = (4, ins * 4) if turned else (outs * 4, 4)

    def emit(address: int, copy: int) -> list[Call]:
        return [gemm.packing("numba:panels", [address, *strides, copy, ins, outs], threads)]

    return Pack(
        position, ("panels", PANEL, turned), gemm.packed_bytes(ins, outs), emit, replaces=True
    )
