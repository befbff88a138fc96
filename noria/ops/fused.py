"""Operators that stand for several others, made by passes: what one kernel does in one go.

`fused_linear` and `fused_conv2d` are a product with what its kernel can do before it stores the
result. `fused` is one loop: its block is read element by element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from noria.core.dtypes import itemsize
from noria.core.errors import ArgumentError, ProgramError, nearest
from noria.ir.nested import need_inputs
from noria.ir.opdef import lookup, op
from noria.ir.program import Block, Operator, Shape, Spec, Value
from noria.ops.common import axes_of, require_equal
from noria.ops.numeric import in_float32
from noria.ops.rules import by_decomposition
from noria.ops.window import share_inside, slide

# ---- one loop ----------------------------------------------------------------------------------

_ARITHMETIC = """add sub mul div pow maximum minimum neg abs sign square exp expm1 log log1p sqrt
rsqrt reciprocal sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf floor ceil round
clip cast bitwise_and bitwise_or bitwise_xor bitwise_not shift_left shift_right"""
_LOGIC = """equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor
logical_not isnan isinf isfinite where"""
_ACTIVATION = "relu leaky_relu elu gelu silu sigmoid hard_sigmoid hard_swish softplus mish"
_UPDATE = "sgd_update momentum_update adam_update adagrad_update rmsprop_update"

ELEMENTWISE = frozenset(f"{_ARITHMETIC} {_LOGIC} {_ACTIVATION}".split())
"""Ops of one output, whose element i depends on element i of the inputs, broadcast as in NumPy."""

UPDATES = frozenset(_UPDATE.split())
"""The same with several outputs, all of one shape."""

REDUCTIONS = frozenset(("reduce_sum", "reduce_mean", "reduce_max"))
"""What may end a loop, along the axes that `reduction_axes` admits."""

SPREAD = frozenset(("fill", "broadcast_to"))
"""What costs nothing inside a loop: the same element everywhere, or along some axes."""

FUSIBLE = ELEMENTWISE | UPDATES | REDUCTIONS | SPREAD


@op(blocks=("body",))
def fused(*xs, body):
    """Several elementwise operators as one loop over one space of indices.

    xs are the inputs of `body`. All its operators are of FUSIBLE; what they make has the shape of
    the space (`iteration_space`), except `fill` and the results of REDUCTIONS, which are outputs
    and used no further. All reductions of one body run along the same axes.
    Raises ProgramError for another body.
    """
    _check_body(xs, body)
    return tuple(Spec(v.shape, v.dtype) for v in body.outputs)


@fused.compute
def _(xp, *xs, body):
    return body(*xs)


@fused.grad
def _(xs, body, gs, wanted, vjp):
    return vjp(body, xs, gs, wanted)


@op(blocks=("body",))
def fused_recurrent(*xs, body):
    """Stacked recurrent layers as one operator, so that their steps may run side by side: step t of
    a layer needs that of the layer below, and its own before it.

    xs are the inputs of `body`: lstm operators over the same rows, and between two of them the
    linear operator that makes the input of the upper one of the output of the lower one.
    """
    need_inputs(body, xs, "block 'body'")
    for operator in body.operators:
        lookup(operator.type).infer(operator.inputs, operator.attrs)
    return tuple(Spec(v.shape, v.dtype) for v in body.outputs)


@fused_recurrent.compute
def _(xp, *xs, body):
    return body(*xs)


@fused_recurrent.grad
def _(xs, body, gs, wanted, vjp):
    return vjp(body, xs, gs, wanted)


def iteration_space(body: Block) -> Shape:
    """The shape all operators of a `fused` body work on."""
    for operator in body.operators:
        if operator.type in REDUCTIONS:
            return operator.operands[0].shape
        if operator.type != "fill":
            return operator.outputs[0].shape
    return body.outputs[0].shape if body.outputs else ()


def reduction_axes(operator: Operator) -> tuple[int, ...] | None:
    """The axes of a reduction that can end a loop: neighbours, or all but axis 1 (the channels).
    None for any other operator, and where no axis is reduced."""
    if operator.type not in REDUCTIONS:
        return None
    ndim = operator.operands[0].ndim
    axes = axes_of(operator.attrs["axis"], ndim)
    neighbours = axes == tuple(range(axes[0], axes[0] + len(axes))) if axes else False
    return axes if neighbours or (axes and axes == (0, *range(2, ndim))) else None


def overwrites_of(operator: Operator) -> list[tuple[int, int]]:
    """(output index, input index) pairs: the output may take the memory of the input.

    What `OpDef.overwrites` says, except for `fused`: there an output of the loop's full shape may
    take any input of that shape with elements of the same size, since element i of the one is
    written after element i of the other is read for the last time.
    """
    if operator.type == "fused_recurrent":
        return _first_gates(operator.blocks["body"])
    if operator.type != "fused":
        return list(lookup(operator.type).overwrites)
    body = operator.blocks["body"]
    space = iteration_space(body)
    makers = {v: inner for inner in body.operators for v in inner.outputs}
    full = [
        o
        for o, v in enumerate(body.outputs)
        if v.shape == space and makers[v].type not in REDUCTIONS
    ]
    return [
        (o, i)
        for o in full
        for i, x in enumerate(body.inputs)
        if x.shape == space and itemsize(x.dtype) == itemsize(body.outputs[o].dtype)
    ]


def _first_gates(body: Block) -> list[tuple[int, int]]:
    """The gates of the lowest layer may take the memory of its input, as those of `lstm`."""
    first = body.operators[0]
    pairs = lookup(first.type).overwrites
    found = [(first.outputs[o], first.operands[i]) for o, i in pairs]
    return [(body.outputs.index(o), body.inputs.index(i)) for o, i in found if o in body.outputs]


def _check_body(xs: Sequence[Spec], body: Block) -> None:
    need_inputs(body, xs, "block 'body'")
    space = iteration_space(body)
    reduced: set[Value] = set()
    kinds: set[tuple[int, ...]] = set()
    for operator in body.operators:
        # Inferred again, so that the equalities of sizes that inference asks for are not lost.
        lookup(operator.type).infer(operator.inputs, operator.attrs)
        if any(v in reduced for v in operator.operands):
            raise _bad_body("the result of a reduction is used inside", got=operator.type)
        if operator.type in REDUCTIONS:
            kinds.add(_axes_that_end(operator, space))
            reduced.update(operator.outputs)
        else:
            _check_member(operator, space)
    if len(kinds) > 1:
        raise _bad_body("its reductions run along different axes", got=str(sorted(kinds)))
    if any(v in body.outputs for v in body.inputs):
        raise _bad_body("it returns an input as it is")


def _check_member(operator: Operator, space: Shape) -> None:
    if operator.type not in FUSIBLE:
        raise _bad_body(f"'{operator.type}' is not element by element")
    if operator.type != "fill" and any(v.shape != space for v in operator.outputs):
        got = ", ".join(Spec.__str__(v) for v in operator.outputs)
        raise _bad_body(f"'{operator.type}' has another shape", expected=str(list(space)), got=got)


def _axes_that_end(operator: Operator, space: Shape) -> tuple[int, ...]:
    axes = reduction_axes(operator)
    if axes is None or operator.operands[0].shape != space:
        raise _bad_body(
            f"this '{operator.type}' cannot end a loop",
            expected=f"a reduction of {list(space)} along axes that are neighbours, or all but 1",
            got=f"axis={operator.attrs['axis']} of {operator.operands[0]}",
        )
    return axes


def _bad_body(what: str, **more: str) -> ProgramError:
    return ProgramError(f"the body of 'fused' is no loop: {what}", **more)


# ---- products ----------------------------------------------------------------------------------

ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "relu": ("relu", {}),
    "relu6": ("clip", {"low": 0.0, "high": 6.0}),
    "gelu": ("gelu", {"approximate": "none"}),
    "gelu_tanh": ("gelu", {"approximate": "tanh"}),
    "sigmoid": ("sigmoid", {}),
    "silu": ("silu", {}),
    "tanh": ("tanh", {}),
}
"""name -> (op, attributes): what `fused_linear` and `fused_conv2d` can end with."""


def _need_activation(name: str | None) -> None:
    if name is not None and name not in ACTIVATIONS:
        raise ArgumentError(
            f"unknown activation {name!r}",
            expected="None or a name",
            hint=nearest(name, ACTIVATIONS),
        )


def _activated(xp: Any, x: Any, name: str | None) -> Any:
    """The activation of an array."""
    if name is None:
        return x
    kind, attrs = ACTIVATIONS[name]
    return lookup(kind).run(xp, [x], attrs)[0]


def _emit_activation(x: Any, name: str | None) -> Any:
    if name is None:
        return x
    kind, attrs = ACTIVATIONS[name]
    return lookup(kind)(x, **attrs)


@op(promote=(0, 1))
def fused_linear(x, weight, bias=None, residual=None, *, activation=None):
    """activation(x @ weight.T + bias + residual).

    x: [..., I], weight: [O, I], bias: [O], residual and out: [..., O].
    activation: a name of ACTIVATIONS, or None. Halves are rounded once, at the end.
    """
    _need_activation(activation)
    out = lookup("linear").infer([x, weight, bias], {})[0]
    _need_residual(residual, out)
    return out


def _need_residual(residual: Spec | None, out: Spec) -> None:
    """Raises unless it is absent or has the shape of the output."""
    if residual is None:
        return
    if residual.ndim != out.ndim:
        raise ArgumentError(
            "the residual has the rank of the output", expected=str(out), got=str(residual)
        )
    for axis, (a, b) in enumerate(zip(residual.shape, out.shape, strict=True)):
        require_equal(a, b, f"axis {axis} of the residual and of the output")


@fused_linear.compute
@in_float32
def _(xp, x, weight, bias, residual, activation):
    out = lookup("linear").run(xp, [x, weight, bias], {})[0]
    return _activated(xp, out if residual is None else out + residual, activation)


@fused_linear.work
def _(x, out):
    return 2.0 * out.size * x.shape[-1]


@fused_linear.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)


@fused_linear.decompose
def _(x, weight, bias=None, residual=None, *, activation=None):
    out = lookup("linear")(x, weight, bias)
    out = out if residual is None else lookup("add")(out, residual)
    return _emit_activation(out, activation)


@op(promote=(0, 1), overwrites=((0, 3),))
def fused_conv2d(
    x,
    weight,
    bias=None,
    residual=None,
    *,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    activation=None,
):
    """activation(conv2d(x, weight, bias) + residual), the residual of the output's shape.

    activation: a name of ACTIVATIONS, or None. Halves are rounded once, at the end.
    """
    _need_activation(activation)
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    out = lookup("conv2d").infer([x, weight, bias], how)[0]
    _need_residual(residual, out)
    return out


@fused_conv2d.compute
@in_float32
def _(xp, x, weight, bias, residual, activation, **how):
    out = lookup("conv2d").run(xp, [x, weight, bias], how)[0]
    return _activated(xp, out if residual is None else out + residual, activation)


@fused_conv2d.work
def _(x, weight, out, stride, padding, dilation):
    windows = slide(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return 2.0 * out.size * prod(weight.shape[1:]) * share_inside(windows, x.shape[2:])


@fused_conv2d.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)


@fused_conv2d.decompose
def _(x, weight, bias=None, residual=None, *, activation=None, **how):
    out = lookup("conv2d")(x, weight, bias, **how)
    out = out if residual is None else lookup("add")(out, residual)
    return _emit_activation(out, activation)
