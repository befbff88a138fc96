"""The matrices of Winograd's minimal filtering, from their points.

F(m, r) computes m neighbouring outputs of a correlation with r taps from m + r - 1 inputs in as
many multiplications:  y = A^T [(G g) * (B^T d)]  (Winograd, 1980; Lavin and Gray, 2015). Each row
belongs to a point at which polynomials are evaluated, the last one to infinity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

Matrix = tuple[tuple[float, ...], ...]

OUTPUTS, TAPS = 4, 3
SIDE = OUTPUTS + TAPS - 1  # of a tile of inputs
POSITIONS = SIDE * SIDE  # products of a tile of two axes
# Of these sizes, points with the least error in float32 (Barabasz et al., 2020): 1e-6 of the
# standard deviation of the result (root mean square), with 2 and -2 it is twice as much.
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-1, 2))


@dataclass(frozen=True, slots=True)
class Filtering:
    """data: B^T [SIDE, SIDE], kernel: G [SIDE, TAPS], result: A^T [OUTPUTS, SIDE]."""

    data: Matrix
    kernel: Matrix
    result: Matrix


def filtering(points: Sequence[Fraction], outputs: int, taps: int) -> Filtering:
    """F(outputs, taps) by outputs + taps - 2 different points, and infinity."""
    others = [[q for q in points if q != p] for p in points]
    scale = [
        prod((p - q for q in rest), start=Fraction(1))
        for p, rest in zip(points, others, strict=True)
    ]
    kernel = [[p**j / s for j in range(taps)] for p, s in zip(points, scale, strict=True)]
    result = [[p**j for j in range(outputs)] for p in points]
    data = [[*_polynomial(rest), Fraction(0)] for rest in others]
    return Filtering(
        _floats([*data, _polynomial(points)]),
        _floats([*kernel, _last(taps)]),
        transposed(_floats([*result, _last(outputs)])),
    )


def transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients, the lowest first, of the product of (x - root)."""
    found = [Fraction(1)]
    for root in roots:
        shifted, scaled = [Fraction(0), *found], [*(-root * c for c in found), Fraction(0)]
        found = [a + b for a, b in zip(shifted, scaled, strict=True)]
    return found


def _last(count: int) -> list[Fraction]:
    return [Fraction(int(j == count - 1)) for j in range(count)]


def _floats(rows: Sequence[Sequence[Fraction]]) -> Matrix:
    return tuple(tuple(float(x) for x in row) for row in rows)


STANDARD = filtering(POINTS, OUTPUTS, TAPS)
