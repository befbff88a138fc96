"""Reverse-mode differentiation, Program -> Program.

Gradient operators are ordinary operators, appended after the forward ones; so gradients of
gradients, passes and the planner need nothing special. Only operators on a path from a wanted
value to a target are differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.core.dtypes import is_float
from noria.core.errors import ArgumentError, NoriaError, ProgramError, nearest
from noria.ir.emit import Builder, building, inline
from noria.ir.opdef import OpDef, lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Block, Operator, Program, Value, needed
from noria.ir.sparse import SparseGrad, add_sparse

Grad = Value | SparseGrad


def gradients(
    targets: Value | Sequence[Value],
    wrt: Sequence[Value],
    seeds: Sequence[Value | None] | None = None,
    *,
    sparse: bool = False,
    since: int = 0,
) -> list[Any]:
    """Emit the gradients of sum(target * seed) with respect to each of `wrt`.

    targets: float values of the block being built; seeds default to ones.
    sparse:  leave gradients of tables as `SparseGrad` pairs; otherwise they are made dense.
    since:  operators of the block before this position count as constants.
    Returns one Value (or SparseGrad) per wanted value, None where no path leads to it.
    Raises ProgramError if an op on the path has no gradient.
    """
    builder = building()
    goals = [targets] if isinstance(targets, Value) else list(targets)
    pending: dict[Value, list[Grad]] = {}
    for target, seed in zip(goals, seeds or [None] * len(goals), strict=True):
        if not is_float(target.dtype):
            raise ArgumentError(
                f"only float values have gradients, '{target.name}' is {target.dtype}"
            )
        if seeds is not None and seed is None:
            continue
        if seed is None:
            with builder.on_behalf_of(Operator("grad", (), ()), "grad"):
                seed = o.fill(shape=target.shape, value=1.0, dtype=target.dtype)
        pending.setdefault(target, []).append(seed)
    found: dict[Value, Grad] = {}
    wanted = dict.fromkeys(wrt)  # ordered, so that the same Program comes out every time
    path, reached = _path(builder.block.operators[since:], goals, wrt)
    for operator in reversed(path):
        with builder.on_behalf_of(operator, "grad"):
            out_grads = []
            for v in operator.outputs:
                g = _total(pending.pop(v, []))
                if g is not None and v in wanted:
                    found[v] = g
                out_grads.append(g)
            if any(g is not None for g in out_grads):
                _propagate(operator, out_grads, pending, reached)
    with builder.on_behalf_of(Operator("grad", (), ()), "grad"):
        for v in wanted:
            g = _total(pending.get(v, []))
            if g is not None:
                found[v] = g
        return [
            g.dense() if isinstance(g, SparseGrad) and not sparse else g
            for g in (found.get(v) for v in wrt)
        ]


def _path(
    operators: list[Operator], goals: Sequence[Value], wrt: Sequence[Value]
) -> tuple[list[Operator], set[Value]]:
    """(operators that a goal depends on and that depend on a wanted value, values on the way)."""
    reached = set(wrt)
    out = []
    for operator in needed(Block(operators=operators), goals):
        if any(v in reached for v in operator.operands):
            floats = [v for v in operator.outputs if is_float(v.dtype)]
            if floats:
                reached.update(floats)
                out.append(operator)
    return out, reached


def _total(parts: Sequence[Grad]) -> Grad | None:
    """Sum of the gradients that reached one value."""
    if not parts:
        return None
    if all(isinstance(p, SparseGrad) for p in parts):
        return add_sparse([p for p in parts if isinstance(p, SparseGrad)])
    dense = [p.dense() if isinstance(p, SparseGrad) else p for p in parts]
    total = dense[0]
    for p in dense[1:]:
        total = o.add(total, p)
    return total


def _propagate(
    operator: Operator,
    out_grads: Sequence[Grad | None],
    pending: dict[Value, list[Grad]],
    reached: set[Value],
) -> None:
    """Apply the gradient rule of one operator."""
    definition = lookup(operator.type)
    if definition.grad_fn is None:
        raise ProgramError(
            f"op '{operator.type}' has no gradient",
            where=operator.where(),
            hint="use ops.stop_gradient on its input, or define a rule with @op.grad",
        )
    dense = [g.dense() if isinstance(g, SparseGrad) else g for g in out_grads]
    try:
        result = definition.grad_fn(**_rule_arguments(definition, operator, dense, reached))
    except NoriaError as error:
        raise error.at(operator.where()) from None
    for v, g in zip(operator.inputs, _aligned(definition, operator, result), strict=True):
        if v is None or g is None or not is_float(v.dtype):
            continue
        if isinstance(g, Value) and g.dtype != v.dtype:
            g = o.cast(g, dtype=v.dtype)
        pending.setdefault(v, []).append(g)


def _rule_arguments(
    definition: OpDef, operator: Operator, grads: Sequence[Value | None], reached: set[Value]
) -> dict[str, Any]:
    """What the rule asks for by name."""
    fixed = [i for i in definition.inputs if not i.variadic]
    known: dict[str, Any] = dict(operator.attrs)
    known.update(operator.blocks)
    known.update({i.name: v for i, v in zip(fixed, operator.inputs, strict=False)})
    if definition.variadic:
        known[definition.inputs[-1].name] = list(operator.inputs[len(fixed) :])
    known.update(zip(definition.outputs, operator.outputs, strict=False))
    known.update({f"g_{n}": g for n, g in zip(definition.outputs, grads, strict=False)})
    known.update({f"g_{n}": None for n in definition.outputs[len(grads) :]})
    known.update(g=grads[0], gs=tuple(grads), op=operator, vjp=vjp)
    known["wanted"] = tuple(v in reached for v in operator.inputs)
    return {n: known.get(n) for n in definition.grad_params}


def _aligned(definition: OpDef, operator: Operator, result: Any) -> Sequence[Grad | None]:
    """The rule's result as one gradient per input."""
    if isinstance(result, Mapping):
        fixed = [result.get(i.name) for i in definition.inputs if not i.variadic]
        rest = result.get(definition.names[-1]) if definition.variadic else None
        result = [*fixed, *(rest or [None] * (len(operator.inputs) - len(fixed)))]
    if isinstance(result, (tuple, list)):
        if len(result) != len(operator.inputs):
            raise ProgramError(
                f"the gradient rule of '{definition.name}' gave {len(result)} gradients",
                expected=f"{len(operator.inputs)}, one per input",
                where=operator.where(),
            )
        return result
    return [result, *[None] * (len(operator.inputs) - 1)]


def vjp(
    block: Block,
    inputs: Sequence[Value],
    grads: Sequence[Value | None],
    wanted: Sequence[bool] | None = None,
) -> list[Value | None]:
    """Emit a nested block again and its gradients: one per input, None where there is none.

    The forward part is computed anew, so a control-flow gradient keeps nothing but the inputs.
    wanted: for each input whether its gradient is asked for, default all.
    """
    start = len(building().block.operators)
    outs = inline(block, inputs)
    pairs = [
        (v, g) for v, g in zip(outs, grads, strict=True) if g is not None and is_float(v.dtype)
    ]
    asked = wanted or [True] * len(inputs)
    floats = [v for v, w in zip(inputs, asked, strict=True) if w and is_float(v.dtype)]
    if not pairs or not floats:
        return [None] * len(inputs)
    targets, seeds = [v for v, _ in pairs], [g for _, g in pairs]
    got = gradients(targets, floats, seeds, since=start)  # not through how inputs were made
    by_value = dict(zip(floats, got, strict=True))
    return [by_value.pop(v, None) for v in inputs]  # pop: a value given twice counts once


def append_backward(
    program: Program, loss: str = "loss", wrt: Sequence[str] | None = None
) -> tuple[Program, dict[str, Grad]]:
    """A copy of the Program with the gradients of one of its outputs.

    loss: name of a scalar output; wrt: names of state or feeds, default every parameter.
    Returns the new Program and name -> gradient (a Value, or SparseGrad for a table).
    Raises ArgumentError if the loss is not a scalar, ProgramError if nothing leads to it.
    """
    out = program.copy()
    target = out.output(loss)
    if target.shape != ():
        raise ArgumentError(
            f"the loss '{loss}' must be a scalar",
            got=repr(target),
            hint="reduce it first: ops.reduce_mean(loss)",
        )
    sources = {n: s.value for n, s in out.state.items()} | out.inputs
    names = list(out.parameters()) if wrt is None else list(wrt)
    for n in names:
        if n not in sources:
            raise ArgumentError(
                f"cannot differentiate with respect to '{n}'", hint=nearest(n, sources)
            )
    with Builder(out, made_by="grad"):
        got = gradients(target, [sources[n] for n in names], sparse=True)
    found = {n: g for n, g in zip(names, got, strict=True) if g is not None}
    if not found:
        raise ProgramError(
            f"nothing that can be learned leads to '{loss}'",
            expected=f"a path from one of: {', '.join(names) or '(no parameters)'}",
            hint="is the loss computed from the model's parameters, without stop_gradient?",
        )
    return out, found
