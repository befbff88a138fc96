"""How the values of a Plan share memory, found out for one set of sizes and followed for others.

Whether an output may lie where an input is depends on lives, which are those of the Plan, and on
kernels. Sizes only decide whether both have as many bytes in the same order, and that is looked at
again. `Buffers.prove` goes through the outcome as through any other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from noria.ir.program import Value
from noria.kernels.registry import Array, same_memory
from noria.runtime.memory import Buffer

if TYPE_CHECKING:
    from noria.runtime.buffers import Item

Sized = Callable[[Value], Array]
Likeness = list[tuple[Any, ...]]


@dataclass(slots=True)
class Script:
    """What `Buffers.assign` decided.

    likeness: of each item all that the decisions depend on, besides sizes
    new:      (value, first item, last item) of each buffer of values
    shared:   (value, value in whose buffer it lies)
    alike:    (value, other value): the same elements at the same places
    outputs:  values that count as memory if none is shared
    commits:  (state name, new value) of updates that are copied
    last:     value -> last item that reads it
    """

    likeness: Likeness
    new: list[tuple[Value, int, int]] = field(default_factory=list)
    shared: list[tuple[Value, Value]] = field(default_factory=list)
    alike: list[tuple[Value, Value]] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    commits: list[tuple[str, Value]] = field(default_factory=list)
    last: dict[Value, int] = field(default_factory=dict)

    def fits(self, likeness: Likeness, array: Sized) -> bool:
        """May it be followed for these items and sizes?"""
        return self.likeness == likeness and all(
            same_place(array(new), array(old)) for new, old in self.alike
        )

    def follow(self, of: dict[Value, Buffer], array: Sized) -> list[Buffer]:
        """Adds to `of` the buffer of each value; gives the new ones."""
        buffers = []
        for v, first, last in self.new:
            of[v] = buffer = Buffer(v.name, array(v).nbytes, first, last)
            buffers.append(buffer)
        for v, other in self.shared:
            of[v] = of[other]
        return buffers


def likeness_of(items: Sequence[Item], nothing: Callable[[Item], bool]) -> Likeness:
    """nothing: of a reorder, whether these sizes leave nothing to do."""
    return [
        (item.step, item.pack is None, tuple(item.prepared.in_place))
        if item.prepared is not None
        else (item.step, nothing(item))
        for item in items
    ]


def same_place(a: Array, b: Array) -> bool:
    """Is element i of both at the same place?"""
    same_size = a.shape == b.shape and a.nbytes == b.nbytes
    return same_size and same_memory(a.shape, a.strides, b.strides)
