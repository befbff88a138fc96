"""Plan + real sizes -> Bound: prepared kernels, placed memory, a tape. Once per set of sizes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from noria.core.flags import flags
from noria.core.pause import collector_paused
from noria.kernels.numba import jit, parallel
from noria.kernels.registry import Kernel
from noria.runtime import branches
from noria.runtime.arena import Arena
from noria.runtime.buffers import Buffers, Item
from noria.runtime.emission import BlockFunctions, Emission
from noria.runtime.items import again, make_items
from noria.runtime.keeping import Keeping
from noria.runtime.memory import check_plan, peak_bytes, place, ready
from noria.runtime.mold import MOST, Mold
from noria.runtime.operands import Operands
from noria.runtime.plan import Plan, Step
from noria.runtime.prepare import Preparation, surroundings
from noria.runtime.prologue import Prologue, Rare, read_by_steps
from noria.runtime.recipe import Followed, Recipe, learn
from noria.runtime.tape import COLUMNS, RowFailed, Tape
from noria.runtime.timing import Action, Span, told
from noria.runtime.work import Work, work_of
from noria.runtime.workspace import Kept, Piece, Workspace

# What a Bound that followed a recipe does not have at first.
_ASKED = frozenset(
    ("arena", "array", "groups", "items", "memory", "operands", "rare", "_how", "_mold", "_plain")
)


class Bound:
    """A Plan with real sizes, ready to run again and again.

    sizes:   symbol -> number
    state:   name -> array that holds the state (C order); they are read, and updated in place
    threads: size of the teams of its kernels
    blocks:  gives the nested blocks of an operator as functions of arrays (`runtime/nested.py`)
    space:   the memory it shares with other Bounds, which must not run at the same time
    kept:    what it shares with other Bounds of the same Program and state
    give_back: told the names of states that only the prologue reads, each time it has read them

    actions:   what a step does; size: how many steps there are, those that run once included
    feeds:     to be filled before a run; outputs: what reads them after it
    """

    feeds: list[np.ndarray]
    outputs: dict[str, Callable[[], Any]]
    prologue: Prologue | Followed
    _own: Piece
    _recipe: Recipe
    _commits: list[tuple[np.ndarray, np.ndarray, bool]]

    @collector_paused()
    def __init__(
        self,
        plan: Plan,
        sizes: Mapping[str, int],
        state: Mapping[str, np.ndarray],
        threads: int,
        blocks: BlockFunctions,
        *,
        space: Workspace[Any] | None = None,
        kept: Kept | None = None,
        give_back: Callable[[str], None] | None = None,
    ) -> None:
        self.plan, self.sizes, self.state, self.threads = plan, dict(sizes), state, threads
        self.kept, self.epoch = kept or Kept(), -1
        for check in plan.checks:
            check.verify(self.sizes)
        self._space = space or Workspace()
        self._addresses = self.kept.addresses(state)
        self._blocks, self._give_back = blocks, give_back
        self._molds = self._space.molds.setdefault((plan, surroundings(threads)), [])
        recipe, block, missing = self._recast()
        if recipe is None or block is None:
            self._bind()
            with parallel.team(threads):
                learn(self, self._mold, recipe, missing)
            return
        if flags.check_memory:
            self._bind()
        if not flags.check_memory or self._mold is recipe.mold:
            self._follow(recipe, block)

    def _bind(self) -> None:
        """All of it, by asking the kernels."""
        plan, space, threads, blocks = self.plan, self._space, self.threads, self._blocks
        molds = self._molds
        self.operands = Operands(self.sizes, plan.kinds)
        self.array = self.operands.array
        with parallel.team(threads):
            with jit.deferred() as missing:
                preparation = Preparation(plan, threads, self.operands)
                served = self._cast(molds, preparation)
                self._mold = mold = served or self._new(molds, preparation, blocks)
                self.peak_bytes, self.arena_bytes = mold.peak_bytes, mold.arena_bytes
                if flags.check_memory:
                    check_plan(self.memory.all, self.arena_bytes)
                    self.memory.prove([r.item for r in self.rare], self.items)
                self.arena = space.room(self.arena_bytes)
                beside = mold.groups if mold.beside or not served else []
                groups = branches.positioned(beside, self.items)
                how = Emission(
                    plan, self.operands, self.memory, self.arena, threads, blocks, groups
                )
                self._how, self.groups = how, groups
                self._plain = how.validate or how.finite != "off"
                self.actions = self._actions(mold)
                if missing:
                    how.actions([r.item for r in self.rare])
            if missing:  # what was made calls nothing where a kernel was not there
                jit.compile_many(missing)
                mold.calls = {}
                self.actions = self._actions(mold)
        self.size = len(self.items) + len(plan.prologue)
        self._offer(how)
        where = self.memory.of, self._lasting(mold), mold.states
        self.prologue = Prologue(self.rare, *where, how.actions, self._give_back)

    # ---- without asking ------------------------------------------------------------------------

    def _recast(self) -> tuple[Recipe | None, array[int] | None, list[int]]:
        """A recipe, and the rows it has for these sizes, or what it lacks."""
        if flags.validate or flags.debug >= 2:
            return None, None, []
        for mold in self._molds:
            recipe = mold.recipe
            if recipe is None or mold.addresses is not self._addresses:
                continue
            if self._space.room(mold.arena_bytes).address == mold.arena:
                self._own = self._space.own(recipe.own.nbytes)
                block, missing = recipe.run(self.sizes, self._own.address)
                if not missing:
                    return recipe, block, missing
                return recipe, None, missing
        return None, None, []

    def _follow(self, recipe: Recipe, block: array[int]) -> None:
        """Take what a recipe gave."""
        self._recipe = recipe
        like, arrays, program = recipe.bound, recipe.arrays(block), self.plan.program
        self.peak_bytes, self.arena_bytes = like.peak_bytes, like.arena_bytes
        self.size, self.prologue = like.size, like.prologue
        if recipe.first:
            numbers = block[COLUMNS * len(recipe.rows) :]
            first = Tape(recipe.first, self.threads, None, numbers)
            self.prologue = Followed(like.prologue, first, self._own)
        self.feeds = [
            arrays.get(v, old) for v, old in zip(program.block.inputs, like.feeds, strict=True)
        ]
        self.outputs = {
            n: partial(arrays.__getitem__, v) if v in arrays else like.outputs[n]
            for n, v in program.outputs.items()
        }
        self._commits = [
            (state, arrays.get(v, old), shared)
            for (state, old, shared), v in zip(like._commits, recipe.commits, strict=True)
        ]
        tape = Tape(recipe.rows, self.threads, recipe.place, block)
        sizes, own = self.sizes, self._own  # a Bound that knew itself would outlive its arena

        def run() -> None:
            try:
                tape.run()
            except RowFailed as failure:
                recipe.explain(failure, sizes, own.address)

        self.actions = [run]

    def __getattr__(self, name: str) -> Any:
        """What only asking the kernels tells, when somebody wants to know it after all."""
        if name not in _ASKED or "actions" not in self.__dict__:
            raise AttributeError(name)
        mold, molds = self._recipe.mold, self._molds
        if mold in molds:  # most often it serves again, so that nothing moves
            molds.remove(mold)
            molds.insert(0, mold)
        fed = [a.copy() for a in self.feeds]
        self._bind()  # what runs from now on is what is told
        for view, a in zip(self.feeds, fed, strict=True):
            view[...] = a
        if self.epoch >= 0:
            self.run_prologue()
        return self.__dict__[name]

    # ---- the arrays ----------------------------------------------------------------------------

    def _offer(self, how: Emission) -> None:
        """The arrays that are filled before a run and read after it."""
        program = self.plan.program
        self.feeds = [how.view(v) for v in program.block.inputs]
        self.outputs = {n: how.reader(v) for n, v in program.outputs.items()}
        of, states = self.memory.of, self._mold.states
        self._commits = [
            (self.state[name], how.view(v), of[v] in states) for name, v in self.memory.commits
        ]

    @property
    def kernels(self) -> dict[Step, Kernel]:
        """Those that took these sizes."""
        items = (*(r.item for r in self.rare), *self.items)
        return {i.step: i.kernel for i in items if i.kernel is not None}

    @property
    def naive_bytes(self) -> int:
        """Of all values, if none shared memory."""
        return self.memory.naive_bytes

    # ---- items and their memory ----------------------------------------------------------------

    def _cast(self, molds: list[Mold], preparation: Preparation) -> Mold | None:
        """Take the memory of the first mold that serves these sizes."""
        choices = preparation.choices() if molds else {}
        for mold in molds:
            cast = mold.addresses is self._addresses and mold.cast(choices, self.operands)
            if not cast:
                continue
            self.items, self.memory = cast
            sized = [again(mold.rare[i].item, choices) for i in mold.sized_rare]
            self.rare = list(mold.rare)
            for i, rare in zip(mold.sized_rare, self._keep(sized, mold.scratch), strict=True):
                self.rare[i] = rare
            mold.choices, mold.items = choices, self.items
            mold.casts += 1
            molds.remove(mold)
            molds.insert(0, mold)
            return mold
        return None

    def _new(self, molds: list[Mold], preparation: Preparation, blocks: BlockFunctions) -> Mold:
        """Give each buffer its offset."""
        apart, known = flags.check_finite != "off", self.plan.memory
        program = self.plan.program
        self.memory = Buffers(
            program, self.array, self.operands.known, self._addresses, apart=apart
        )
        prologue, self.items = make_items(self.plan, preparation)
        self.rare = self._keep(prologue)
        key = apart, *self.sizes
        known[key] = self.memory.assign(self.items, known.get(key))
        threads = self.threads if flags.branches and not apart else 1
        if not ready():
            self._compile(threads, blocks)
        groups = branches.find(self.items, self.memory, self.array, threads)
        if molds:
            self.memory.make_room()
        peak = peak_bytes(self.memory.all)
        mold = Mold(
            self.plan,
            self._addresses,
            self.memory,
            place(self.memory.all, peak),
            peak,
            self.operands,
            preparation.choices(),
            self.items,
            self.rare,
            self._scratch,
            groups,
            branches.pay(groups, self.items, self.memory, self.array, threads),
        )
        molds.insert(0, mold)
        for old in molds[MOST:]:
            old.forget()
        del molds[MOST:]
        return mold

    def _compile(self, threads: int, blocks: BlockFunctions) -> None:
        """All kernels that the cache lacks, together: rows that lead nowhere show which they are.

        What places buffers is missing too, so there is nothing yet.
        """
        with jit.deferred() as missing:
            how = Emission(self.plan, self.operands, self.memory, Arena(0), self.threads, blocks)
            how.actions(self.items)
            how.actions([r.item for r in self.rare])
            branches.ask(self.items, self.memory, self.array, threads)
            ready()
        jit.compile_many(missing)

    def _actions(self, mold: Mold) -> list[Action]:
        """The actions of the items; the rows of those that are the mold's are there already."""
        if flags.debug >= 2:
            return self._told()
        if self._plain:
            return self._how.actions(self.items)
        calls = mold.calls if mold.arena == self.arena.address else {}
        actions, mold.calls = self._how.actions_with(self.items, calls)
        mold.arena = self.arena.address
        return actions

    def _keep(self, prologue: Sequence[Item], scratch: Sequence[Arena] = ()) -> list[Rare]:
        """What runs rarely has memory of its own."""
        keeping = Keeping(self.plan, self.memory, self._space, self.kept, scratch)
        rare, self._scratch = keeping.keep(prologue), keeping.scratch
        return rare

    def _lasting(self, mold: Mold) -> set[int | None]:
        """Addresses of the pinned memory that the steps read, or whoever runs them."""
        if not self.rare:
            return set()
        plain, of = self._plain, self.memory.of
        if plain not in mold.lasting:
            roots = self.plan.program.roots()
            mold.lasting[plain] = read_by_steps(self.items, roots, of, plain=plain)
        sized = [self.items[i] for i in mold.sized]
        return mold.lasting[plain] | read_by_steps(sized, mold.sized_roots, of, plain=plain)

    # ---- running -------------------------------------------------------------------------------

    def run_prologue(self) -> None:
        """Compute what depends only on constants and on state that no step changes, if it is old.

        To be called before the first run, and when `kept` has a new epoch.
        """
        epoch = self.kept.epoch
        with parallel.team(self.threads):
            self.prologue.run(epoch)
        self.epoch = epoch

    def run(self) -> None:
        """One step on what lies in the feeds' memory. Fetch before `commit`."""
        if self.plan.learns:
            self._how.begin()
        for action in self.actions:
            action()

    def timed(self) -> Callable[[], list[Span]]:
        """A function like `run` that tells when each row of the tape and each Python step ran."""
        with parallel.team(self.threads):
            parts = self._how.timed(self.items)

        def run() -> list[Span]:
            self._how.begin()
            return [span for part in parts for span in part()]

        return run

    def walk(self, after: Callable[[Item, list[np.ndarray]], None]) -> None:
        """One step, item by item: `after` is called behind each with what it computed."""
        self._how.begin()
        for item in self.items:
            with parallel.team(self.threads):
                actions = self._how.actions([item])
            for action in actions:
                action()
            after(item, [self._how.reader(v)() for v in item.outputs])

    def work(self, item: Item) -> Work:
        """What an item computes, and the bytes it reads and writes."""
        return work_of(item, self.array, self.sizes)

    def _told(self) -> list[Action]:
        """The actions of NORIA_DEBUG=2."""
        return [told(part, lambda i: self.work(i).nbytes) for part in self._how.timed(self.items)]

    def fetch(self, name: str) -> np.ndarray:
        """A copy of an output."""
        return np.array(self.outputs[name](), order="C")

    @property
    def commit_bytes(self) -> int:
        """What `commit` copies."""
        return sum(new.nbytes for _, new, _ in self._commits)

    def commit(self) -> None:
        """Write the new values of state that were not computed in its own memory."""
        if not self._commits:
            return
        copies = [new.copy() if shared else new for _, new, shared in self._commits]
        for (old, _, _), new in zip(self._commits, copies, strict=True):
            np.copyto(old, new)
