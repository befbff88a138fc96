"""What generated loops share: their form, the table they read, addresses of operands.

The points of a Space are run through in up to three nested loops, named by a letter:

    q   over the kept axes, flattened
    r   over the reduced axes, flattened
    i   along the innermost axis, kept or reduced; the one that becomes vectors

Operands are numbered, inputs before outputs. Variables of a kernel: `p3` the address of operand 3,
`q3` and `r3` where it is in those loops, `n1` the size of axis 1 of the Space, `x1` the place along
it, `s1_3` the step of operand 3 along it (in elements).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from noria.core.dtypes import itemsize
from noria.kernels.numba.body import Body, write_body
from noria.kernels.numba.space import Space
from noria.kernels.numba.term import Lines, Term

LEVELS = "kqri"  # before all loops, and in each of them
GRAIN = 64  # elements; so two threads never write into one cache line of an aligned array
_NAMES = re.compile(r"\b(?:[pn]\d+|s\d+_\d+|[a-z]+)\b")


@dataclass(frozen=True, slots=True)
class Form:
    """All that the source of a loop depends on.

    body:    what is computed
    reduced: for each axis of the Space, whether it is reduced
    codes:   for each operand the innermost loop it moves with: k, q or r, or c where it is
             contiguous along i and s where it has another step
    """

    body: Body
    reduced: tuple[bool, ...]
    codes: str

    @property
    def inner(self) -> int:
        return len(self.reduced) - 1

    @property
    def kept_axes(self) -> list[int]:
        """Those of loop q."""
        return [d for d, r in enumerate(self.reduced[:-1]) if not r]

    @property
    def reduced_axes(self) -> list[int]:
        """Those of loop r."""
        return [d for d, r in enumerate(self.reduced[:-1]) if r]

    @property
    def dtypes(self) -> tuple[str, ...]:
        return (*self.body.inputs, *(o.dtype for o in self.body.outputs))


def form_of(body: Body, space: Space) -> Form:
    """The form of a body over the loops of a space."""
    codes = [_code(column, space.reduced) for column in zip(*space.strides, strict=True)]
    return Form(body, space.reduced, "".join(codes))


def _code(steps: Sequence[int], reduced: Sequence[bool]) -> str:
    if steps[-1]:
        return "c" if steps[-1] == 1 else "s"
    moved = [r for step, r in zip(steps, reduced, strict=True) if step]
    return "r" if any(moved) else "q" if moved else "k"


# ---- text --------------------------------------------------------------------------------------


class Source:
    """Lines of a function under construction, at a depth."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1

    def put(self, *lines: str) -> None:
        self.lines += ["    " * self.depth + line for line in lines]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """An indented block under a line such as `for i in range(n):`."""
        self.put(head)
        self.depth += 1
        yield
        self.depth -= 1

    def function(self, name: str, layout: Sequence[str]) -> str:
        """The whole function, with the numbers of its table that it uses read at the start.

        layout: the name of each number of the table; `me` and `team` are always there
        """
        used = set(_NAMES.findall("\n".join(self.lines)))
        reads = [f"    {n} = load_int64(args, {i})" for i, n in enumerate(layout) if n in used]
        if "team" in used:
            reads += ["    me = thread_id()", "    team = team_size()"]
        return "\n".join([f"def {name}(args):", *reads, *self.lines, "    return 0", ""])


def table_layout(form: Form, extra: Sequence[str] = ()) -> list[str]:
    """Names of the numbers in the table: addresses, `extra`, sizes, steps."""
    operands, axes = range(len(form.codes)), range(len(form.reduced))
    steps = [f"s{d}_{o}" for d in axes for o in operands]
    return [*(f"p{o}" for o in operands), *extra, *(f"n{d}" for d in axes), *steps]


def table_end(space: Space) -> list[int]:
    """The numbers that follow the addresses and `extra`."""
    return [*space.sizes, *itertools.chain.from_iterable(space.strides)]


def share(low: str, high: str, count: str, grain: int = 1) -> list[str]:
    """Lines that set a thread's part of `count` things; parts begin at multiples of `grain`."""
    cut = "" if grain == 1 else f" // {grain} * {grain}"
    lines = [f"{low} = {count} * me // team{cut}"]
    lines += [f"{high} = {count} * (me + 1) // team{cut}"]
    if grain > 1:
        lines += ["if me + 1 == team:", f"    {high} = {count}"]
    return lines


def product(axes: Iterable[int]) -> str:
    """The number of points of a loop over axes."""
    return " * ".join(f"n{d}" for d in axes) or "1"


def unravel(flat: str, axes: Sequence[int]) -> list[str]:
    """Lines that set the place along each axis from the place in the flattened loop."""
    lines, rest = [], flat
    for d in reversed(axes[1:]):
        lines += [f"x{d} = {rest} % n{d}", f"y{d} = {rest} // n{d}"]
        rest = f"y{d}"
    return [*lines, f"x{axes[0]} = {rest}"] if axes else []


# ---- operands ----------------------------------------------------------------------------------


class Operands:
    """Addresses of the operands of a form in each loop, and the statements of its body."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.sizes = [itemsize(d) for d in form.dtypes]
        kept, along = form.kept_axes, form.reduced_axes
        results = [len(form.body.inputs) + o for o in form.body.results]
        # The loops that have axes and move an operand, outermost first.
        self.moves = [
            ("q" if kept and code != "k" else "")
            + ("r" if along and code in "rcs" and o not in results else "")
            for o, code in enumerate(form.codes)
        ]

    def pointers(
        self, level: str, suffix: str = "", which: Iterable[int] | None = None
    ) -> list[str]:
        """Lines that set `q3 = ...` for operands that move in loop q, or `r3 = ...` in loop r."""
        axes = self.form.kept_axes if level == "q" else self.form.reduced_axes
        lines = []
        for o in range(len(self.sizes)) if which is None else which:
            loops = "p" + self.moves[o]
            if level in loops:
                outer = loops[loops.index(level) - 1]
                step = " + ".join(f"x{d} * s{d}_{o}" for d in axes)
                end = suffix if level == "r" else ""
                lines.append(f"{level}{o}{end} = {outer}{o} + ({step}) * {self.sizes[o]}")
        return lines

    def at(self, operand: int, suffix: str = "") -> tuple[str, str]:
        """(address, element) of an operand, in the innermost loop it moves with."""
        code, deepest = self.form.codes[operand], ("p" + self.moves[operand])[-1]
        pointer = f"{deepest}{operand}{suffix if deepest == 'r' else ''}"
        if code not in "cs":
            return pointer, "0"
        step = "" if code == "c" else f" * s{self.form.inner}_{operand}"
        return pointer, f"i{step}"

    def load(self, operand: int, suffix: str = "") -> str:
        pointer, index = self.at(operand, suffix)
        return f"load_{self.form.dtypes[operand]}({pointer}, {index})"

    def store(self, operand: int, value: str, suffix: str = "") -> str:
        pointer, index = self.at(operand, suffix)
        return f"store_{self.form.dtypes[operand]}({pointer}, {index}, {value})"

    def statements(self, suffix: str = "") -> tuple[list[list[str]], list[Term]]:
        """The statements of each loop, with stores of what is not reduced, and all outputs."""
        body = self.form.body
        lines = Lines(len(LEVELS), suffix, LEVELS.index("r"))
        inputs = [
            lines.let(self.load(o, suffix), dtype, LEVELS.index("i" if code in "cs" else code))
            for o, (dtype, code) in enumerate(zip(body.inputs, self.form.codes, strict=False))
        ]
        outputs = write_body(body, lines, inputs)
        for o, (term, out) in enumerate(zip(outputs, body.outputs, strict=True), len(body.inputs)):
            if out.reduction is None:
                lines.levels[-1].append(self.store(o, term.text, suffix))
        return lines.levels, outputs
