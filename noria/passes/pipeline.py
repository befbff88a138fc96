"""The only place that orders passes. One plain list per pipeline, each line with its reason."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from noria.core.errors import MissingError, NoriaError, nearest
from noria.core.flags import Flags, flags
from noria.core.pause import collector_paused
from noria.ir.program import Program
from noria.ir.text import format_program
from noria.ir.verify import verify
from noria.ops import library as _library  # what passes put in may be any op
from noria.passes.eliminate_common_ops import eliminate_common_ops
from noria.passes.eliminate_dead_ops import eliminate_dead_ops
from noria.passes.fold_batch_norm import fold_batch_norm
from noria.passes.fold_constants import fold_constants
from noria.passes.fuse_attention import fuse_attention
from noria.passes.fuse_batch_norm import fuse_batch_norm
from noria.passes.fuse_conv import fuse_conv
from noria.passes.fuse_convs import fuse_convs
from noria.passes.fuse_elementwise import fuse_elementwise
from noria.passes.fuse_embedding import fuse_embedding
from noria.passes.fuse_linear import fuse_linear
from noria.passes.fuse_masked_grads import fuse_masked_grads
from noria.passes.fuse_norm_pairs import fuse_norm_pairs
from noria.passes.fuse_normed_conv import fuse_normed_conv
from noria.passes.fuse_pooled_conv import fuse_pooled_conv
from noria.passes.fuse_pooled_norm import fuse_pooled_norm
from noria.passes.fuse_product import fuse_product
from noria.passes.fuse_recurrent import fuse_recurrent
from noria.passes.fuse_taken import fuse_taken
from noria.passes.fuse_weight_grads import fuse_weight_grads
from noria.passes.gather_updates import gather_updates
from noria.passes.keep_places import keep_places
from noria.passes.lower_precision import lower_precision
from noria.passes.report import Report, collect
from noria.passes.rule import Rule
from noria.passes.simplify import simplify

Pass = Rule | Callable[[Program], Program]
_known = _library.FAMILIES


class Line(NamedTuple):
    """A pass and why it stands where it stands."""

    apply: Pass
    reason: str

    @property
    def name(self) -> str:
        return self.apply.name if isinstance(self.apply, Rule) else self.apply.__name__


OPTIMIZE: list[Line] = [
    Line(eliminate_dead_ops, "a value that a dead operator takes seems to be used elsewhere"),
    Line(fold_constants, "numbers become visible to the rules that look for them"),
    Line(fuse_attention, "before simplify, which removes the transposes that then meet"),
    Line(simplify, "what does nothing no longer stands between what belongs together"),
    Line(eliminate_common_ops, "after simplify, which makes equal what was written differently"),
    Line(fold_batch_norm, "before fuse_conv, which takes what then follows the convolution"),
    Line(fuse_linear, "a product takes its bias and activation along for nothing"),
    Line(fuse_conv, "likewise, and the residual too"),
    Line(fuse_batch_norm, "before fuse_elementwise, which would make loops of ReLU, sum and mask"),
    Line(fuse_embedding, "rows that are only added up need no memory; look-ups are merged before"),
    Line(eliminate_common_ops, "the new weights and biases, if one product was shared"),
    Line(lower_precision, "casts hide what the rules above look for, and belong into loops"),
    Line(fuse_convs, "after lower_precision: convolutions of halves stay apart"),
    Line(keep_places, "after simplify, which masks gradients by what was pooled, and the dtypes"),
    Line(fuse_pooled_norm, "after keep_places, and fuse_batch_norm, of which it takes the ReLU"),
    Line(fuse_taken, "after keep_places; it asks for float32"),
    Line(fuse_pooled_conv, "likewise, and the convolution has its bias and ReLU by then"),
    Line(fuse_masked_grads, "after fuse_batch_norm, and lower_precision: it asks for bfloat16"),
    Line(fuse_norm_pairs, "after fuse_masked_grads, whose sum is often the gradient of both"),
    Line(fuse_normed_conv, "after fuse_batch_norm, and lower_precision: it asks for the dtype"),
    Line(fuse_recurrent, "after lower_precision: layers of halves stay apart"),
    Line(fuse_elementwise, "what no product took becomes loops, which no rule looks into"),
    Line(fuse_product, "after fuse_elementwise: a product takes a whole loop along"),
    Line(fuse_weight_grads, "after fuse_elementwise: sums that a loop makes anyway stay in it"),
    Line(gather_updates, "last: of updates together with the decay and clipping in their loops"),
]


def run(program: Program, passes: Sequence[Line | Pass]) -> Program:
    """Apply passes in order; the Program given is not changed.

    With NORIA_DEBUG=3 the passes that changed something are printed, with 4 its text after each;
    with NORIA_VALIDATE=1 each result is checked against the rules of the IR.
    Raises NoriaError naming the pass if one breaks them.
    """
    for p in passes:
        line = p if isinstance(p, Line) else Line(p, "")
        after = line.apply(program)
        _tell(line.name, program, after)
        if flags.validate:
            _check(line.name, after)
        program = after
    return program


def _tell(name: str, before: Program, after: Program) -> None:
    if flags.debug < 3 or not changed(before, after):
        return
    counts = f"{len(before.operators)} -> {len(after.operators)} operators"
    print(f"pass {name}: {counts}", file=sys.stderr)
    if flags.debug >= 4:
        print(format_program(after), file=sys.stderr)


def changed(before: Program, after: Program) -> bool:
    """Whether a pass did anything: operators that stay are the same objects."""
    parts = [(p.operators, p.block.inputs, p.outputs, p.updates) for p in (before, after)]
    return parts[0] != parts[1] or before.state.keys() != after.state.keys()


def _check(name: str, program: Program) -> None:
    try:
        verify(program)
    except NoriaError as error:
        error.where = ", ".join(filter(None, (f"the result of pass '{name}'", error.where)))
        raise


def optimize(program: Program, precision: str | None = None) -> Program:
    """What an Executor applies to every Program before planning.

    precision: the flag of that name for these passes, default as it is
    """
    with collector_paused(), flags.set(precision=checked_precision(precision)):
        return run(program, OPTIMIZE)


def checked_precision(precision: str | None) -> str:
    """The precision, the flag's for None. Raises ArgumentError for an unknown one."""
    return flags.precision if precision is None else Flags.precision.checked(precision, "precision")


def report(program: Program) -> list[Report]:
    """What each pass of OPTIMIZE does to the Program, and what it declines, in order."""
    with collect() as reports:
        optimize(program)
    return reports


def explain(program: Program, name: str | None = None) -> str:
    """What the passes do to the Program, one line each; of the pass `name` everything.

    Raises MissingError if no pass of OPTIMIZE has that name.
    """
    names = {line.name for line in OPTIMIZE}
    if name is not None and name not in names:
        raise MissingError(f"no pass is called '{name}'", hint=nearest(name, names))
    reports = report(program)
    if name is None:
        return "\n".join(map(str, reports))
    return "\n".join(line for r in reports if r.name == name for line in r.lines())
