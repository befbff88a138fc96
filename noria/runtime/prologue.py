"""What depends only on constants and on state that no step changes: computed once, then kept.

Weights are packed here. A weight that nothing but its packing reads takes no memory afterwards:
what was computed is forgotten, and computed again should other sizes ask for it in another way; a
state that lies in a file is read again from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from noria.ir.program import Value
from noria.runtime.buffers import Item
from noria.runtime.memory import Buffer
from noria.runtime.timing import Action
from noria.runtime.workspace import Piece


@dataclass(frozen=True, slots=True)
class Rare:
    """An item that runs once, and the pieces it writes."""

    item: Item
    pieces: Sequence[Piece]

    @property
    def written(self) -> Sequence[Value | Buffer]:
        """What lies in the pieces."""
        return self.item.outputs if self.item.pack is None else self.item.packs

    @property
    def read(self) -> list[Value | Buffer]:
        """What it reads."""
        values: list[Value | Buffer] = [v for v in self.item.inputs if v is not None]
        return values if self.item.pack is not None else [*values, *self.item.packs]


class Prologue:
    """The items of one Bound that run once.

    of:        the buffers of values
    lasting:   addresses of memory that the steps read, see `read_by_steps`
    states:    names of the states, by their buffers
    actions:   makes the actions of items
    give_back: told the name of a state that only the prologue reads, each time it has read it
    """

    def __init__(
        self,
        items: Sequence[Rare],
        of: Mapping[Value, Buffer],
        lasting: set[int | None],
        states: Mapping[Buffer, str],
        actions: Callable[[Sequence[Item]], list[Action]],
        give_back: Callable[[str], None] | None,
    ) -> None:
        self.items, self._of, self._lasting = items, of, lasting
        self._states, self._actions, self._give_back = states, actions, give_back
        self._pieces = {p.address: p for rare in items for p in rare.pieces}
        for address, piece in self._pieces.items():
            piece.lasting = piece.lasting or address in lasting

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        return sum(p.nbytes for p in self._pieces.values() if p.lasting)

    def run(self, epoch: int) -> None:
        """Compute what is older than `epoch`. Within the team of the Bound."""
        wanted = self._wanted(epoch)
        last = {self._buffer(x): i for i, rare in enumerate(wanted) for x in rare.read}
        done = 0
        for i, rare in enumerate(wanted, 1):
            read = {self._buffer(x) for x in rare.read}
            over = [b for b in read if last[b] < i and b.address not in self._lasting]
            if over or i == len(wanted):
                self._compute(wanted[done:i], epoch)
                done = i
            for buffer in over:
                self._forget(buffer)

    def _compute(self, wanted: Sequence[Rare], epoch: int) -> None:
        for action in self._actions([rare.item for rare in wanted]):
            action()
        for rare in wanted:
            for piece in rare.pieces:
                piece.epoch = epoch

    def _wanted(self, epoch: int) -> list[Rare]:
        """The items whose results are old, and read by a step or by another of these."""
        found: list[Rare] = []
        read: set[Buffer] = set()
        for rare in reversed(self.items):
            results = zip(rare.pieces, rare.written, strict=False)  # of views no pieces
            if any(p.epoch != epoch and (p.lasting or self._buffer(x) in read) for p, x in results):
                found.append(rare)
                read.update(map(self._buffer, rare.read))
        return found[::-1]

    def _forget(self, buffer: Buffer) -> None:
        """Nobody reads it until another Bound does."""
        piece = self._pieces.get(buffer.address) if buffer.address is not None else None
        if buffer in self._states:
            if self._give_back is not None:
                self._give_back(self._states[buffer])
        elif piece is not None and not piece.lasting:
            piece.give_back()

    def _buffer(self, x: Value | Buffer) -> Buffer:
        return x if isinstance(x, Buffer) else self._of[x]


def read_by_steps(
    items: Sequence[Item], roots: Sequence[Value], of: Mapping[Value, Buffer], *, plain: bool
) -> set[int | None]:
    """Addresses of the pinned memory that the steps read, or whoever runs them.

    plain: inputs are looked at also where a kernel reads a packed copy instead
    """
    buffers = [of[v] for v in roots if v in of]
    for item in items:
        packs = item.prepared.packs if item.prepared and item.pack is None else []
        replaced = set() if plain else {p.input for p in packs if p.replaces}
        ins = [v for i, v in enumerate(item.inputs) if v is not None and i not in replaced]
        buffers += [of[v] for v in ins if v in of]
        buffers += item.packs
    return {buffer.address for buffer in buffers}
