"""Kernels that do a part of an operator: those of the simpler operator that is in it."""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.flags import flags
from noria.ir.program import Operator
from noria.kernels.registry import Declined, Kernel, Layouts, kernels


def takers(inner: Operator, given: Sequence[str | None], layouts: Layouts) -> list[Kernel]:
    """Kernels that take the operator and, knowing these layouts of its inputs, want those."""
    found = []
    for kernel in kernels():
        if inner.type in kernel.ops and flags.allows(kernel.engine):
            try:
                kernel.accepts(inner)
            except Declined:
                continue
            if kernel.layout(inner, given) == layouts:
                found.append(kernel)
    return found
