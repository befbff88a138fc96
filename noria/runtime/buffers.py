"""Which memory each value of a bound plan has: its own, a view's, an input's, or a state's.

`Buffers.assign` shares memory where that is safe. `Buffers.prove` then goes through the steps,
keeping track of whose numbers each buffer holds, and finds any read of numbers that are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from noria.core.errors import EngineError
from noria.ir.opdef import lookup
from noria.ir.program import Program, Value
from noria.kernels.registry import Array, Kernel, Pack, Prepared, same_memory
from noria.ops.fused import overwrites_of
from noria.ops.sweep import overwrites_of_sweep
from noria.runtime.memory import Buffer
from noria.runtime.plan import REORDER, Step
from noria.runtime.script import Script, likeness_of, same_place

HEADROOM = 1.25  # of buffers, for larger sizes


@dataclass(slots=True, eq=False)
class Item:
    """A step with real sizes, on its way to the tape.

    prepared: of `kernel`; None: the reference runs it
    inputs:   those of the step; state of float32 for halves that are made of it while it is packed
    packs:    the packed copies it reads; pack: this item only makes one of them, of that value
    """

    step: Step
    inputs: Sequence[Value | None]
    outputs: Sequence[Value]
    prepared: Prepared | None = None
    kernel: Kernel | None = None
    scratch: Buffer | None = None
    packs: list[Buffer] = field(default_factory=list)
    pack: tuple[Pack, Value] | None = None

    @property
    def rounds(self) -> bool:
        """Does it pack halves of what is float32?"""
        return self.pack is not None and self.pack[1] not in self.step.op.inputs

    @property
    def reorders(self) -> bool:
        """Does it copy a value into another layout?"""
        return self.step.op.type == REORDER and self.pack is None

    def shares(self) -> dict[int, int]:
        """Output -> input whose memory it is, unchanged: of views, perhaps of reorders."""
        if self.reorders:
            return {0: 0}
        return lookup(self.step.op.type).views if self.step.view else {}

    def may_overwrite(self) -> list[tuple[int, int]]:
        """(output, input) pairs: the output may take the memory of the input."""
        if self.reorders or self.step.view:
            return []
        op = self.step.op
        allowed = overwrites_of_sweep(op) if op.type == "sweep" else overwrites_of(op)
        if self.prepared is None:
            return allowed
        may = set(allowed)
        return [pair for pair in self.prepared.in_place if pair in may]


class Buffers:
    """The buffer of each value of a Program, as far as its size is known.

    state:       name -> (bytes, address)
    of:          value -> buffer
    all:         buffers that need a place in the arena, after `assign`
    commits:     (state name, new value) of updates not computed in the state's own memory
    naive_bytes: bytes of all values, if none shared memory
    apart:       nothing is computed in the memory of something else, not even new state
    """

    def __init__(
        self,
        program: Program,
        array: Callable[[Value], Array],
        sized: Callable[[Value], bool],
        state: Mapping[str, tuple[int, int]],
        *,
        apart: bool = False,
    ) -> None:
        self.apart = apart
        self.program, self.array, self.sized = program, array, sized
        self.of: dict[Value, Buffer] = {
            s.value: Buffer(n, state[n][0], -1, -1, state[n][1]) for n, s in program.state.items()
        }
        self.all: list[Buffer] = []
        self.commits: list[tuple[str, Value]] = []
        self.naive_bytes = 0

    def for_sizes(
        self, array: Callable[[Value], Array], sized: Callable[[Value], bool], naive_bytes: int
    ) -> Buffers:
        """The same memory, for other sizes."""
        made = object.__new__(Buffers)
        made.__dict__.update(self.__dict__)
        made.array, made.sized, made.naive_bytes = array, sized, naive_bytes
        return made

    def share(self, item: Item) -> None:
        """The outputs of a view have the memory of its inputs."""
        for o, i in item.shares().items():
            source = item.inputs[i]
            assert source is not None
            self.of[item.outputs[o]] = self.of[source]

    # ---- a step's memory -----------------------------------------------------------------------

    def assign(self, items: Sequence[Item], before: Script | None = None) -> Script:
        """A buffer for all that one step computes, with the first and last item that needs it.

        before: what was decided for other sizes; it is followed if nothing speaks against it
        """
        likeness = likeness_of(items, self.is_nothing)
        if before is not None and before.fits(likeness, self.array):
            return self._follow(before, items)
        self.script = Script(likeness)
        given = len(self.of)
        self._decide(items)
        self.script.commits, self.script.last = self.commits, self.last
        self._write_down(given)
        return self.script

    def _follow(self, script: Script, items: Sequence[Item]) -> Script:
        self.script, self.last, self.commits = script, script.last, script.commits
        self.all += script.follow(self.of, self.array)
        self.naive_bytes = sum([self.array(v).nbytes for v in script.outputs])
        for t, item in enumerate(items):
            self._own_needs(t, item)
        return script

    def _write_down(self, given: int) -> None:
        """The buffers of all values but the first `given`, which had theirs before."""
        owner = {id(b): v for v, b in list(self.of.items())[:given]}
        for v, buffer in list(self.of.items())[given:]:
            if id(buffer) in owner:
                self.script.shared.append((v, owner[id(buffer)]))
            else:
                owner[id(buffer)] = v
                self.script.new.append((v, buffer.first, buffer.last))

    def _decide(self, items: Sequence[Item]) -> None:
        self.last = self._last_uses(items)
        self.updates = {v: n for n, v in reversed(self.program.updates.items())}
        for v in self.program.block.inputs:
            self._new(v, -1, self.last.get(v, -1))
        in_place: set[str] = set()
        for t, item in enumerate(items):
            self._own_needs(t, item)
            if item.pack is not None:
                continue
            if item.step.view or self.is_nothing(item):
                self.share(item)
            else:
                self._outputs(t, item, in_place)
            for v in item.outputs:
                if v in self.of:
                    buffer = self.of[v]
                    buffer.last = max(buffer.last, self.last.get(v, t))
        state = self.program.state
        self.commits = [
            (n, v)
            for n, v in self.program.updates.items()
            if n not in in_place and v is not state[n].value  # it may stay what it is
        ]

    def _last_uses(self, items: Sequence[Item]) -> dict[Value, int]:
        """Value -> last item that reads its memory, also through a view; for roots the end."""
        last: dict[Value, int] = dict.fromkeys(self.program.roots(), len(items))
        for t in range(len(items) - 1, -1, -1):
            item = items[t]
            for v in item.inputs:
                if v is not None:
                    last.setdefault(v, t)
            if item.reorders and not self.is_nothing(item):
                continue
            for o, i in item.shares().items():
                source = item.inputs[i]
                assert source is not None
                last[source] = max(last[source], last.get(item.outputs[o], t))
        return last

    def _new(self, v: Value, first: int, last: int) -> None:
        self.of[v] = Buffer(v.name, self.array(v).nbytes, first, last)
        self.all.append(self.of[v])

    def _own_needs(self, t: int, item: Item) -> None:
        """Packed copies live from where they are made to the last that reads them."""
        for buffer in item.packs:
            if not buffer.pinned:
                if buffer.first < 0:
                    buffer.first = t
                    self.all.append(buffer)
                buffer.last = t
        if item.pack is None and item.prepared is not None and item.prepared.scratch:
            item.scratch = Buffer("scratch", item.prepared.scratch, t, t)
            self.all.append(item.scratch)

    def is_nothing(self, item: Item) -> bool:
        """A reorder between layouts that are the same for these sizes."""
        if not item.reorders or item.inputs[0] is None:
            return False
        old, new = self.array(item.inputs[0]), self.array(item.outputs[0])
        return same_memory(old.shape, old.strides, new.strides)

    def _outputs(self, t: int, item: Item, in_place: set[str]) -> None:
        allowed = item.may_overwrite()
        for o, v in enumerate(item.outputs):
            if not self.sized(v):
                continue
            self.naive_bytes += self.array(v).nbytes
            self.script.outputs.append(v)
            if self.apart:
                self._new(v, t, t)
                continue
            name = self.updates.get(v)
            if name is not None and self._fits_state(t, item, o, name, allowed):
                self._take(v, self.program.state[name].value)
                in_place.add(name)
                continue
            source = self._overwritten(t, item, o, allowed)
            if source is None:
                self._new(v, t, t)
            else:
                self._take(v, source)

    def _take(self, v: Value, source: Value) -> None:
        """v is computed where the source was."""
        self.of[v] = self.of[source]
        self.script.alike.append((v, source))

    # ---- sharing -------------------------------------------------------------------------------

    def _fits_state(
        self, t: int, item: Item, o: int, name: str, allowed: Sequence[tuple[int, int]]
    ) -> bool:
        """May the new value of a state be computed where the old one is?"""
        old = self.program.state[name].value
        read_until = self.last.get(old, -1)
        if read_until > t or (read_until == t and not self._alone(item, o, old, allowed)):
            return False
        return same_place(self.array(item.outputs[o]), self.array(old))

    def _overwritten(
        self, t: int, item: Item, o: int, allowed: Sequence[tuple[int, int]]
    ) -> Value | None:
        """An input that nobody reads after item t, whose memory output o may take."""
        taken = [self.of.get(v) for v in item.outputs[:o]]
        for output, i in allowed:
            source = item.inputs[i] if output == o and i < len(item.inputs) else None
            buffer = None if source is None else self.of.get(source)
            if source is None or buffer is None or buffer.pinned or buffer in taken:
                continue
            dies = buffer.last <= t and self.last[source] <= t
            if dies and buffer.nbytes == self.array(item.outputs[o]).nbytes:
                same = same_place(self.array(item.outputs[o]), self.array(source))
                if same and self._alone(item, o, source, allowed):
                    return source
        return None

    def _alone(self, item: Item, o: int, source: Value, allowed: Sequence[tuple[int, int]]) -> bool:
        """May output o overwrite every input that lies in the source's memory?"""
        buffer = self.of[source]
        sharing = [
            i for i, v in enumerate(item.inputs) if v is not None and self.of.get(v) is buffer
        ]
        return all(item.inputs[i] is source and (o, i) in allowed for i in sharing)

    def make_room(self) -> None:
        """Makes the buffers larger than they need be, for larger sizes to come."""
        for buffer in self.all:
            buffer.nbytes = int(buffer.nbytes * HEADROOM)

    # ---- proof ---------------------------------------------------------------------------------

    def prove(self, prologue: Sequence[Item], items: Sequence[Item]) -> None:
        """Raises EngineError if an item, a fetch or a commit would read overwritten numbers.

        Together with `check_plan`, which proves that buffers alive at once do not overlap.
        """
        proof = _Proof(self.of)
        for v in (*self.program.block.inputs, *(s.value for s in self.program.state.values())):
            proof.write(-1, v)
        for t, item in [*((-1, item) for item in prologue), *enumerate(items)]:
            proof.step(t, item)
        for v in self.program.roots():
            proof.read(len(items), v)
        for v, buffer in self.of.items():
            _need_room(f"'{v.name}'", self.array(v).nbytes, buffer)


class _Proof:
    """Whose numbers each buffer holds while the steps are gone through."""

    def __init__(self, of: Mapping[Value, Buffer]) -> None:
        self.of = of
        self.holds: dict[Buffer, Value] = {}
        self.origin: dict[Value, Value] = {}  # of a view: what it shows

    def step(self, t: int, item: Item) -> None:
        for v in item.inputs:
            if v is not None:
                self.read(t, v)
        if item.pack is not None:
            self.holds[item.packs[0]] = self._root(item.pack[1])
            return
        packs = item.prepared.packs if item.prepared else []
        for buffer, pack in zip(item.packs, packs, strict=True):
            self._require(t, buffer, buffer.name, item.inputs[pack.input])
            _need_room(buffer.name, pack.nbytes, buffer)
        if item.prepared is not None and item.prepared.scratch:
            _need_room("scratch", item.prepared.scratch, item.scratch)
        shared = item.shares()
        for o, v in enumerate(item.outputs):
            source = item.inputs[shared[o]] if o in shared else None
            if source is not None and self.of.get(v) is self.of.get(source):
                self.origin[v] = self._root(source)
                continue
            self._need_right(item, o)
            self.write(t, v)
        if len({self.of.get(v, v) for v in item.outputs}) < len(item.outputs):
            raise EngineError(f"two outputs of {item.step.op.where()} have the same memory")

    def _need_right(self, item: Item, o: int) -> None:
        """An output may lie where inputs are only if it may overwrite each of them."""
        buffer = self.of.get(item.outputs[o])
        sharing = [
            i for i, v in enumerate(item.inputs) if v is not None and self.of.get(v) is buffer
        ]
        if buffer is not None and sharing:
            allowed = item.may_overwrite()
            for i in sharing:
                if (o, i) not in allowed:
                    raise EngineError(
                        f"{item.step.op.where()} must not overwrite its input {i}",
                        got=f"output {o} in the same memory",
                    )

    def read(self, t: int, v: Value) -> None:
        if v in self.of:
            self._require(t, self.of[v], f"'{v.name}'", v)

    def write(self, t: int, v: Value) -> None:
        if v in self.of:
            self.holds[self.of[v]] = v
            _need_alive(t, self.of[v], f"'{v.name}'")

    def _root(self, v: Value | None) -> Any:
        return None if v is None else self.origin.get(v, v)

    def _require(self, t: int, buffer: Buffer, what: str, v: Value | None) -> None:
        _need_alive(t, buffer, what)
        found = self.holds.get(buffer)
        if found is not self._root(v):
            raise EngineError(
                f"item {t} would read {what} from memory that holds something else",
                got="nothing" if found is None else f"'{found.name}'",
                hint="please report this; NORIA_KERNELS=reference may run it",
            )


def _need_room(what: str, nbytes: int, buffer: Buffer | None) -> None:
    room = 0 if buffer is None else buffer.nbytes
    if nbytes > room:
        raise EngineError(f"no room for {what}", expected=f"{nbytes} bytes", got=f"{room}")


def _need_alive(t: int, buffer: Buffer, what: str) -> None:
    if not buffer.pinned and not buffer.first <= t <= buffer.last:
        raise EngineError(
            f"item {t} would use {what} outside the life of its memory",
            got=f"items {buffer.first} to {buffer.last}",
        )
