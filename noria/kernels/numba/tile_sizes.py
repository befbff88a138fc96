"""Sizes of register tiles, apart from the code of the tiles, which needs Numba to be imported."""

from __future__ import annotations

from noria.kernels.numba.loader import cpu

# 16 lanes: 6 x 4 accumulators, 4 vectors of B and a broadcast fit 32 registers; 8: 6 x 2 fit 16.
WIDE = "+avx512f" in cpu()[1]
WIDTH = 16 if WIDE else 8
VECTORS = 4 if WIDE else 2
ROWS = 6
PANEL = WIDTH * VECTORS
PAIRS = WIDE and "+avx512bf16" in cpu()[1]  # products of pairs of bfloat16, summed in float32
# Products of bfloat16 are left to oneDNN then, which uses them: several times as fast as vectors.
MATRIX_UNITS = "+amx-bf16" in cpu()[1]
