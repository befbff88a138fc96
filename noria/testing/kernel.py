"""Prove a kernel: it computes what the op's own `compute` does, wherever the engine may put it.

    check_kernel("max_pool2d", [arr(2, 3, 7, 5)], {"kernel": 3}, kernel="numba:pool")

A Program of the one operator is traced, also with open sizes, and run by each kernel alone: on
teams of one, two and three threads, in place and not, with feeds in channels-last memory, with
inputs that never change, twice, in memory full of garbage. Besides wrong numbers it finds a kernel
that changes an input that is still needed, leaves out an element, reads what it has not written,
or writes outside its operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.core.errors import NoriaError
from noria.ir.interpret import run_program
from noria.ir.program import Program, State, Value
from noria.kernels import library as _library
from noria.kernels.numba import parallel
from noria.kernels.registry import LAST, kernels
from noria.runtime.bind import Bound
from noria.runtime.feeds import Feeds
from noria.runtime.nested import block_functions
from noria.runtime.plan import Plan, Step, make_plan
from noria.runtime.scope import Scope
from noria.testing.case import Case
from noria.testing.check import load_ops
from noria.testing.compare import assert_same
from noria.testing.record import Subject, is_float_array, named, strided

_registered = _library  # importing it is enough
GARBAGE = 0xFF  # NaN in every float dtype, -1 in signed integers
KEPT = "kept."  # what an output that is an input is called


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a kernel may find itself.

    keep:  the inputs are fetched as well, so no output may take their memory
    last:  feeds of rank 3 and more lie channels-last
    fixed: all inputs but the first are state that no step changes, so packing them is free
    """

    name: str
    threads: int
    keep: bool = False
    last: bool = False
    fixed: bool = False


SITUATIONS = (
    Situation("in place, one thread", 1),
    Situation("inputs kept, two threads", 2, keep=True),
    Situation("in place, three threads", 3),
    Situation("channels-last feeds, in place, two threads", 2, last=True),
    Situation("channels-last feeds, inputs kept, one thread", 1, keep=True, last=True),
    Situation("fixed inputs, three threads", 3, fixed=True),
)


class Refused(Exception):
    """The kernel did not take the operator; the text is its reason."""


def check_kernel(
    op_type: str,
    inputs: Sequence[Any],
    attrs: Mapping[str, Any] | None = None,
    *,
    kernel: str | None = None,
    symbolic: Mapping[int, Mapping[int, str]] | None = None,
    special: bool = False,
    wide: bool = False,
    same_bits: bool = False,
    raises: type[NoriaError] | None = None,
    situations: Sequence[Situation] = SITUATIONS,
    tol: float | None = None,
    seed: int = 0,
) -> list[str]:
    """Run one op by its kernels, each alone, and compare with the reference.

    inputs, attrs, symbolic, tol, seed: as in `Case`; open sizes are tried larger, and empty
    kernel:     the name of the one to check; default all that take the operator
    special:    also with NaN and infinities strewn over the inputs
    wide:       compare with the op computed in float64, where float32 is no judge
    same_bits:  the numbers must be the same to the last bit for every team
    raises:     the reference refuses these inputs with this error; so must every kernel, and in
                the same words
    situations: fewer, for a kernel that does not take all

    Returns the names of the kernels that ran. Raises AssertionError for a wrong kernel, if the
    one named declines, and if there is none.
    """
    load_ops()
    case = Case(op_type, inputs, attrs or {}, symbolic=symbolic, tol=tol, seed=seed)
    trial = _Trial(case, situations, special, wide, same_bits, raises)
    ran, refused = [], []
    for name in [kernel] if kernel else list(dict.fromkeys(_candidates(op_type))):
        try:
            trial.check(name)
            ran.append(name)
        except Refused as reason:
            refused.append(f"{name}: {reason}")
    assert ran, f"no kernel took {case}: {'; '.join(refused) or 'there is none for this op'}"
    return ran


def _candidates(op_type: str) -> list[str]:
    return [k.name for k in kernels() if op_type in k.ops]


class _Trial:
    """One case, for every kernel."""

    def __init__(
        self,
        case: Case,
        situations: Sequence[Situation],
        special: bool,
        wide: bool,
        same_bits: bool,
        raises: type[NoriaError] | None,
    ) -> None:
        self.case, self.situations, self.wide = case, situations, wide
        self.same_bits, self.raises = same_bits, raises
        base = case.arrays()
        self.subject = Subject(case)
        self.recorded = self.subject.record(base)
        self.rounds = [base, case.arrays(salt=1)]
        if special:
            self.rounds.append([_strewn(a) for a in case.arrays(salt=2)])
        self.resized = []
        if case.resizable and raises is None:
            sizes = case.sizes()
            self.resized.append({s: n + 1 + i for i, (s, n) in enumerate(sorted(sizes.items()))})
            self.resized += [{**sizes, s: 0} for s in sizes]

    def check(self, kernel: str) -> None:
        """Raises Refused if the kernel does not take it."""
        first: dict[str, np.ndarray] | None = None
        for situation in self.situations:
            program, state = self._program(situation)
            what = f"kernel {kernel}, {situation.name}"
            run = _Run(program, state, kernel, self.case.op, situation)
            got = self._check_rounds(run, what)
            if first is None:
                first = got
            elif self.same_bits and not situation.fixed:
                _compare(_outputs(got), _outputs(first), f"{what}, to the last bit", 0.0)
            for sizes in self.resized:
                self._check_sizes(run, sizes, f"{what}, at {sizes}")

    def _program(self, situation: Situation) -> tuple[Program, dict[str, np.ndarray]]:
        """The Program of the situation, and the arrays that are its state."""
        program = self.recorded.program.copy()
        feeds = self.recorded.feeds(self.rounds[0])
        state: dict[str, np.ndarray] = {}
        if situation.fixed:
            for v in program.block.inputs[1:]:
                if all(isinstance(n, int) for n in v.shape):
                    state[v.name] = feeds[v.name]
                    program.state[v.name] = State(v)
            program.block.inputs = [v for v in program.block.inputs if v.name not in state]
        if situation.keep:
            program.outputs.update({KEPT + v.name: v for v in program.block.inputs})
            program.block.outputs = list(program.outputs.values())
        return program, state

    def _check_rounds(self, run: _Run, what: str) -> dict[str, np.ndarray]:
        """Several times by one Bound: what a run leaves behind must not matter to the next."""
        bound = run.bind(self.recorded.feeds(self.rounds[0]))
        if not run.ran(bound):
            raise Refused(run.reason())
        results = []
        for i, arrays in enumerate(self.rounds):
            arrays = self._with_state(run, arrays)
            feeds = self.recorded.feeds(arrays)
            if self.raises is not None:
                self._check_failure(run, bound, feeds, what)
                continue
            results.append(run.run(bound, feeds))
            want = self._want(run, arrays, self.case.sizes())
            _compare(results[-1], want, f"{what}, round {i}", self.case.tol)
        return results[0] if results else {}

    def _with_state(self, run: _Run, arrays: Sequence[Any]) -> list[Any]:
        """The arrays, except where the Program holds those of the first round as state."""
        names = [v.name if isinstance(v, Value) else "" for v in self.recorded.inputs]
        pairs = zip(names, arrays, self.rounds[0], strict=True)
        return [first if n in run.state else a for n, a, first in pairs]

    def _want(
        self, run: _Run, arrays: Sequence[Any], sizes: Mapping[str, int]
    ) -> dict[str, np.ndarray]:
        """Outputs by name, of the reference, or of the op on float64."""
        want = run.want(self.recorded.feeds(arrays))
        if self.wide:
            wide = [a.astype(np.float64) if is_float_array(a) else a for a in arrays]
            want.update(named("out", self.subject.eager(wide, sizes)))
        return want

    def _check_failure(
        self, run: _Run, bound: Bound, feeds: Mapping[str, np.ndarray], what: str
    ) -> None:
        told = [_error(run.want, feeds), _error(lambda f: run.run(bound, f), feeds)]
        assert self.raises is not None
        assert isinstance(told[0], self.raises), f"the reference did not raise: {told[0]!r}"
        assert type(told[1]) is type(told[0]) and str(told[1]) == str(told[0]), (
            f"{what}: the reference says\n{told[0]}\nand the engine\n{told[1]}"
        )

    def _check_sizes(self, run: _Run, sizes: Mapping[str, int], what: str) -> None:
        arrays = self.case.arrays(sizes)
        feeds = self.recorded.feeds(arrays)
        want = _error(run.want, feeds)
        if want is None:
            got = run.run(run.bind(feeds), feeds)
            _compare(got, self._want(run, arrays, sizes), what, self.case.tol)
            return
        with np.errstate(all="ignore"):
            got_error = _error(lambda f: run.run(run.bind(f), f), feeds)
        assert got_error is not None, f"{what}: the reference raises, the engine does not: {want}"


class _Run:
    """A Program planned for one kernel."""

    def __init__(
        self,
        program: Program,
        state: Mapping[str, np.ndarray],
        kernel: str,
        op_type: str,
        situation: Situation,
    ) -> None:
        self.program, self.state, self.kernel, self.situation = program, state, kernel, situation
        last = {n: LAST for n, v in program.inputs.items() if v.ndim > 2 and situation.last}
        self.plan: Plan = make_plan(program, frozenset({kernel}), last)
        self.step: Step = [s for s in self.plan.steps if s.op.type == op_type][-1]
        self.arrays = Scope().initialize(program, values=state).arrays

    def ran(self, bound: Bound) -> bool:
        """Does the kernel run the operator, in this Bound?"""
        return any(i.step is self.step and i.prepared is not None for i in bound.items)

    def reason(self) -> str:
        reasons = [reason for name, reason in self.step.refused if name == self.kernel]
        return "; ".join(reasons) or "there is no such kernel for this op"

    def bind(self, feeds: Mapping[str, np.ndarray]) -> Bound:
        known = Feeds(self.program)
        sizes = known.sizes([feeds[v.name] for v in known.inputs])
        with parallel.always():
            return Bound(self.plan, sizes, self.arrays, self.situation.threads, block_functions)

    def run(self, bound: Bound, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One step in memory full of garbage, with feeds that are not contiguous."""
        memory = bound.arena.view(0, (bound.arena_bytes,), "uint8")
        memory[...] = GARBAGE
        for v, view in zip(self.program.block.inputs, bound.feeds, strict=True):
            view[...] = strided(feeds[v.name])
        if bound.epoch < 0:  # the first time; what never changes may be refused too
            bound.run_prologue()
        bound.run()
        outside = np.ones(bound.arena_bytes, bool)
        for b in bound.memory.all:
            outside[b.offset : b.offset + b.nbytes] = False
        assert (memory[outside] == GARBAGE).all(), (
            f"kernel {self.kernel}, {self.situation.name}: it wrote outside its operands"
        )
        return {n: bound.fetch(n) for n in self.program.outputs}

    def want(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        given = {v.name: feeds[v.name] for v in self.program.block.inputs}
        return run_program(self.program, given, self.state)[0]


def _error(fn: Any, feeds: Mapping[str, np.ndarray]) -> NoriaError | None:
    try:
        fn(feeds)
    except NoriaError as error:
        return error
    return None


def _outputs(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {n: a for n, a in arrays.items() if not n.startswith(KEPT)}


def _compare(
    got: Mapping[str, np.ndarray], want: Mapping[str, np.ndarray], what: str, tol: float | None
) -> None:
    for name in got:
        kept = name.startswith(KEPT)
        where = f"{what}: it changed the input {name[len(KEPT) :]}" if kept else f"{what}, {name}"
        assert_same(got[name], want[name], where, tol=0.0 if kept else tol, dtype=False)


def _strewn(array: Any) -> Any:
    """Every seventh element, from the third, NaN or an infinity."""
    if not is_float_array(array) or not isinstance(array, np.ndarray):
        return array
    out = array.copy()
    places = np.arange(out.size)[2::7]
    out.reshape(-1)[places] = np.resize(np.array([np.nan, np.inf, -np.inf]), places.size)
    return out
