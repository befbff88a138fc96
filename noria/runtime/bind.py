"""Plan + real sizes -> Bound: prepared kernels, placed memory, a tape. Once per set of sizes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.dims import Dim, evaluate, symbols_of
from noria.core.errors import NoriaError
from noria.core.flags import flags
from noria.ir.interpret import bind_attrs, run_operator
from noria.ir.opdef import lookup
from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.registry import (
    PLAIN,
    Array,
    BoundOp,
    Declined,
    Pack,
    Prepared,
    same_memory,
    strides_of,
)
from noria.runtime.arena import Arena
from noria.runtime.memory import Buffer, check_plan, peak_bytes, place
from noria.runtime.plan import REORDER, Plan, Step
from noria.runtime.tape import Tape
from noria.runtime.validate import check_step


def array_at(address: int, array: Array) -> np.ndarray:
    """A NumPy view of memory at an address (which the caller keeps alive)."""
    dtype = dtypes.to_numpy(array.dtype)
    if array.size == 0:
        return np.zeros(array.shape, dtype)
    span = 1 + sum((d - 1) * s for d, s in zip(array.shape, array.strides, strict=True))
    raw = (ctypes.c_char * (span * dtype.itemsize)).from_address(address)
    strides = tuple(s * dtype.itemsize for s in array.strides)
    return np.ndarray(array.shape, dtype, buffer=raw, strides=strides)


@dataclass(slots=True, eq=False)
class Item:
    """A step with real sizes, on its way to the tape."""

    step: Step
    inputs: list[Value | None]
    outputs: list[Value]
    attrs: Mapping[str, Any]
    prepared: Prepared | None = None  # None: the reference runs it
    scratch: Buffer | None = None
    packs: list[Buffer] = field(default_factory=list)
    pack: tuple[Pack, Value] | None = None  # this item only makes a packed copy


Action = Tape | Callable[[], None]
BlockFunctions = Callable[[Operator, Mapping[str, int], int], dict[str, Callable[..., Any]]]


class Bound:
    """A Plan with real sizes, ready to run again and again.

    sizes:  symbol -> number
    state:  name -> array that holds the state (C order); they are read, and updated in place
    blocks: gives the nested blocks of an operator as functions of arrays (`runtime/nested.py`)
    """

    def __init__(
        self,
        plan: Plan,
        sizes: Mapping[str, int],
        state: Mapping[str, np.ndarray],
        threads: int,
        blocks: BlockFunctions,
    ) -> None:
        self.blocks = blocks
        self.plan, self.sizes, self.state, self.threads = plan, dict(sizes), state, threads
        for check in plan.checks:
            check.verify(self.sizes)
        self.arrays: dict[Value, Array] = {}
        self.buffers: dict[Value, Buffer] = {}
        self.keep: list[Any] = []
        self.dynamic: dict[Value, Any] = {}
        self.run_sizes = dict(self.sizes)  # and those that dynamic steps tell as they run
        self._dims: dict[Dim, int] = {}
        self.naive_bytes = 0
        self._place_state()
        self.prologue_items = self._items(plan.prologue)
        self.items = []
        for item in self._items(plan.body):
            fixed = item.pack is not None and item.pack[1] in plan.fixed
            (self.prologue_items if fixed else self.items).append(item)
        self._own_memory(self.prologue_items)
        self.all_buffers, self.commits = self._lifetimes(self.items)
        self.arena_bytes = place(self.all_buffers)
        self.peak_bytes = peak_bytes(self.all_buffers)
        if flags.check_memory:
            check_plan(self.all_buffers, self.arena_bytes)
        self.arena = Arena(self.arena_bytes)
        self.prologue = self._actions(self.prologue_items)
        self.actions = self._actions(self.items)
        self.feeds = [self.view(v) for v in plan.program.block.inputs]
        self.fetches = {n: v for n, v in plan.program.outputs.items()}
        self._views = {
            n: self.view(v) if v in self.buffers else None for n, v in self.fetches.items()
        }

    # ---- sizes ---------------------------------------------------------------------------------

    def _shape(self, value: Value) -> tuple[int, ...]:
        out = []
        for d in value.shape:
            if isinstance(d, Dim):
                n = self._dims.get(d)
                if n is None:
                    n = self._dims[d] = evaluate(d, self.sizes)
                out.append(n)
            else:
                out.append(d)
        return tuple(out)

    def array(self, value: Value) -> Array:
        """The operand of a value: real shape and strides."""
        found = self.arrays.get(value)
        if found is None:
            shape = self._shape(value)
            strides = strides_of(shape, self.plan.layouts.get(value, PLAIN))
            found = self.arrays[value] = Array(shape, value.dtype, strides)
        return found

    def _address(self, value: Value) -> int:
        buffer = self.buffers[value]
        return buffer.address if buffer.address is not None else self.arena.address + buffer.offset

    def view(self, value: Value) -> np.ndarray:
        """The value's memory as an array."""
        return array_at(self._address(value), self.array(value))

    # ---- kernels -------------------------------------------------------------------------------

    def _sized(self, v: Value) -> bool:
        """Is the size known now? If not, the value lives in `dynamic`, in an array of its own."""
        return symbols_of(v.shape) <= self.sizes.keys()

    def _items(self, steps: Sequence[Step]) -> list[Item]:
        out: list[Item] = []
        packed: dict[tuple[Value, Any], Buffer] = {}
        for step in steps:
            out.extend(self._item(step, packed))
        return out

    def _item(self, step: Step, packed: dict[tuple[Value, Any], Buffer]) -> list[Item]:
        op = step.op
        item = Item(step, list(op.inputs), list(op.outputs), {})
        if step.view or step.dynamic:
            return [item]
        try:
            item.attrs = bind_attrs(op.attrs, self.sizes)
            inputs = [None if v is None else self.array(v) for v in op.inputs]
            outputs = [self.array(v) for v in op.outputs]
            if step.kernel is None or not _has_work(inputs, outputs):
                return [item]
            fixed = [v in self.plan.fixed for v in op.inputs]
            bound = BoundOp(op, item.attrs, inputs, outputs, self.threads, fixed)
            try:
                item.prepared = step.kernel.bind(bound)
            except Declined as reason:
                step.refused.append((step.kernel.name, f"at binding: {reason}"))
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

    # ---- memory --------------------------------------------------------------------------------

    def _own(self, buffer: Buffer) -> None:
        """Memory outside the arena, for what lives from step to step."""
        arena = Arena(buffer.nbytes)
        self.keep.append(arena)
        buffer.address = arena.address

    def _place_state(self) -> None:
        for name, state in self.plan.program.state.items():
            if name in self.state:
                memory = self.state[name]
                self.buffers[state.value] = Buffer(
                    name, memory.nbytes, -1, -1, address=memory.ctypes.data
                )

    def _own_memory(self, items: Sequence[Item]) -> None:
        """The prologue runs rarely: each of its values and copies has memory of its own."""
        for item in items:
            for buffer in item.packs:
                if not buffer.pinned:
                    self._own(buffer)
            if item.pack is None:
                self._own_outputs(item)

    def _own_outputs(self, item: Item) -> None:
        if item.step.view:
            self._share_view(item)
            return
        for v in item.outputs:
            self.buffers[v] = Buffer(v.name, self.array(v).nbytes, -1, -1)
            self._own(self.buffers[v])
        if item.prepared and item.prepared.scratch:
            item.scratch = Buffer("scratch", item.prepared.scratch, -1, -1)
            self._own(item.scratch)

    def _share_view(self, item: Item) -> None:
        for o, i in lookup(item.step.op.type).views.items():
            source = item.inputs[i]
            assert source is not None
            self.buffers[item.outputs[o]] = self.buffers[source]

    def _lifetimes(self, items: Sequence[Item]) -> tuple[list[Buffer], list[tuple[str, Value]]]:
        """Buffers of all values with their first and last step; what is left to commit."""
        program = self.plan.program
        end = len(items)
        fresh: list[Buffer] = []
        last = self._last_uses(items, end)
        updated = {v: n for n, v in reversed(program.updates.items())}
        in_place: set[str] = set()
        for v in program.block.inputs:
            buffer = Buffer(v.name, self.array(v).nbytes, -1, max(last.get(v, -1), -1))
            self.buffers[v] = buffer
            fresh.append(buffer)
        for t, item in enumerate(items):
            for buffer in item.packs:
                if not buffer.pinned:
                    if buffer.first < 0:
                        buffer.first = t
                        fresh.append(buffer)
                    buffer.last = t
            if item.pack is not None:
                continue
            if item.prepared and item.prepared.scratch:
                item.scratch = Buffer("scratch", item.prepared.scratch, t, t)
                fresh.append(item.scratch)
            if item.step.view:
                self._share_view(item)
            elif _is_noop_reorder(item, self):
                source = item.inputs[0]
                assert source is not None
                self.buffers[item.outputs[0]] = self.buffers[source]
            else:
                for o, v in enumerate(item.outputs):
                    if not self._sized(v):
                        continue
                    nbytes = self.array(v).nbytes
                    self.naive_bytes += nbytes
                    buffer = self._state_in_place(t, item, o, last, updated, in_place)
                    buffer = buffer or self._in_place(t, item, o, last)
                    if buffer is None:
                        buffer = Buffer(v.name, nbytes, t, t)
                        fresh.append(buffer)
                    self.buffers[v] = buffer
            for v in item.outputs:
                if v in self.buffers:
                    buffer = self.buffers[v]
                    buffer.last = max(buffer.last, last.get(v, t), t)
        return fresh, [(n, v) for n, v in program.updates.items() if n not in in_place]

    def _last_uses(self, items: Sequence[Item], end: int) -> dict[Value, int]:
        """Value -> last step that reads its memory, reads through views included."""
        last: dict[Value, int] = {}
        for v in self.plan.program.roots():
            last[v] = end
        for t in range(len(items) - 1, -1, -1):
            item = items[t]
            for v in item.inputs:
                if v is not None:
                    last.setdefault(v, t)
            shares = item.step.view or item.step.op.type == REORDER
            if shares and item.pack is None:
                source = item.inputs[0]
                assert source is not None
                last[source] = max(last[source], *(last.get(o, t) for o in item.outputs))
        return last

    def _state_in_place(
        self,
        t: int,
        item: Item,
        o: int,
        last: Mapping[Value, int],
        updated: Mapping[Value, str],
        done: set[str],
    ) -> Buffer | None:
        """The state's own memory for its new value, if nobody needs the old one any more."""
        v = item.outputs[o]
        name = updated.get(v)
        if name is None:
            return None
        old = self.plan.program.state[name].value
        read_until = last.get(old, -1)
        if read_until > t or (read_until == t and not self._may_overwrite(item, o, old)):
            return None
        if self.array(v).strides != self.array(old).strides:
            return None
        done.add(name)
        return self.buffers[old]

    def _may_overwrite(self, item: Item, o: int, source: Value) -> bool:
        """Does every input of the step that shares the source's memory allow output o to take it?"""
        allowed = lookup(item.step.op.type).overwrites if item.step.op.type != REORDER else ()
        if item.prepared is not None:
            allowed = tuple(p for p in item.prepared.in_place if p in allowed)
        shared = self.buffers[source]
        sharing = [
            i for i, v in enumerate(item.inputs) if v is not None and self.buffers.get(v) is shared
        ]
        return all(item.inputs[i] is source and (o, i) in allowed for i in sharing)

    def _in_place(self, t: int, item: Item, o: int, last: Mapping[Value, int]) -> Buffer | None:
        """The memory of an input that dies here, if the op and the kernel allow it."""
        if item.step.op.type == REORDER:
            return None
        out = self.array(item.outputs[o])
        for pair in lookup(item.step.op.type).overwrites:
            source = item.inputs[pair[1]] if pair[0] == o and pair[1] < len(item.inputs) else None
            if source is None or source not in self.buffers:
                continue
            buffer, old = self.buffers[source], self.array(source)
            if buffer.pinned or buffer.last > t or last.get(source, -1) > t:
                continue
            same = old.nbytes == out.nbytes == buffer.nbytes and old.shape == out.shape
            if not same or not same_memory(out.shape, old.strides, out.strides):
                continue
            taken = any(self.buffers.get(v) is buffer for v in item.outputs[:o])
            if not taken and self._may_overwrite(item, o, source):
                return buffer
        return None

    # ---- emission ------------------------------------------------------------------------------

    def _actions(self, items: Sequence[Item]) -> list[Action]:
        """Tapes of native calls, with Python steps between them."""
        actions: list[Action] = []
        calls: list[Call] = []
        for item in items:
            got = self._validated(item) if flags.validate else self._emit(item)
            if callable(got):
                if calls:
                    actions.append(Tape(calls))
                    calls = []
                actions.append(got)
            else:
                calls.extend(got)
        if calls:
            actions.append(Tape(calls))
        return actions

    def _emit(self, item: Item) -> list[Call] | Callable[[], None]:
        if item.pack is not None:
            pack, source = item.pack
            return pack.emit(self._address(source), self._buffer_address(item.packs[0]))
        if item.step.view:
            return []
        if item.step.op.type == REORDER:
            return self._emit_reorder(item)
        if item.prepared is None:
            return self._reference(item)
        ins = [0 if v is None else self._address(v) for v in item.inputs]
        outs = [self._address(v) for v in item.outputs]
        packs = [self._buffer_address(b) for b in item.packs]
        scratch = 0 if item.scratch is None else self._buffer_address(item.scratch)
        return item.prepared.emit(ins, outs, packs, scratch)

    def _validated(self, item: Item) -> list[Call] | Callable[[], None]:
        """The same, beside the reference, where a fast kernel runs."""
        got = self._emit(item)
        if callable(got) or not got or item.pack is not None or item.step.kernel is None:
            return got
        op, name, tape = item.step.op, item.step.kernel.name, Tape(got)
        ins = [None if v is None else self.view(v) for v in item.inputs]
        outs = [self.view(v) for v in item.outputs]

        def step() -> None:
            before = [None if a is None else a.copy() for a in ins]
            tape.run()
            check_step(op, name, before, outs, self.sizes)

        return step

    def _buffer_address(self, buffer: Buffer) -> int:
        return buffer.address if buffer.address is not None else self.arena.address + buffer.offset

    def _emit_reorder(self, item: Item) -> list[Call] | Callable[[], None]:
        source, copy = item.inputs[0], item.outputs[0]
        assert source is not None
        if self.buffers[source] is self.buffers[copy] or self.array(copy).size == 0:
            return []
        old, new = self.view(source), self.view(copy)
        return lambda: np.copyto(new, old)

    def _reference(self, item: Item) -> list[Call] | Callable[[], None]:
        """The op's own computation, on views of the planned memory."""
        op = item.step.op
        if item.outputs and all(v in self.buffers and not self.array(v).size for v in item.outputs):
            return []
        read = [self._reader(v) for v in item.inputs]
        write = [self._writer(v) for v in item.outputs]

        def step() -> None:
            functions = self.blocks(op, self.run_sizes, self.threads)
            with np.errstate(all="ignore"):
                outs = run_operator(op, [r() for r in read], self.run_sizes, np, functions)
            for w, o in zip(write, outs, strict=True):
                w(o)

        return step

    def _reader(self, v: Value | None) -> Callable[[], Any]:
        if v is None:
            return lambda: None
        if v in self.buffers:
            view = self.view(v)
            return lambda: view
        return lambda: self.dynamic[v]

    def _writer(self, v: Value) -> Callable[[Any], None]:
        if v in self.buffers:
            view = self.view(v)
            return lambda a: np.copyto(view, a)
        return lambda a: self.dynamic.__setitem__(v, a)

    # ---- running -------------------------------------------------------------------------------

    def run_prologue(self) -> None:
        """Compute again what depends on state that only the outside changes."""
        _run(self.prologue)

    def run(self) -> None:
        """One step on what lies in the feeds' memory. Fetch before `commit`."""
        self.run_sizes = dict(self.sizes)
        _run(self.actions)

    def fetch(self, name: str) -> np.ndarray:
        """A copy of an output."""
        view = self._views[name]
        return np.array(self.dynamic[self.fetches[name]] if view is None else view, order="C")

    def commit(self) -> None:
        """Write the new values of state that were not computed in its own memory."""
        if len(self.commits) == 1:
            name, v = self.commits[0]
            np.copyto(self.state[name], self._current(v))
            return
        new = [(name, np.array(self._current(v))) for name, v in self.commits]
        for name, array in new:
            np.copyto(self.state[name], array)

    def _current(self, v: Value) -> Any:
        return self.view(v) if v in self.buffers else self.dynamic[v]


def _run(actions: Sequence[Action]) -> None:
    for action in actions:
        if isinstance(action, Tape):
            action.run()
        else:
            action()


def _has_work(inputs: Sequence[Array | None], outputs: Sequence[Array]) -> bool:
    """Fast kernels never see empty arrays; the reference does."""
    return all(a is None or a.size for a in inputs) and all(a.size for a in outputs)


def _is_noop_reorder(item: Item, bound: Bound) -> bool:
    if item.step.op.type != REORDER or item.pack is not None:
        return False
    source = item.inputs[0]
    assert source is not None
    old, new = bound.array(source), bound.array(item.outputs[0])
    return same_memory(old.shape, old.strides, new.strides)
