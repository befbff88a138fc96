"""The points a generated loop runs over, and where the operands of each point lie.

Axes that all operands lay out without gaps become one loop. Whether they do is decided from
strides, and an axis is left out only if it is declared to have size 1: so another batch size, be it
1, gives loops of the same kind and the kernel is compiled once. A very short loop gives its place
innermost to the one around it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from noria.ir.program import Shape
from noria.kernels.registry import Array

SHORT = 5  # a loop of fewer steps is no good innermost


@dataclass(frozen=True, slots=True)
class Space:
    """Loops, outermost first; at least one.

    sizes:   of each loop
    strides: for each loop, what one step is for each operand, in elements
    reduced: whether the loop runs along a reduced axis
    """

    sizes: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    reduced: tuple[bool, ...]


def spread_strides(declared: Shape, array: Array, space: Shape) -> tuple[int, ...]:
    """Strides of an operand along the axes of the space, 0 where it is broadcast."""
    lead = len(space) - len(declared)
    return (0,) * lead + tuple(
        0 if _is_one(d) and not _is_one(s) else stride
        for d, s, stride in zip(declared, space[lead:], array.strides, strict=True)
    )


def kept_strides(array: Array, axes: Collection[int], rank: int) -> tuple[int, ...]:
    """Strides along all axes of a result of a reduction, 0 along the reduced ones.

    The result may have kept the reduced axes with size 1, or not.
    """
    strides = list(array.strides)
    if len(array.shape) == rank:
        return tuple(0 if a in axes else s for a, s in enumerate(strides))
    rest = iter(strides)
    return tuple(0 if a in axes else next(rest) for a in range(rank))


def _is_one(size: object) -> bool:
    return size.__class__ is int and size == 1


def memory_order(strides: Sequence[int]) -> list[int]:
    """Axes from the one with the longest step to the one with the shortest."""
    return sorted(range(len(strides)), key=lambda a: -abs(strides[a]))


def fold(
    declared: Shape,
    sizes: Sequence[int],
    operands: Sequence[Sequence[int]],
    order: Sequence[int],
    reduced: Collection[int] = (),
) -> Space:
    """The loops over a space.

    declared, sizes: its shape as written in the Program, and now
    operands: for each one its strides along the axes
    order: the axes, outermost first; reduced: those that are reduced
    """
    found: list[_Loop] = []
    for axis in order:
        d, n = declared[axis], sizes[axis]
        written = d if isinstance(d, int) else 0
        if written == 1:
            continue
        steps, along = tuple([strides[axis] for strides in operands]), axis in reduced
        if found:
            outer = found[-1]
            if outer.reduced == along and outer.steps == tuple([step * n for step in steps]):
                found[-1] = _Loop(outer.size * n, steps, along, outer.written * written)
                continue
        found.append(_Loop(n, steps, along, written))
    found = found or [_Loop(1, (0,) * len(operands), bool(reduced), 1)]
    if len(found) > 1 and 0 < found[-1].written < SHORT:
        found[-2:] = [found[-1], found[-2]]
    return Space(*zip(*[loop[:3] for loop in found], strict=True))


def whole(size: int, operands: int) -> Space:
    """The one loop over operands that lie alike and without gaps."""
    return Space((size,), ((1,) * operands,), (False,))


class _Loop(NamedTuple):
    """One loop, into which those within it went that lie in it without gaps.

    steps: of each operand; written: the size as declared, 0 where it is symbolic
    """

    size: int
    steps: tuple[int, ...]
    reduced: bool
    written: int
