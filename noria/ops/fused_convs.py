"""Convolutions one behind the other as one operator: what passes make of those whose results are
larger than the cache that the next one should find them in."""

from __future__ import annotations

from noria.core.errors import ProgramError
from noria.ir.nested import need_inputs
from noria.ir.opdef import lookup, op
from noria.ir.program import Block, Operator, Spec

CONVOLUTIONS = frozenset(("conv2d", "fused_conv2d"))


@op(blocks=("body",))
def fused_convs(*xs, body):
    """Convolutions, each of which reads what the one before it gives, and nothing else does.

    xs are the inputs of `body`, whose operators are conv2d and fused_conv2d; it returns what the
    last one gives. Raises ProgramError for another body.
    """
    need_inputs(body, xs, "block 'body'")
    for operator in body.operators:
        lookup(operator.type).infer(operator.inputs, operator.attrs)
    _check_body(body)
    return tuple(Spec(v.shape, v.dtype) for v in body.outputs)


@fused_convs.compute
def _(xp, *xs, body):
    return body(*xs)


@fused_convs.grad
def _(xs, body, gs, wanted, vjp):
    return vjp(body, xs, gs, wanted)


def _check_body(body: Block) -> None:
    kinds = ", ".join(operator.type for operator in body.operators)
    if not body.operators or {o.type for o in body.operators} - CONVOLUTIONS:
        raise _bad_body("not all are convolutions", kinds)
    made = [operator.outputs[0] for operator in body.operators]
    if body.outputs != made[-1:]:
        raise _bad_body("it does not return what the last one gives", str(body.outputs))
    for value, following in zip(made, body.operators[1:], strict=False):
        users = [operator for operator in body.operators if value in operator.operands]
        if users != [following] or not _only_as_image(following, value):
            raise _bad_body("one does not read what the one before it gives", following.type)


def _only_as_image(operator: Operator, value: object) -> bool:
    return [v is value for v in operator.operands] == [
        True,
        *[False] * (len(operator.operands) - 1),
    ]


def _bad_body(what: str, got: str) -> ProgramError:
    return ProgramError(f"the body of 'fused_convs' is none: {what}", got=got)
