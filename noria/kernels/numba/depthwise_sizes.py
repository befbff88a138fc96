"""The table and the tiles of a depthwise convolution, apart from their code, which needs Numba."""

from __future__ import annotations

# Fields of a tile's table, strides in bytes: of the input from one row of taps to the next and from
# pixel to pixel, of the output from pixel to pixel, of the weights from row to row of taps and from
# tap to tap; rows and columns of taps that are seen; vectors of channels; the bias, or zeros; its
# step from vector to vector; channels of the last vector; the least and the greatest result, both
# float32.
X_ROW, X_PIXEL, OUT_PIXEL, W_ROW, W_TAP, ROWS, COLUMNS, VECTORS, BIAS, BIAS_STEP, LANES = range(11)
LOW, HIGH = range(11, 13)
FIELDS = 16

TAPS = 3  # in a row of the kernel
PIXELS = 7  # of a tile: 7 sums, and what they share of up to 15 columns of the input
STRIDES = (1, 2)
"""Between the columns of the input where windows begin."""
