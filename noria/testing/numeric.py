"""Gradients against finite differences, in float64, along random directions.

A directional derivative needs two evaluations however many numbers the inputs hold, and a wrong
gradient has almost no chance to agree along two random directions. (Griewank & Walther,
Evaluating Derivatives, 2008, section 3.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Arrays = Sequence[Any]

STEPS = (1e-5, 4e-6)
ACCURACY = 1e-5  # of a derivative, relative to its typical size along a random direction
NOISE = 1e-9  # of a derivative, relative to the size of the numbers that were subtracted


class Rough(Exception):
    """Two step sizes disagree: there is a kink near this point."""


def weighted(outputs: Arrays, weights: Arrays) -> tuple[float, float]:
    """(sum of output * weight, sum of the absolute values of the same terms)."""
    total = size = 0.0
    for out, w in zip(outputs, weights, strict=True):
        terms = np.asarray(out, np.float64) * w
        total += float(terms.sum())
        size += float(np.abs(terms).sum())
    return total, size


def directional(
    fn: Callable[[Arrays], Arrays],
    at: Arrays,
    direction: dict[int, np.ndarray],
    weights: Arrays,
    scale: float,
) -> tuple[float, float]:
    """(d/dt of weighted(fn(at + t * direction)) at t = 0, its expected error).

    direction: what to add to some of the inputs, by their index;
    scale:     typical size of the derivative, which the two step sizes are compared on.
    Raises Rough if they disagree.
    """

    def value(t: float) -> tuple[float, float]:
        moved = [a + t * direction[i] if i in direction else a for i, a in enumerate(at)]
        return weighted(fn(moved), weights)

    slopes = []
    noise = 0.0
    for h in STEPS:
        (up, size), (down, _) = value(h), value(-h)
        slopes.append((up - down) / (2 * h))
        noise = NOISE * (1.0 + size)
    error = ACCURACY * (scale + abs(slopes[0])) + noise
    if not abs(slopes[0] - slopes[1]) <= error:
        raise Rough
    return slopes[0], error


def compare_directions(
    fn: Callable[[Arrays], Arrays],
    at: Arrays,
    gradients: dict[int, np.ndarray],
    weights: Arrays,
    rng: np.random.Generator,
    what: str,
    count: int = 2,
) -> None:
    """Check gradients of weighted(fn(at)) along `count` random directions.

    gradients: by index of input; the other inputs stay where they are.
    Raises AssertionError if one does not agree, Rough near a kink.
    """
    for _ in range(count):
        direction = {i: rng.standard_normal(g.shape) for i, g in gradients.items()}
        terms = [g * direction[i] for i, g in gradients.items()]
        exact = float(sum(t.sum() for t in terms))
        scale = float(np.sqrt(sum(np.square(t).sum() for t in terms)))
        assert np.isfinite(scale), f"{what}: a gradient holds numbers that are not finite"
        measured, error = directional(fn, at, direction, weights, scale)
        assert abs(exact - measured) <= error, (
            f"{what}: the gradient along a random direction is {exact:.9g}, "
            f"finite differences give {measured:.9g} (+- {error:.2g})"
        )
