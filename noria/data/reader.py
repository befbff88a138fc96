"""Batches in an order that can be stopped and taken up again at any batch.

The order of an epoch is a pure function of (seed, epoch), so a position is three small numbers and
restoring one costs nothing: no generator state is carried, no batch is skipped over.
"""

from __future__ import annotations

import inspect
import json
import operator
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noria.core.errors import ArgumentError, EngineError, FormatError
from noria.data.dataset import Batch, Dataset

Transform = Callable[..., Batch]
_Place = tuple[int, int]  # epoch, batch in the epoch
_Batches = Generator[tuple[_Place, Batch], None, None]


class Reader:
    """Iterates over a data set in batches, in a reproducible order.

        for batch in Reader(dataset, 64, epochs=5): ...      # {"image": [64, ...], ...}

    One `for` gives `epochs` epochs (default 1; None: without end), and the next `for` goes on with
    the epochs after those. A loop left early is taken up at the next batch by the next `for`, and
    so is a loop in another process, by `state` and `restore`.

    dataset: anything with `__len__` and `take(indices)`; it must not change.
    batch_size: samples a batch. The last batch of an epoch is smaller, or left out (`drop_last`).
    shuffle: a new order each epoch, from Philox(key=[seed, epoch]) (Salmon et al., 2011).
    transform: batch -> batch, called on each batch. If it has a second parameter named `rng` it
        gets a NumPy Generator that depends only on (seed, epoch, batch, rank), so random
        augmentation survives a restart too.
    prefetch: batches prepared ahead by a background thread; 0 prepares them in the loop. Errors of
        the data set and the transform are raised in the loop, at the batch they belong to.

    Raises ArgumentError for sizes and seeds that make no sense, and if an epoch has no batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        transform: Transform | None = None,
        epochs: int | None = 1,
        prefetch: int = 0,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise ArgumentError(
                "not a data set",
                expected="an object with __len__ and take(indices)",
                got=type(dataset).__name__,
                hint="ArrayDataset({name: array, ...})",
            )
        self.dataset = dataset
        self.batch_size = _integer("batch_size", batch_size, 1)
        self.shuffle, self.drop_last = bool(shuffle), bool(drop_last)
        self.seed = _integer("seed", seed, 0, 2**64 - 1)
        self.epochs = None if epochs is None else _integer("epochs", epochs, 1)
        self.prefetch = _integer("prefetch", prefetch, 0)
        self.transform = transform
        self._random = transform is not None and _takes_rng(transform)
        self.rank, self.world = 0, 1
        self._place: _Place = (0, 0)
        self._loop = 0  # the number of the newest loop; an older one must not move the place
        self._cached_order: tuple[int, NDArray[np.int64]] | None = None
        self._check_not_empty()

    # -- reading -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Batches an epoch."""
        full, rest = divmod(self._samples(), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    @property
    def epoch(self) -> int:
        """Epochs delivered completely, which is also the number of the epoch now being read."""
        return self._place[0]

    @property
    def batch(self) -> int:
        """Batches of the present epoch delivered so far."""
        return self._place[1]

    def __iter__(self) -> Generator[Batch, None, None]:
        """The batches from the present place to the end of this loop's epochs."""
        self._loop += 1
        loop, places = self._loop, self._places(self._place)
        batches = self._ahead(places) if self.prefetch else self._on_demand(places)
        try:
            for place, batch in batches:
                if loop != self._loop:
                    raise EngineError(
                        "this loop over the reader has ended: a newer loop, or restore, moved it",
                        hint="use one Reader for each loop that runs at the same time",
                    )
                self._place = self._after(place)
                yield batch
        finally:
            batches.close()

    def _places(self, start: _Place) -> Iterator[_Place]:
        epoch, first = start
        while True:
            for batch in range(first, len(self)):
                yield epoch, batch
            epoch, first = epoch + 1, 0
            if self.epochs is not None and epoch % self.epochs == 0:
                return

    def _after(self, place: _Place) -> _Place:
        epoch, batch = place
        return (epoch, batch + 1) if batch + 1 < len(self) else (epoch + 1, 0)

    def _on_demand(self, places: Iterator[_Place]) -> _Batches:
        return ((place, self._read(place)) for place in places)

    def _ahead(self, places: Iterator[_Place]) -> _Batches:
        """The same batches, read by a thread that stays `prefetch` batches ahead."""
        workers: list[int] = []
        pool = ThreadPoolExecutor(1, "noria-reader", lambda: workers.append(threading.get_ident()))
        pending: deque[tuple[_Place, Future[Batch]]] = deque()
        try:
            for place in islice(places, self.prefetch):
                pending.append((place, pool.submit(self._read, place)))
            while pending:
                place, future = pending.popleft()
                batch = future.result()
                pending.extend((p, pool.submit(self._read, p)) for p in islice(places, 1))
                yield place, batch
        finally:
            # The garbage collector may run this on the worker itself, which cannot wait for itself.
            pool.shutdown(wait=threading.get_ident() not in workers, cancel_futures=True)

    def _read(self, place: _Place) -> Batch:
        epoch, batch = place
        start = batch * self.batch_size
        taken = self.dataset.take(self._order(epoch)[start : start + self.batch_size])
        if self.transform is None:
            return taken
        return self.transform(taken, self._rng(place)) if self._random else self.transform(taken)

    def _rng(self, place: _Place) -> np.random.Generator:
        # The low word of the counter counts draws; the shuffle of the epoch uses high word 0.
        counter = np.array([0, 0, self.rank, place[1] + 1], np.uint64)
        return np.random.Generator(np.random.Philox(key=self._key(place[0]), counter=counter))

    def _key(self, epoch: int) -> NDArray[np.uint64]:
        return np.array([self.seed, epoch], np.uint64)

    # -- order -------------------------------------------------------------------------------------

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The sample numbers of this rank in an epoch. The latest is kept: batches share it."""
        cached = self._cached_order
        if cached is None or cached[0] != epoch:
            cached = self._cached_order = (epoch, self._make_order(epoch))
        return cached[1]

    def _make_order(self, epoch: int) -> NDArray[np.int64]:
        order = np.arange(len(self.dataset), dtype=np.int64)
        if self.shuffle:
            rng = np.random.Generator(np.random.Philox(key=self._key(epoch)))
            order = rng.permutation(order)
        if self.world == 1:
            return order
        return np.resize(order, self._samples() * self.world)[self.rank :: self.world]

    def _samples(self) -> int:
        """Samples an epoch gives this rank: the same number on each."""
        full, rest = divmod(len(self.dataset), self.world)
        return full + (rest > 0 and not self.drop_last)

    def shard(self, rank: int, world: int) -> Reader:
        """A reader of every `world`-th sample of each epoch's order, beginning at number `rank`.

        The batches number b of all ranks together are the samples of batch b of one reader with
        `world * batch_size`. All ranks get equally many batches of equal sizes, so that collective
        operations stay in step: when the samples do not divide, the first few of the order are
        given twice (or, with `drop_last`, the last few not at all).
        Raises ArgumentError for a rank outside 0..world-1, and on a reader that has begun or is
        itself a shard.
        """
        world = _integer("world", world, 1)
        rank = _integer("rank", rank, 0, world - 1)
        if self.world != 1 or self._place != (0, 0):
            raise ArgumentError("only a fresh reader that is no shard itself can be sharded")
        part = Reader(
            self.dataset,
            self.batch_size,
            shuffle=self.shuffle,
            seed=self.seed,
            drop_last=self.drop_last,
            transform=self.transform,
            epochs=self.epochs,
            prefetch=self.prefetch,
        )
        part.rank, part.world = rank, world
        part._check_not_empty()
        return part

    def _check_not_empty(self) -> None:
        if len(self) == 0:
            raise ArgumentError(
                "an epoch has no batch",
                got=f"{len(self.dataset)} samples for batches of {self.batch_size}"
                + (f" on each of {self.world} ranks" if self.world > 1 else ""),
                hint="a smaller batch_size, or drop_last=False" if len(self.dataset) else "",
            )

    # -- stop and resume ---------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The place after the last batch delivered, as JSON data, for `restore`."""
        epoch, batch = self._place
        return {"epoch": epoch, "batch": batch, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        """What decides the order: a place means nothing in a reader that differs here."""
        return {
            "seed": self.seed,
            "samples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "shard": [self.rank, self.world],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes to a place that `state` gave; the next batch is the one that would have come then.

        Loops now running over this reader end with an error at their next batch.
        Raises FormatError if `state` is not a reader's, ArgumentError if it is of a reader that
        gives other batches.
        """
        mine = self._identity()
        if not isinstance(state, dict) or set(state) != {"epoch", "batch", *mine}:
            raise FormatError(
                "not the state of a reader",
                expected=", ".join(["epoch", "batch", *mine]),
                got=", ".join(map(str, state)) if isinstance(state, dict) else repr(state)[:80],
            )
        differ = [k for k in mine if json.dumps(state[k], default=repr) != json.dumps(mine[k])]
        if differ:
            raise ArgumentError(
                "the state is of another reader",
                expected=", ".join(f"{k} {mine[k]}" for k in differ),
                got=", ".join(f"{k} {state[k]}" for k in differ),
            )
        epoch, batch = state["epoch"], state["batch"]
        if type(epoch) is not int or type(batch) is not int or epoch < 0:
            raise FormatError("not a place in a reader", got=f"epoch {epoch}, batch {batch}")
        if not 0 <= batch < len(self):
            expected = f"0 <= batch < {len(self)}"
            raise FormatError("no such batch in an epoch", expected=expected, got=str(batch))
        self._loop += 1
        self._place = (epoch, batch)


def _integer(name: str, value: int, low: int, high: int | None = None) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name} must be an integer", got=repr(value)) from None
    if number < low or (high is not None and number > high):
        expected = f"{low} <= {name}" + (f" <= {high}" if high is not None else "")
        raise ArgumentError(f"{name} out of range", expected=expected, got=str(number))
    return number


def _takes_rng(transform: Transform) -> bool:
    try:
        return list(inspect.signature(transform).parameters)[1:2] == ["rng"]
    except (TypeError, ValueError):  # a builtin tells no signature
        return False
