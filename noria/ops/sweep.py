"""Many loops in one call: what passes make of the updates of an optimiser."""

from __future__ import annotations

from collections import Counter

from noria.core.errors import ProgramError
from noria.ir.nested import need_inputs
from noria.ir.opdef import lookup, op
from noria.ir.program import Block, Operator, Spec, Value
from noria.ops.fused import ELEMENTWISE, REDUCTIONS, UPDATES, overwrites_of

LOOPS = ELEMENTWISE | UPDATES | {"fused"}


@op(blocks=("body",))
def sweep(*xs, body):
    """The operators of `body`, which do not depend on each other, as one call.

    xs are the inputs of `body`. Its operators are of ELEMENTWISE, UPDATES or `fused` without a
    reduction, each with a loop of its own. Raises ProgramError for another body.
    """
    need_inputs(body, xs, "block 'body'")
    for operator in body.operators:
        _check_member(operator, set(body.inputs))
    if any(v in body.inputs for v in body.outputs):
        raise ProgramError("the body of 'sweep' returns an input as it is")
    return tuple(Spec(v.shape, v.dtype) for v in body.outputs)


@sweep.compute
def _(xp, *xs, body):
    return body(*xs)


@sweep.grad
def _(xs, body, gs, wanted, vjp):
    return vjp(body, xs, gs, wanted)


def _check_member(operator: Operator, given: set[Value]) -> None:
    lookup(operator.type).infer(operator.inputs, operator.attrs, operator.blocks)
    if not is_loop(operator):
        raise ProgramError("the body of 'sweep' has what is no loop", got=operator.type)
    if not given.issuperset(operator.operands):
        raise ProgramError(
            "the operators of a 'sweep' depend on each other",
            got=f"{operator.type} takes what another one makes",
        )


def is_loop(operator: Operator) -> bool:
    """Can the operator be part of a `sweep`?"""
    if operator.type == "fused":
        return all(inner.type not in REDUCTIONS for inner in operator.blocks["body"].operators)
    return operator.type in LOOPS


def overwrites_of_sweep(operator: Operator) -> list[tuple[int, int]]:
    """(output index, input index) pairs: the output may take the memory of the input.

    What each of its operators may do, but for inputs that several of them read: one may be done
    before another begins.
    """
    body: Block = operator.blocks["body"]
    readers = Counter(v for inner in body.operators for v in set(inner.operands))
    inputs = {v: i for i, v in enumerate(body.inputs)}
    outputs = {v: o for o, v in enumerate(body.outputs)}
    return [
        (outputs[inner.outputs[o]], inputs[source])
        for inner in body.operators
        for o, i in overwrites_of(inner)
        if (source := inner.inputs[i]) is not None
        and readers[source] == 1
        and inner.outputs[o] in outputs
    ]
