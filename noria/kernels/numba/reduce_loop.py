"""The source of loops that reduce, along the innermost axis or along others.

Work is cut in one of two ways, which the table says (`split`): either each thread takes some of the
results, or all threads take a part of the elements of every result, meet at a barrier, and join
their accumulators in the order of the threads. So a result depends on the number of threads, not on
which was faster.
"""

from __future__ import annotations

from noria.core.dtypes import itemsize
from noria.kernels.numba.codegen import Form, Operands, Source, product, share, table_layout, unravel
from noria.kernels.numba.reduction import Reduction
from noria.kernels.numba.term import Lines, Term

EXTRA = ("scratch", "split", "area", "lane", "count")
"""Of the table: address of the accumulators; 1 to split elements; bytes of a thread's accumulators
and of one result's; elements a result is made of."""

TILE = 1024  # columns whose accumulators stay in the first cache
BLOCK = 4096  # float64 elements between two exact additions
UNROLLED = 4  # rows read at once for one load and store of the accumulators


class _Results:
    """The reduced outputs of a form: accumulator a0, a1 ... or, in memory, at address m0, m1 ..."""

    def __init__(self, form: Form, operands: Operands) -> None:
        body = form.body
        self.operands = operands
        dtype_of = {o.value: o.dtype for o in body.outputs}  # noqa: F841
        self.numbers = [o for o, out in enumerate(body.outputs) if out.reduction]
        self.places = [len(body.inputs) + o for o in self.numbers]

    def bind(self, outputs: list[Term], form: Form) -> list[Reduction]:
        """What is done to each, knowing the dtype of its elements."""
        return [
            Reduction(str(form.body.outputs[o].reduction), outputs[o].dtype, form.body.outputs[o].dtype)
            for o in self.numbers
        ]
