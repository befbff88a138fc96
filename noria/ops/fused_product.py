"""A matrix product and the loop over what it gives, as one operator: what passes make of products
whose gradients are masked, or whose results go into an activation that backward needs them for too.
"""

from __future__ import annotations

from noria.core.errors import ProgramError
from noria.ir.nested import need_inputs
from noria.ir.opdef import lookup, op
from noria.ir.program import Block, Operator, Spec
from noria.ops.fused import ELEMENTWISE, iteration_space

PRODUCTS = frozenset(("matmul", "linear"))
"""What may stand first: each row of its output from a row of its first input, and a matrix."""


@op(blocks=("body",))
def fused_product(*xs, body):
    """A product, and a loop over its elements.

    xs are the inputs of `body`: a matmul of rows by a matrix, or a linear, and then one operator of
    ELEMENTWISE, or `fused`, that runs over the product's shape and reads it. The block returns all
    that the loop gives, and perhaps the product. Raises ProgramError for another body.
    """
    need_inputs(body, xs, "block 'body'")
    for operator in body.operators:
        lookup(operator.type).infer(operator.inputs, operator.attrs, operator.blocks)
    _check_body(body)
    return tuple(Spec(v.shape, v.dtype) for v in body.outputs)


@fused_product.compute
def _(xp, *xs, body):
    return body(*xs)


@fused_product.grad
def _(xs, body, gs, wanted, vjp):
    return vjp(body, xs, gs, wanted)


def space_of_loop(loop: Operator) -> object:
    """The shape a `fused` or elementwise operator runs over."""
    return iteration_space(loop.blocks["body"]) if loop.type == "fused" else loop.outputs[0].shape


def is_product_of_rows(operator: Operator) -> bool:
    """Whether it multiplies rows by one matrix, so that rows of the result are apart."""
    return (
        operator.type in PRODUCTS
        and operator.operands[0].ndim > 1
        and operator.operands[1].ndim == 2
        and not operator.attrs.get("transpose_x")
    )


def _check_body(body: Block) -> None:
    kinds = ", ".join(operator.type for operator in body.operators)
    if len(body.operators) != 2 or not is_product_of_rows(body.operators[0]):
        raise _bad_body("it is not a product of rows by a matrix and a loop", kinds)
    product, loop = body.operators
    if loop.type != "fused" and loop.type not in ELEMENTWISE:
        raise _bad_body("its second operator is no loop", loop.type)
    if product.outputs[0] not in loop.operands:
        raise _bad_body("its loop does not read the product", kinds)
    if space_of_loop(loop) != product.outputs[0].shape:
        raise _bad_body("its loop has not the shape of the product", str(loop.outputs[0]))
    if set(body.outputs) - {product.outputs[0]} != set(loop.outputs):
        raise _bad_body("it does not return what its loop gives", kinds)


def _bad_body(what: str, got: str) -> ProgramError:
    return ProgramError(f"the body of 'fused_product' is none: {what}", got=got)
