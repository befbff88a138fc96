"""Where the results of the prologue lie: memory of their own, outside the arena of the steps.

A result that no size is part of is shared with Bounds of other sizes: a key tells what it holds,
and `Kept` has one Piece for each key. What depends on sizes is nobody else's.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from noria.runtime.arena import Arena
from noria.runtime.buffers import Buffers, Item
from noria.runtime.memory import Buffer
from noria.runtime.plan import Plan
from noria.runtime.prologue import Rare
from noria.runtime.workspace import Kept, Piece, Workspace


class Keeping:
    """Gives the items of a prologue their memory, before the steps get theirs.

    memory:  the buffers of one Bound; those of what is kept are added
    space:   where memory of this Bound's own is taken from; kept: what all Bounds share
    scratch: the memory that the items work in, which must live as long as they do
    """

    def __init__(
        self,
        plan: Plan,
        memory: Buffers,
        space: Workspace[Any],
        kept: Kept,
        scratch: Sequence[Arena] = (),
    ) -> None:
        self.plan, self.memory, self.space, self.kept = plan, memory, space, kept
        self.scratch = list(scratch)

    def keep(self, prologue: Sequence[Item]) -> list[Rare]:
        """The items, each with the pieces that it writes."""
        scratch = max((i.prepared.scratch for i in prologue if i.prepared), default=0)
        if scratch:
            self.scratch.append(Arena(scratch))
        found = []
        for item in prologue:
            pieces = [self._pin(*result) for result in self._results(item)]
            found.append(Rare(item, pieces))
            if item.step.view:
                self.memory.share(item)
            elif item.pack is None and scratch:
                address = self.scratch[-1].address
                item.scratch = Buffer("scratch", scratch, -1, -1, address=address)
        return found

    def _results(self, item: Item) -> list[tuple[Buffer, Hashable]]:
        """The buffers that an item fills, and keys that tell what they hold.

        None for what depends on the sizes.
        """
        sized = self.plan.sized
        if item.pack is not None:
            pack, source = item.pack
            return [(item.packs[0], None if source in sized else (source, pack.key))]
        if item.step.view:
            return []
        found: list[tuple[Buffer, Hashable]] = []
        for v in item.outputs:
            array = self.memory.array(v)
            buffer = self.memory.of[v] = Buffer(v.name, array.nbytes, -1, -1)
            found.append((buffer, None if v in sized else (v, array.strides)))
        return found

    def _pin(self, buffer: Buffer, key: Hashable) -> Piece:
        nbytes = buffer.nbytes
        piece = self.space.own(nbytes) if key is None else self.kept.piece(key, nbytes)
        buffer.address = piece.address
        return piece
