"""Memory that outlives a Bound: one arena for all sets of sizes, and what they have in common."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from itertools import chain
from operator import is_
from typing import Any, Generic, TypeVar

import numpy as np

from noria.runtime.arena import ALIGNMENT, Arena, give_back

Bound = TypeVar("Bound")  # runtime/bind.py, which this file must not know

MAX_BOUND = 32  # sets of sizes kept ready, whatever they hold
MAX_STEPS = 16_384  # steps of all sets kept ready beyond that: about a kilobyte each
GROWTH = 1.5  # an arena is taken larger than needed; pages never touched cost nothing
SMALLEST, BLOCK = 1 << 12, 1 << 26  # bytes of an arena of kept pieces that are smaller
SHARED = 1 << 16  # ... of pieces that do not last as long as each other
SMALL, SMALL_GROWTH = 1 << 25, 6.0  # of a small one: each time it grows all Bounds are made again


class Workspace(Generic[Bound]):
    """One arena, and the Bounds that lie in it: only one of them may run at a time.

    So the memory of many batch sizes is that of the largest.

    molds: what Bounds are made from, for each Plan and all else that their rows depend on
    """

    def __init__(self, limit: int = MAX_BOUND) -> None:
        self.limit = limit
        self._steps: dict[Hashable, int] = {}
        self.bounds: OrderedDict[Hashable, Bound] = OrderedDict()
        self.molds: dict[Hashable, list[Any]] = {}
        self._own = Blocks(SHARED)
        self._arena: Arena | None = None
        self._trimmed = False

    def room(self, nbytes: int) -> Arena:
        """An arena of at least so many bytes. Bounds in a smaller one before are forgotten."""
        if self._arena is None or nbytes > self._arena.nbytes:
            old = 0 if self._arena is None else self._arena.nbytes
            self.bounds.clear()
            self._steps.clear()
            for mold in chain.from_iterable(self.molds.values()):
                mold.forget()
            self._arena = None  # given back before the next is taken
            growth = SMALL_GROWTH if old < SMALL else GROWTH
            self._arena = Arena(max(nbytes, int(growth * old)))
        return self._arena

    def own(self, nbytes: int) -> Piece:
        """Memory for what one Bound computes for its sizes; it goes with that Bound, or if it is
        small with the last of some."""
        return self._own.cut(nbytes) if nbytes <= SHARED >> 4 else Piece(nbytes)

    def get(self, key: Hashable) -> Bound | None:
        """The Bound of that key, which becomes the last to be forgotten."""
        found = self.bounds.get(key)
        if found is not None:
            self.bounds.move_to_end(key)
        return found

    def put(self, key: Hashable, bound: Bound, steps: int = MAX_STEPS) -> None:
        """Keep a Bound made with `room`, and forget those not used for the longest time.

        steps: how large it is. Beyond the limit Bounds are kept as long as all of them have few: a
        small network on sentences meets hundreds of lengths.

        What compiling its kernels left behind is given back before the first one runs: steps, and
        the packing of weights, need that room.
        """
        if not self._trimmed:
            self._trimmed = True
            give_back()
        self.bounds[key] = bound
        self._steps[key] = steps
        while len(self.bounds) > self.limit and sum(self._steps.values()) > MAX_STEPS:
            forgotten, _ = self.bounds.popitem(last=False)
            del self._steps[forgotten]


class Piece:
    """Memory that several Bounds read: a part of an arena, by itself all of one.

    epoch: when it was written; lasting: steps read it, not only what is computed rarely
    """

    __slots__ = ("address", "arena", "epoch", "lasting", "nbytes", "offset")

    def __init__(self, nbytes: int, arena: Arena | None = None, offset: int = 0) -> None:
        self.arena = arena or Arena(nbytes)
        self.offset, self.nbytes = offset, nbytes
        self.address = self.arena.address + offset
        self.epoch = -1
        self.lasting = False

    def give_back(self) -> None:
        """Forgets what it holds, and lets the system have the memory."""
        self.epoch = -1
        self.arena.give_back(self.offset, self.nbytes)


class Blocks:
    """Pieces side by side in a few arenas.

    So a network's weights are in huge pages, though each by itself is smaller: looking up small
    ones takes 2 % of ResNet-50's time for one image. An arena is as large as all before it, up to
    `most` bytes; pages never touched cost nothing.
    """

    def __init__(self, most: int = BLOCK) -> None:
        self.most = most
        self._block: Arena | None = None
        self._used, self._all = 0, SMALLEST  # bytes of the block, and of all blocks

    def cut(self, nbytes: int) -> Piece:
        """A new piece; none begins where another one does, even if it is empty."""
        size = max(-(-nbytes // ALIGNMENT), 1) * ALIGNMENT
        if self._block is None or self._used + size > self._block.nbytes:
            self._block = Arena(max(size, min(self._all, self.most)))
            self._used = 0
            self._all += self._block.nbytes
        piece = Piece(nbytes, self._block, self._used)
        self._used += size
        return piece


class Kept:
    """What the Bounds of one Program compute rarely and share: constants and packed weights.

    version: of the state it was computed from; epoch: changes whenever all is to be computed anew.
    """

    def __init__(self) -> None:
        self.pieces: dict[Hashable, Piece] = {}
        self.version = self.epoch = 0
        self._blocks = Blocks()
        self._arrays: list[np.ndarray] = []
        self._addresses: dict[str, tuple[int, int]] = {}

    def follow(self, version: int) -> None:
        """State was written from outside: nothing that is kept counts any more."""
        if version != self.version:
            self.version = version
            self.epoch += 1

    def addresses(self, state: Mapping[str, np.ndarray]) -> Mapping[str, tuple[int, int]]:
        """(bytes, address) of arrays; the same object for the same arrays.

        Asking NumPy takes a microsecond, so it is done once.
        """
        arrays = [*state.values()]
        same = len(arrays) == len(self._arrays) and all(map(is_, arrays, self._arrays))
        if not same or self._addresses.keys() != state.keys():
            self._arrays = arrays
            self._addresses = {n: (a.nbytes, a.ctypes.data) for n, a in state.items()}
        return self._addresses

    def piece(self, key: Hashable, nbytes: int) -> Piece:
        """The memory of that key."""
        if key not in self.pieces:
            self.pieces[key] = self._blocks.cut(nbytes)
        return self.pieces[key]
