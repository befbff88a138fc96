"""What an item does when it runs: native calls for the tape, or a Python step between tapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np

from noria.core.dtypes import to_numpy
from noria.core.errors import NoriaError
from noria.core.flags import flags
from noria.ir.interpret import run_operator
from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.numba.move import copy_kernel
from noria.runtime import branches
from noria.runtime.arena import Arena
from noria.runtime.buffers import Buffers, Item
from noria.runtime.finite import CHECK, check_calls, examine, is_checked
from noria.runtime.memory import Buffer
from noria.runtime.operands import Operands, array_at
from noria.runtime.plan import Plan
from noria.runtime.tape import RowFailed, Tape
from noria.runtime.timing import Action, TimedAction, timed_step, timed_tape
from noria.runtime.validate import check_step

T = TypeVar("T")
Emitted = list[Call] | Action
BlockFunctions = Callable[
    [Operator, Mapping[str, int], int, frozenset[str]], dict[str, Callable[..., Any]]
]


class Emission:
    """Makes actions of items whose memory has its place.

    threads: size of the teams of tapes
    blocks:  gives the nested blocks of an operator as functions of arrays (`runtime/nested.py`)
    groups:  what may run side by side (`runtime/branches.py`)
    sizes:   symbol -> number; dynamic steps add what they tell as they run, `begin` forgets it
    dynamic: value -> array, for values whose size is not known before
    """

    def __init__(
        self,
        plan: Plan,
        operands: Operands,
        memory: Buffers,
        arena: Arena,
        threads: int,
        blocks: BlockFunctions,
        groups: Mapping[Item, branches.Lists] | None = None,
    ) -> None:
        self.plan, self.operands, self.memory, self.arena = plan, operands, memory, arena
        self.threads, self.blocks, self.groups = threads, blocks, groups or {}
        self.sizes = dict(operands.sizes)
        self.dynamic: dict[Value, Any] = {}
        self.finite, self.validate = flags.check_finite, flags.validate

    def begin(self) -> None:
        """To be called before each run."""
        if self.plan.learns:
            self.sizes = dict(self.operands.sizes)

    # ---- memory --------------------------------------------------------------------------------

    def address(self, buffer: Buffer) -> int:
        """Where a buffer begins."""
        return buffer.address if buffer.address is not None else self.arena.address + buffer.offset

    def view(self, value: Value) -> np.ndarray:
        """The value's memory as an array."""
        return array_at(self.address(self.memory.of[value]), self.operands.array(value))

    def reader(self, v: Value | None) -> Callable[[], Any]:
        """Gives the value's array when a run has come to where it is used."""
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

    # ---- tapes ---------------------------------------------------------------------------------

    def actions(self, items: Sequence[Item]) -> list[Action]:
        """Tapes of native calls, with Python steps between them."""
        return self.actions_with(items, {})[0]

    def actions_with(
        self, items: Sequence[Item], known: Mapping[Item, list[Call]]
    ) -> tuple[list[Action], dict[Item, list[Call]]]:
        """The same, and the calls by item. known: calls of items that need not be made again."""
        calls: dict[Item, list[Call]] = {}
        actions = [
            got if callable(got) else self._tape(got, makers)
            for got, makers in self._stretches(items, known, calls)
        ]
        return actions, calls

    def _tape(self, calls: Sequence[Call], makers: Sequence[Item]) -> Action:
        """A tape of these calls, small ones that do not need each other side by side."""
        if not self.groups:
            return self._explained(Tape(*self._how(calls, makers)).run, makers.__getitem__)
        rows, owners = branches.rows(calls, makers, self.groups, self.threads)

        def maker(row: int) -> Item:
            return branches.behind(owners[row])

        tape = Tape(rows, self.threads, lambda row: maker(row).step.op.where())
        return self._explained(tape.run, maker)

    def timed(self, items: Sequence[Item]) -> list[TimedAction]:
        """The same, telling when each row ran: one after the other, each where the plan has it."""
        return [
            timed_step(got, makers[0])
            if callable(got)
            else self._explained(
                timed_tape(Tape(*self._how(got, makers)), makers), makers.__getitem__
            )
            for got, makers in self._stretches(items, {}, {})
        ]

    def _stretches(
        self,
        items: Sequence[Item],
        known: Mapping[Item, list[Call]],
        made: dict[Item, list[Call]],
    ) -> Iterator[tuple[Emitted, list[Item]]]:
        """Native calls up to the next Python step, or that step; and the item behind each.

        made: where the calls of each item are put down
        """
        calls: list[Call] = []
        makers: list[Item] = []
        emit = self._validated if self.validate else self.one
        for item in items:
            got: Emitted | None = known.get(item)
            if got is None:
                got = emit(item) if self.finite == "off" else self._checked(item, emit(item))
            if not callable(got):
                made[item] = got
                calls += got
                makers += [item] * len(got)
                continue
            if calls:
                yield calls, makers
                calls, makers = [], []
            yield got, [item]
        if calls:
            yield calls, makers

    def _how(
        self, calls: Sequence[Call], makers: Sequence[Item]
    ) -> tuple[Sequence[Call], int, Callable[[int], str]]:
        """What a tape of these calls is made of."""
        return calls, self.threads, lambda row: makers[row].step.op.where()

    def _explained(self, run: Callable[[], T], maker: Callable[[int], Item]) -> Callable[[], T]:
        """Runs a tape; a row that fails is explained. maker: the item behind a row, by number."""

        def explained() -> T:
            try:
                return run()
            except RowFailed as failure:
                self.explain(maker(failure.row), failure)

        return explained

    def explain(self, item: Item, failure: RowFailed) -> NoReturn:
        """Kernels fail with a number. What is wrong with the inputs the reference tells, as it does
        without fast kernels; if it finds nothing, the kernel is at fault."""
        if failure.name == CHECK:
            self._examine(item)
        values = item.inputs if item.pack is None else item.step.op.inputs
        there = {None, *self.memory.of, *self.dynamic}  # not casts that packing has made needless
        if not item.reorders and there.issuperset(values):
            inputs = _as_read(item, values, [self.reader(v)() for v in values])
            try:
                with np.errstate(all="ignore"):
                    run_operator(item.step.op, inputs, dict(self.sizes))
            except NoriaError as error:
                raise error from failure
        raise failure

    # ---- one item ------------------------------------------------------------------------------

    def one(self, item: Item) -> Emitted:
        """What one item does: rows of the tape, or a Python step."""
        if item.pack is not None:
            pack, source = item.pack
            emit = pack.full if item.rounds else pack.emit
            assert emit is not None
            return emit(self.address(self.memory.of[source]), self.address(item.packs[0]))
        if item.step.view:
            return []
        if item.reorders and self._is_done(item):
            return []
        if item.prepared is None:
            return self._copy(item) if item.reorders else self._reference(item)
        of = self.memory.of
        ins = [0 if v is None else self.address(of[v]) for v in item.inputs]
        outs = [self.address(of[v]) for v in item.outputs]
        packs = [self.address(b) for b in item.packs]
        scratch = 0 if item.scratch is None else self.address(item.scratch)
        return item.prepared.emit(ins, outs, packs, scratch)

    def _validated(self, item: Item) -> Emitted:
        """The same, beside the reference, where a fast kernel runs."""
        got = self.one(item)
        if callable(got) or not got or item.pack is not None or item.kernel is None:
            return got
        op, name = item.step.op, item.kernel.name
        run = self._explained(Tape(*self._how(got, [item] * len(got))).run, lambda row: item)
        ins = [None if v is None else self.view(v) for v in item.inputs]
        outs = [self.view(v) for v in item.outputs]

        def step() -> None:
            before = [None if a is None else a.copy() for a in _as_read(item, item.inputs, ins)]
            run()
            check_step(op, name, before, outs, self.operands.sizes)

        return step

    def _checked(self, item: Item, got: Emitted) -> Emitted:
        """The same, stopping when an output is not finite (`runtime/finite.py`)."""
        if not is_checked(item, self.memory.last):
            return got
        if not callable(got):
            known = [v for v in item.outputs if v in self.memory.last]
            arrays = [(self.address(self.memory.of[v]), self.operands.array(v)) for v in known]
            return got + [c for a in arrays for c in check_calls(self.finite, *a, self.threads)]
        run = got

        def step() -> None:
            with flags.set(check_finite=self.finite):  # for nested blocks too
                run()
            self._examine(item)

        return step

    def _examine(self, item: Item) -> None:
        inputs = _as_read(item, item.inputs, [self.reader(v)() for v in item.inputs])
        examine(self.finite, item, inputs, [self.reader(v)() for v in item.outputs], self.sizes)

    def _is_done(self, item: Item) -> bool:
        """A reorder of nothing, or into the memory where it already is."""
        source, copy = item.inputs[0], item.outputs[0]
        assert source is not None
        same = self.memory.of[source] is self.memory.of[copy]
        return same or self.operands.array(copy).size == 0

    def _copy(self, item: Item) -> Emitted:
        """A value into another layout: natively, unless only the reference may run."""
        source, copy = item.inputs[0], item.outputs[0]
        assert source is not None
        if "numba" in self.plan.engines:
            emit = copy_kernel(self.operands.array(source), self.operands.array(copy), self.threads)
            of = self.memory.of
            return emit(self.address(of[source]), self.address(of[copy]))
        old, new = self.view(source), self.view(copy)
        return lambda: np.copyto(new, old)

    def _reference(self, item: Item) -> Emitted:
        """The op's own computation, on views of the planned memory."""
        op, of = item.step.op, self.memory.of
        if item.outputs and all(v in of and not self.operands.array(v).size for v in item.outputs):
            return []
        read = [self.reader(v) for v in item.inputs]
        write = [self._writer(v) for v in item.outputs]
        taken = [of[v] for v in item.inputs if v in of]
        detach = len(item.outputs) > 1 and any(of.get(v) in taken for v in item.outputs)
        checks = item.step.checks
        engines = self.plan.engines

        def step() -> None:
            sizes = self.sizes
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


def _as_read(item: Item, read: Sequence[Value | None], arrays: Sequence[Any]) -> list[Any]:
    """The inputs of an item's operator: state that is rounded when it is packed as halves.

    read: what lies in their place
    """
    pairs = zip(read, item.step.op.inputs, arrays, strict=True)
    with np.errstate(all="ignore"):
        return [a if v is w or w is None else a.astype(to_numpy(w.dtype)) for v, w, a in pairs]


def _owned(a: Any) -> np.ndarray:
    """The array, copied if it may lie in memory that will be used for something else."""
    array = np.asarray(a)
    return array if array.flags.owndata else array.copy()
