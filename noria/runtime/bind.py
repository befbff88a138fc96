"""Plan + real sizes -> Bound: prepared kernels, placed memory, a tape. Once per set of sizes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from noria.core import dtypes
from noria.core.dims import Dim, evaluate, symbols_of
from noria.core.errors import NoriaError
from noria.core.flags import flags
from noria.ir.interpret import bind_attrs, run_operator
from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.numba import parallel
from noria.kernels.numba.move import copy_kernel
from noria.kernels.registry import PLAIN, Array, BoundOp, Declined, strides_of
from noria.runtime.arena import Arena
from noria.runtime.buffers import Buffers, Item
from noria.runtime.memory import Buffer, check_plan, peak_bytes, place
from noria.runtime.plan import Plan, Step
from noria.runtime.tape import RowFailed, Tape
from noria.runtime.validate import check_step
from noria.runtime.workspace import Kept, Piece

Action = Callable[[], None]
Emitted = list[Call] | Action
BlockFunctions = Callable[
    [Operator, Mapping[str, int], int, frozenset[str]], dict[str, Callable[..., Any]]
]


class Bound:
    """A Plan with real sizes, ready to run again and again.

    sizes:   symbol -> number
    state:   name -> array that holds the state (C order); they are read, and updated in place
    threads: size of the teams of its kernels
    blocks:  gives the nested blocks of an operator as functions of arrays (`runtime/nested.py`)
    room:    gives an arena of so many bytes; Bounds that share one must not run at the same time
    kept:    what it shares with other Bounds of the same Program and state
    """

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
    ) -> None:
        self.plan, self.sizes, self.state, self.threads = plan, dict(sizes), state, threads
        self.blocks, self.kept, self.epoch = blocks, kept or Kept(), -1
        for check in plan.checks:
            check.verify(self.sizes)
        self.learns = any(step.dynamic for step in plan.body)
        self.run_sizes = dict(self.sizes)  # and those that dynamic steps tell as they run
        self.dynamic: dict[Value, Any] = {}  # values whose size is not known before
        self._arrays: dict[Value, Array] = {}
        self._dims: dict[Dim, int] = {}
        self.memory = Buffers(plan.program, self.array, self._sized, state)
        with parallel.team(threads):
            self._prepare(room)
        self._offer()

    def _prepare(self, room: Callable[[int], Arena]) -> None:
        prologue, self.items = self._items()
        pieces = self._keep(prologue)
        self.memory.assign(self.items)
        self.arena_bytes = place(self.memory.all)
        self.peak_bytes = peak_bytes(self.memory.all)
        self.naive_bytes = self.memory.naive_bytes
        if flags.check_memory:
            check_plan(self.memory.all, self.arena_bytes)
            self.memory.prove(prologue, self.items)
        self.arena = room(self.arena_bytes)
        actions = [self._actions([item]) for item in prologue]
        self.prologue = list(zip(pieces, actions, strict=True))
        self.actions = self._actions(self.items)

    def _offer(self) -> None:
        """The arrays that are filled before a run and read after it."""
        program = self.plan.program
        self.feeds = [self.view(v) for v in program.block.inputs]
        self.outputs = {n: self._reader(v) for n, v in program.outputs.items()}
        owners = [self.memory.of[s.value] for s in program.state.values()]
        self._commits = [
            (self.state[name], self.view(v), self.memory.of[v] in owners)
            for name, v in self.memory.commits
        ]

    # ---- sizes ---------------------------------------------------------------------------------

    def _size(self, d: int | Dim) -> int:
        if not isinstance(d, Dim):
            return d
        n = self._dims.get(d)
        if n is None:
            n = self._dims[d] = evaluate(d, self.sizes)
        return n

    def _sized(self, v: Value) -> bool:
        """Is the size known now? If not, the value lives in `dynamic`, in an array of its own."""
        return symbols_of(v.shape) <= self.sizes.keys()

    def array(self, value: Value) -> Array:
        """The operand of a value: real shape and strides."""
        found = self._arrays.get(value)
        if found is None:
            shape = tuple(map(self._size, value.shape))
            strides = strides_of(shape, self.plan.layouts.get(value, PLAIN))
            found = self._arrays[value] = Array(shape, value.dtype, strides)
        return found

    def view(self, value: Value) -> np.ndarray:
        """The value's memory as an array."""
        return array_at(self._address(self.memory.of[value]), self.array(value))

    def _address(self, buffer: Buffer) -> int:
        return buffer.address if buffer.address is not None else self.arena.address + buffer.offset

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
        item = Item(step, list(op.inputs), list(op.outputs), {})
        if step.kernel is None:
            return [item]
        try:
            item.attrs = bind_attrs(op.attrs, self.sizes)
            inputs = [None if v is None else self.array(v) for v in op.inputs]
            outputs = [self.array(v) for v in op.outputs]
            if not _has_work(inputs, outputs):
                return [item]
            fixed = [v in self.plan.fixed for v in op.inputs]
            bound = BoundOp(op, item.attrs, inputs, outputs, self.threads, fixed)
            _choose(item, bound)
            if item.prepared is None:
                return [item]
        except NoriaError as error:
            raise error.at(op.where()) from None
        return [*self._pack_items(item, packed), item]

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
                new.append(Item(item.step, [source], [], {}, item.prepared, pack=(pack, source)))
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

    def _pin(self, buffer: Buffer, key: Any) -> Piece:
        piece = Piece(buffer.nbytes) if key is None else self.kept.piece(key, buffer.nbytes)
        buffer.address = piece.arena.address
        return piece

    # ---- emission ------------------------------------------------------------------------------

    def _actions(self, items: Sequence[Item]) -> list[Action]:
        """Tapes of native calls, with Python steps between them."""
        actions: list[Action] = []
        calls: list[Call] = []
        makers: list[Item] = []
        for item in items:
            got = self._validated(item) if flags.validate else self._emit(item)
            if not callable(got):
                calls += got
                makers += [item] * len(got)
                continue
            if calls:
                actions.append(self._tape(calls, makers))
                calls, makers = [], []
            actions.append(got)
        if calls:
            actions.append(self._tape(calls, makers))
        return actions

    def _tape(self, calls: list[Call], makers: list[Item]) -> Action:
        """makers: the item behind each call"""
        tape = Tape(calls, self.threads, [item.step.op.where for item in makers])

        def run() -> None:
            try:
                tape.run()
            except RowFailed as failure:
                self._explain(makers[failure.row], failure)

        return run

    def _explain(self, item: Item, failure: RowFailed) -> NoReturn:
        """Kernels fail with a number. What is wrong with the inputs the reference tells, as it does
        without fast kernels; if it finds nothing, the kernel is at fault."""
        if item.pack is None and not item.reorders:
            inputs = [self._reader(v)() for v in item.inputs]
            try:
                with np.errstate(all="ignore"):
                    run_operator(item.step.op, inputs, dict(self.run_sizes))
            except NoriaError as error:
                raise error from failure
        raise failure

    def _emit(self, item: Item) -> Emitted:
        if item.pack is not None:
            pack, source = item.pack
            target = self._address(item.packs[0])
            return pack.emit(self._address(self.memory.of[source]), target)
        if item.step.view:
            return []
        if item.reorders and self._is_done(item):
            return []
        if item.prepared is None:
            return self._copy(item) if item.reorders else self._reference(item)
        of = self.memory.of
        ins = [0 if v is None else self._address(of[v]) for v in item.inputs]
        outs = [self._address(of[v]) for v in item.outputs]
        packs = [self._address(b) for b in item.packs]
        scratch = 0 if item.scratch is None else self._address(item.scratch)
        return item.prepared.emit(ins, outs, packs, scratch)

    def _validated(self, item: Item) -> Emitted:
        """The same, beside the reference, where a fast kernel runs."""
        got = self._emit(item)
        if callable(got) or not got or item.pack is not None or item.kernel is None:
            return got
        op, name = item.step.op, item.kernel.name
        run = self._tape(got, [item] * len(got))
        ins = [None if v is None else self.view(v) for v in item.inputs]
        outs = [self.view(v) for v in item.outputs]

        def step() -> None:
            before = [None if a is None else a.copy() for a in ins]
            run()
            check_step(op, name, before, outs, self.sizes)

        return step

    def _is_done(self, item: Item) -> bool:
        """A reorder of nothing, or into the memory where it already is."""
        source, copy = item.inputs[0], item.outputs[0]
        assert source is not None
        same = self.memory.of[source] is self.memory.of[copy]
        return same or self.array(copy).size == 0

    def _copy(self, item: Item) -> Emitted:
        """A value into another layout: natively, unless only the reference may run."""
        source, copy = item.inputs[0], item.outputs[0]
        assert source is not None
        if "numba" in self.plan.engines:
            emit = copy_kernel(self.array(source), self.array(copy), self.threads)
            of = self.memory.of
            return emit(self._address(of[source]), self._address(of[copy]))
        old, new = self.view(source), self.view(copy)
        return lambda: np.copyto(new, old)

    def _reference(self, item: Item) -> Emitted:
        """The op's own computation, on views of the planned memory."""
        op, of = item.step.op, self.memory.of
        if item.outputs and all(v in of and not self.array(v).size for v in item.outputs):
            return []
        read = [self._reader(v) for v in item.inputs]
        write = [self._writer(v) for v in item.outputs]
        taken = [of[v] for v in item.inputs if v in of]
        detach = len(item.outputs) > 1 and any(of.get(v) in taken for v in item.outputs)
        checks = item.step.checks
        engines = self.plan.engines

        def step() -> None:
            sizes = self.run_sizes
            functions = self.blocks(op, sizes, self.threads, engines) if op.blocks else None
            with np.errstate(all="ignore"):
                outs = run_operator(op, [r() for r in read], sizes, np, functions)
            for check in checks:
                check.verify(sizes)
            if detach:  # one output may be an input as it was, whose memory another one takes
                outs = tuple(map(_owned, outs))
            for w, o in zip(write, outs, strict=True):
                w(o)

        return step

    def _reader(self, v: Value | None) -> Callable[[], Any]:
        if v is None:
            return lambda: None
        if v in self.memory.of:
            view = self.view(v)
            return lambda: view
        return lambda: self.dynamic[v]

    def _writer(self, v: Value) -> Callable[[Any], None]:
        if v in self.memory.of:
            view = self.view(v)
            return lambda a: np.copyto(view, a)
        return lambda a: self.dynamic.__setitem__(v, _owned(a))

    # ---- running -------------------------------------------------------------------------------

    def run_prologue(self) -> None:
        """Compute what depends only on constants and on state that no step changes, if it is old.

        To be called before the first run, and when `kept` has a new epoch.
        """
        epoch = self.kept.epoch
        for pieces, actions in self.prologue:
            if any(piece.epoch != epoch for piece in pieces):
                for action in actions:
                    action()
                for piece in pieces:
                    piece.epoch = epoch
        self.epoch = epoch

    def run(self) -> None:
        """One step on what lies in the feeds' memory. Fetch before `commit`."""
        if self.learns:
            self.run_sizes = dict(self.sizes)
        for action in self.actions:
            action()

    def fetch(self, name: str) -> np.ndarray:
        """A copy of an output."""
        return np.array(self.outputs[name](), order="C")

    def commit(self) -> None:
        """Write the new values of state that were not computed in its own memory."""
        if not self._commits:
            return
        copies = [new.copy() if shared else new for _, new, shared in self._commits]
        for (old, _, _), new in zip(self._commits, copies, strict=True):
            np.copyto(old, new)


def array_at(address: int, array: Array) -> np.ndarray:
    """A NumPy view of memory at an address (which the caller keeps alive)."""
    dtype = dtypes.to_numpy(array.dtype)
    if array.size == 0:
        return np.zeros(array.shape, dtype)
    span = 1 + sum((d - 1) * s for d, s in zip(array.shape, array.strides, strict=True))
    raw: Any = (ctypes.c_char * (span * dtype.itemsize)).from_address(address)
    strides = tuple(s * dtype.itemsize for s in array.strides)
    return np.ndarray(array.shape, dtype, buffer=raw, strides=strides)


def _owned(a: Any) -> np.ndarray:
    """The array, copied if it may lie in memory that will be used for something else."""
    array = np.asarray(a)
    return array if array.flags.owndata else array.copy()


def _choose(item: Item, bound: BoundOp) -> None:
    """The first kernel that takes these sizes; none: the reference."""
    assert item.step.kernel is not None
    for kernel in (item.step.kernel, *item.step.others):
        try:
            item.prepared, item.kernel = kernel.bind(bound), kernel
            return
        except Declined as reason:
            item.step.refuse(kernel, f"at binding: {reason}")


def _has_work(inputs: Sequence[Array | None], outputs: Sequence[Array]) -> bool:
    """Fast kernels never see empty arrays; the reference does."""
    return all(a is None or a.size for a in inputs) and all(a.size for a in outputs)
