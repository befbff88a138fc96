"""A Bound as the mold of those for other sizes: the same memory, and the rows they do not touch.

For other sizes nearly nothing about a Plan's memory has to be found out again, if each value finds
room where it lay before. Then addresses stay, and with them every row of the tape whose step has
nothing to do with the sizes that changed. `Mold.cast` looks at all that the places depend on; what
they do not serve gets a mold of its own. `Buffers.prove` goes over the outcome as over any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from noria.core.dims import symbols_of
from noria.ir.program import Value
from noria.kernels.call import Call
from noria.kernels.registry import Prepared
from noria.runtime import branches
from noria.runtime.arena import Arena
from noria.runtime.buffers import Buffers, Item
from noria.runtime.items import again
from noria.runtime.memory import Buffer
from noria.runtime.operands import Operands
from noria.runtime.plan import Plan
from noria.runtime.prepare import Choice
from noria.runtime.prologue import Rare
from noria.runtime.recipe import Recipe
from noria.runtime.script import same_place

MOST = 8  # molds of a Plan that are kept
SPARE = 4  # so many times the bytes are too many: what small sizes need would lie far apart
SMALL = 1 << 18  # bytes of an arena that is never too large: they stay in a core's cache

Choices = Mapping[int, Choice]


@dataclass(eq=False)
class Mold:
    """What the last Bound in one set of places was made of.

    addresses: of the states, as `Kept.addresses` gives them
    memory:    the buffers, and operands: the sizes, of the first one
    choices:   the kernels, by `Step.alike`
    items:     of each step; rare: those that run once, and scratch: their memory
    groups:    what may run side by side, as the first sizes had it; beside: at other sizes too
    lasting:   addresses of the pinned memory that the first one's steps read
    calls:     of items, in an arena at the address `arena`
    casts:     how often it served; recipe: how it does so without asking the kernels
    """

    plan: Plan
    addresses: Mapping[str, Any]
    memory: Buffers
    arena_bytes: int
    peak_bytes: int
    operands: Operands
    choices: dict[int, Choice]
    items: list[Item]
    rare: list[Rare]
    scratch: list[Arena]
    groups: branches.Groups
    beside: bool
    lasting: dict[bool, set[int | None]] = field(default_factory=dict)
    calls: dict[Item, list[Call]] = field(default_factory=dict)
    arena: int = 0
    casts: int = 0
    recipe: Recipe | None = None

    def cast(self, choices: Choices, operands: Operands) -> tuple[list[Item], Buffers] | None:
        """The items for other sizes, and their memory; None where this one does not serve."""
        if self._unfit or not self.has_place(operands):
            return None
        changed = [
            alike
            for alike, old in self.choices.items()
            if choices[alike] is not old or old.prepared is None
        ]
        if not (self._suffices(changed, choices) and self._packs_alike(choices)):
            return None
        items = list(self.items)
        for i in self.sized.union(*[self._groups.get(alike, ()) for alike in changed]):
            if not self._packs_the_same(i, choices):
                items[i] = again(items[i], choices)
        nbytes = self._bytes(operands)
        memory = self.memory.for_sizes(operands.array, operands.known, nbytes)
        if self.sized_rare:
            memory.of = dict(memory.of)
        return items, memory

    def forget(self) -> None:
        """Its recipe, whose rows keep the arena they lie in."""
        self.recipe, self.casts = None, 0

    # ---- what does not depend on sizes ---------------------------------------------------------

    @cached_property
    def sized(self) -> frozenset[int]:
        """Items made anew for all sizes: those that no kernel prepares, and those that read what
        the prologue computes for these sizes alone, which has memory of its own."""
        known = self.plan.sized
        return frozenset(
            i
            for i, item in enumerate(self.items)
            if not item.step.view
            and (
                (item.step.kernel is None and item.step.symbols)
                or not known.isdisjoint(v for v in item.inputs if v is not None)
            )
        )

    @cached_property
    def sized_rare(self) -> list[int]:
        """The items of the prologue that compute it."""
        return [
            i for i, r in enumerate(self.rare) if not self.plan.sized.isdisjoint(r.item.outputs)
        ]

    @cached_property
    def sized_roots(self) -> list[Value]:
        """What it computes that is fetched, or becomes state."""
        return [v for v in self.plan.program.roots() if v in self.plan.sized]

    @cached_property
    def states(self) -> dict[Buffer, str]:
        """Names of the states by their buffers."""
        return {self.memory.of[s.value]: n for n, s in self.plan.program.state.items()}

    @cached_property
    def _total(self) -> int:
        """Bytes of all values that are computed, at the first sizes."""
        return self._bytes(self.operands)

    @cached_property
    def _unfit(self) -> bool:
        """Packed copies, or names in the steps, of memory that is made for each set of sizes."""
        sized = self.plan.sized
        own = {self.memory.of[v] for v in sized if v in self.memory.of}
        made = {v for item in self.items for v in item.outputs}
        return any(r.item.pack and r.item.pack[1] in sized for r in self.rare) or any(
            self.memory.of.get(v) in own for v in made
        )

    @cached_property
    def _groups(self) -> dict[int, list[int]]:
        """`Step.alike` -> items."""
        found: dict[int, list[int]] = {}
        for i, item in enumerate(self.items):
            if item.step.kernel is not None:
                found.setdefault(item.step.alike, []).append(i)
        return found

    @cached_property
    def _room(self) -> list[tuple[int, int]]:
        """(kind, bytes): that many each value of the kind has."""
        found: dict[int, int] = {}
        for v, buffer in self.memory.of.items():
            if not buffer.pinned:
                kind = self.operands.kinds.number(v)
                found[kind] = min(found.get(kind, buffer.nbytes), buffer.nbytes)
        return list(found.items())

    @cached_property
    def _outputs(self) -> list[tuple[int, int]]:
        """(kind, how many values of it are computed)."""
        return list(Counter(map(self.operands.kinds.number, self.memory.script.outputs)).items())

    @cached_property
    def _pairs(self) -> set[tuple[int, int, bool]]:
        """Kinds of values of which one lies where the other was, and of those that are copied into
        another layout: are these the same?"""
        kind, array = self.operands.kinds.number, self.operands.array
        copies = [(i.inputs[0], i.outputs[0]) for i in self.items if i.reorders]
        pairs: list[tuple[Any, Value]] = [*self.memory.script.alike, *copies]
        return {
            (kind(a), kind(b), same_place(array(a), array(b)))
            for a, b in pairs
            if kind(a) != kind(b)
        }

    @cached_property
    def _packing(self) -> list[int]:
        """Items that read packed copies."""
        return [i for i, item in enumerate(self.items) if item.packs and item.pack is None]

    @cached_property
    def _packers(self) -> dict[int, int]:
        """Items that pack values whose size is always the same: which of their kernel's packs."""
        found = {}
        for i, item in enumerate(self.items):
            if item.pack is not None and not symbols_of(item.pack[1].shape):
                assert item.prepared is not None
                found[i] = next(n for n, p in enumerate(item.prepared.packs) if p is item.pack[0])
        return found

    def _packs_the_same(self, i: int, choices: Choices) -> bool:
        """Does an item make the copy that the kernel for other sizes asks for? A key stands for
        all of it, whoever asks."""
        item = self.items[i]  # of the sizes served last, whose kernel may have asked for another
        if i not in self._packers or item.pack is None:
            return False
        prepared = choices[item.step.alike].prepared
        if prepared is None:
            return False
        new, old = prepared.packs[self._packers[i]], item.pack[0]
        return new.key == old.key and new.nbytes == old.nbytes

    # ---- does the memory serve? ----------------------------------------------------------------

    def has_place(self, operands: Operands) -> bool:
        """Is there room for all values, where they may share it?"""
        return self._has_room(operands, self._bytes(operands)) and self._lies_alike(operands)

    def suffices(self, item: Item, choice: Choice) -> bool:
        """Is there what another choice asks for by an item, which packs the same as before?"""
        old, new = item.prepared, choice.prepared
        if old is None or new is None:
            return old is new
        if not (_asks_alike(old, new) and _has_room(item, old, new)):
            return False
        return all(a.key == b.key for a, b in zip(old.packs, new.packs, strict=True))

    def _bytes(self, operands: Operands) -> int:
        return sum([operands.of_kind(kind).nbytes * count for kind, count in self._outputs])

    def _has_room(self, operands: Operands, nbytes: int) -> bool:
        of = operands.of_kind
        for kind, room in self._room:
            if of(kind).nbytes > room:
                return False
        return self.arena_bytes <= SMALL or SPARE * nbytes >= self._total

    def _lies_alike(self, operands: Operands) -> bool:
        of = operands.of_kind
        return all(same_place(of(a), of(b)) == was for a, b, was in self._pairs)

    def _suffices(self, changed: Sequence[int], choices: Choices) -> bool:
        """Is there what the other choices ask for?"""
        for alike in changed:
            old, new = self.choices[alike].prepared, choices[alike].prepared
            if old is None or new is None:
                if old is not new:
                    return False
            elif not _asks_alike(old, new):
                return False
            elif new.scratch or new.packs:
                for i in self._groups.get(alike, ()):
                    if not _has_room(self.items[i], old, new):
                        return False
        return True

    def _packs_alike(self, choices: Choices) -> bool:
        """Are the packed copies that were shared still the same, and those that were not others?"""
        keys: dict[Buffer, Any] = {}
        buffers: dict[Any, Buffer] = {}
        for i in self._packing:
            item = self.items[i]
            prepared = choices[item.step.alike].prepared
            assert prepared is not None
            for buffer, pack in zip(item.packs, prepared.packs, strict=True):
                key = item.inputs[pack.input], pack.key
                if keys.setdefault(buffer, key) != key:
                    return False
                if buffers.setdefault(key, buffer) is not buffer:
                    return False
        return True


def _asks_alike(old: Prepared, new: Prepared) -> bool:
    """Do they work in place alike, and read the same packed copies?"""
    if old.in_place != new.in_place and tuple(old.in_place) != tuple(new.in_place):
        return False
    if len(old.packs) != len(new.packs):
        return False
    for a, b in zip(old.packs, new.packs, strict=True):
        if a.input != b.input or a.replaces != b.replaces:
            return False
        if (a.full is None) != (b.full is None):
            return False
    return True


def _has_room(item: Item, old: Prepared, new: Prepared) -> bool:
    """Is there room for scratch and packs? Those that are kept must be what they were."""
    if item.pack is not None:
        return True
    if new.scratch > (0 if item.scratch is None else item.scratch.nbytes):
        return False
    for buffer, a, b in zip(item.packs, old.packs, new.packs, strict=True):
        if buffer.address is None:
            if b.nbytes > buffer.nbytes:
                return False
        elif b.nbytes != a.nbytes or b.key != a.key:
            return False
    return True
