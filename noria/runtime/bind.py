"""Plan + real sizes -> Bound: prepared kernels, placed memory, a tape. Once per set of sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from noria.core.errors import EngineError, NoriaError
from noria.core.flags import flags
from noria.core.pause import collector_paused
from noria.ir.interpret import bind_attrs
from noria.ir.program import Value
from noria.kernels.numba import parallel
from noria.kernels.registry import BoundOp, Kernel
from noria.runtime import branches
from noria.runtime.arena import Arena
from noria.runtime.buffers import Buffers, Item
from noria.runtime.emission import BlockFunctions, Emission
from noria.runtime.memory import Buffer, check_plan, peak_bytes, place
from noria.runtime.operands import Operands
from noria.runtime.plan import Plan, Step
from noria.runtime.prepare import NONE, Choice, Preparation
from noria.runtime.prologue import Prologue, Rare, read_by_steps
from noria.runtime.timing import Action, Span, told
from noria.runtime.work import Work, work_of
from noria.runtime.workspace import Kept, Piece


class Bound:
    """A Plan with real sizes, ready to run again and again.

    sizes:   symbol -> number
    state:   name -> array that holds the state (C order); they are read, and updated in place
    threads: size of the teams of its kernels
    blocks:  gives the nested blocks of an operator as functions of arrays (`runtime/nested.py`)
    room:    gives an arena of so many bytes; Bounds that share one must not run at the same time
    kept:    what it shares with other Bounds of the same Program and state
    give_back: told the names of states that only the prologue reads, each time it has read them
    """

    @collector_paused()
    def __init__(
        self,
        plan: Plan,
        sizes: Mapping[str, int],
        state: Mapping[str, np.ndarray],
        threads: int,
        blocks: BlockFunctions,
        *,
        room: Callable[[int], Arena] = Arena,
        kept: Kept | None = None,
        give_back: Callable[[str], None] | None = None,
    ) -> None:
        self.plan, self.sizes, self.state, self.threads = plan, dict(sizes), state, threads
        self.kept, self.epoch = kept or Kept(), -1
        for check in plan.checks:
            check.verify(self.sizes)
        self.kernels: dict[Step, Kernel] = {}  # those that took these sizes
        self._preparation = Preparation(plan, threads, self.sizes)
        operands = Operands(self.sizes, plan.layouts, plan.operands)
        self.array = operands.array
        checks = flags.check_finite != "off"
        addresses = self.kept.addresses(state)
        self.memory = Buffers(plan.program, operands.array, operands.known, addresses, apart=checks)
        with parallel.team(threads):
            prologue, pieces = self._place()
            self.arena = room(self.arena_bytes)
            how = Emission(plan, operands, self.memory, self.arena, threads, blocks, self.groups)
            self._how = how
            self.actions = self._told() if flags.debug >= 2 else how.actions(self.items)
        self._offer(how)
        states = {self.memory.of[s.value]: n for n, s in plan.program.state.items()}
        rare = [Rare(*both) for both in zip(prologue, pieces, strict=True)]
        lasting = self._lasting()
        self.prologue = Prologue(rare, self.memory.of, lasting, states, how.actions, give_back)

    def _place(self) -> tuple[list[Item], list[list[Piece]]]:
        """Choose kernels and give each buffer its offset; (the prologue, the pieces it writes)."""
        prologue, self.items = self._items()
        pieces = self._keep(prologue)
        known = self.plan.memory
        key = self.memory.apart, *self.sizes
        known[key] = self.memory.assign(self.items, known.get(key))
        threads = self.threads if flags.branches and not self.memory.apart else 1
        self.groups = branches.find(self.items, self.memory, self.array, threads)
        self.peak_bytes = peak_bytes(self.memory.all)
        self.arena_bytes = place(self.memory.all, self.peak_bytes)
        self.naive_bytes = self.memory.naive_bytes
        if flags.check_memory:
            check_plan(self.memory.all, self.arena_bytes)
            self.memory.prove(prologue, self.items)
        return prologue, pieces

    def _offer(self, how: Emission) -> None:
        """The arrays that are filled before a run and read after it."""
        program = self.plan.program
        self.feeds = [how.view(v) for v in program.block.inputs]
        self.outputs = {n: how.reader(v) for n, v in program.outputs.items()}
        owners = [self.memory.of[s.value] for s in program.state.values()]
        self._commits = [
            (self.state[name], how.view(v), self.memory.of[v] in owners)
            for name, v in self.memory.commits
        ]

    @property
    def size(self) -> int:
        """How many steps it has, those that run once included."""
        return len(self.items) + len(self.plan.prologue)

    # ---- kernels -------------------------------------------------------------------------------

    def _items(self) -> tuple[list[Item], list[Item]]:
        """(items that run once, items of each step): packing what never changes is of the first."""
        once: list[Item] = []
        each: list[Item] = []
        packed: dict[tuple[Value, Any], Buffer] = {}
        for step in (*self.plan.prologue, *self.plan.body):
            for item in self._item(step, packed):
                fixed = step.once or (item.pack is not None and item.pack[1] in self.plan.fixed)
                (once if fixed else each).append(item)
        return once, each

    def _item(self, step: Step, packed: dict[tuple[Value, Any], Buffer]) -> list[Item]:
        op = step.op
        item = Item(step, op.inputs, op.outputs)
        if step.kernel is None:
            return [item]
        try:
            choice = self._preparation.known(step) or self._choose(step)
        except NoriaError as error:
            raise error.at(op.where()) from None
        except MemoryError as error:  # tables of a kernel, as large as the sizes fed ask for
            raise EngineError("no memory for a kernel", where=op.where(), got=str(error)) from None
        for kernel, reason in choice.refused:
            step.refuse(kernel, reason)
        item.prepared, item.kernel = choice.prepared, choice.kernel
        if choice.kernel is None:
            return [item]
        self.kernels[step] = choice.kernel
        return [*self._pack_items(item, packed), item]

    def _choose(self, step: Step) -> Choice:
        op = step.op
        inputs = [None if v is None else self.array(v) for v in op.inputs]
        outputs = [self.array(v) for v in op.outputs]
        if not all(a is None or a.size for a in (*inputs, *outputs)):
            return NONE  # fast kernels never see empty arrays
        fixed = [v in self.plan.fixed for v in op.inputs]
        attrs = bind_attrs(op.attrs, self.sizes)
        return self._preparation.choose(
            step, BoundOp(op, attrs, inputs, outputs, self.threads, fixed)
        )

    def _pack_items(self, item: Item, packed: dict[tuple[Value, Any], Buffer]) -> list[Item]:
        """Items that make the packed copies this one asks for and nobody made before."""
        assert item.prepared is not None
        new = []
        for pack in item.prepared.packs:
            source = item.inputs[pack.input]
            assert source is not None
            key = (source, pack.key)
            if key not in packed:
                packed[key] = Buffer(f"{source.name}.packed", pack.nbytes, -1, -1)
                new.append(Item(item.step, (source,), (), item.prepared, pack=(pack, source)))
                new[-1].packs = [packed[key]]
            item.packs.append(packed[key])
        return new

    # ---- what is kept from step to step --------------------------------------------------------

    def _keep(self, prologue: Sequence[Item]) -> list[list[Piece]]:
        """What runs rarely has memory of its own, shared with Bounds of other sizes.

        Returns for each item the pieces it writes.
        """
        scratch = max((i.prepared.scratch for i in prologue if i.prepared), default=0)
        self._scratch = Arena(scratch)
        found = []
        for item in prologue:
            found.append([self._pin(buffer, key) for buffer, key in self._kept_by(item)])
            if item.step.view:
                self.memory.share(item)
            elif item.pack is None:
                address = self._scratch.address
                item.scratch = Buffer("scratch", scratch, -1, -1, address=address)
        return found

    def _kept_by(self, item: Item) -> list[tuple[Buffer, Any]]:
        """The buffers that an item of the prologue fills, and keys that tell what they hold.

        None for what depends on the sizes, which is nobody else's.
        """
        if item.pack is not None:
            pack, source = item.pack
            return [(item.packs[0], None if source in self.plan.sized else (source, pack.key))]
        if item.step.view:
            return []
        found = []
        for v in item.outputs:
            array = self.array(v)
            buffer = self.memory.of[v] = Buffer(v.name, array.nbytes, -1, -1)
            found.append((buffer, None if v in self.plan.sized else (v, array.strides)))
        return found

    def _lasting(self) -> set[int | None]:
        looked_at = flags.validate or flags.check_finite != "off"
        roots = self.plan.program.roots()
        return read_by_steps(self.items, roots, self.memory.of, plain=looked_at)

    def _pin(self, buffer: Buffer, key: Any) -> Piece:
        piece = Piece(buffer.nbytes) if key is None else self.kept.piece(key, buffer.nbytes)
        buffer.address = piece.address
        return piece

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
