"""Operators that nothing needs."""

from __future__ import annotations

from noria.ir.program import Program
from noria.passes.liveness import live
from noria.passes.report import Report, publish


def eliminate_dead_ops(program: Program) -> Program:
    """Operators that no output, update or effect depends on are left out, in nested blocks too.

    It comes first, because an operator that nobody needs still counts as a user of what it takes,
    and so keeps others from being fused.

    Given:
        program p {
          input x: float32[N, 3]
          relu: float32[N, 3] = relu(x)
          exp: float32[N, 3] = exp(relu)
          output y = relu
        }
    Result:
        program p {
          input x: float32[N, 3]
          relu: float32[N, 3] = relu(x)
          output y = relu
        }
    """
    report = Report("eliminate_dead_ops")
    out = program.copy()
    out.block.operators = live(program.block, program.roots())
    kept = set(out.operators)
    report.fired = [o.where() for o in program.operators if o not in kept]
    publish(report)
    return out
