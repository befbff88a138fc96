"""Run a Block with the reference computations: the oracle every engine is checked against.

`xp` is numpy, or jax.numpy (then the same walk, traced by jax.jit, is the XLA lowering).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.dims import Dim, evaluate
from noria.core.errors import EngineError, NoriaError
from noria.core.shapes import solve, solve_all
from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Program, Value

Bindings = dict[str, int]


def bind_attr(value: Any, bindings: Mapping[str, int]) -> Any:
    """An attribute with every symbolic size replaced by its number."""
    if isinstance(value, Dim):
        return evaluate(value, dict(bindings))
    if isinstance(value, tuple):
        return tuple(bind_attr(v, bindings) for v in value)
    return value


def bind_attrs(attrs: Mapping[str, Any], bindings: Mapping[str, int]) -> dict[str, Any]:
    """All attributes of an operator, bound."""
    return {k: bind_attr(v, bindings) for k, v in attrs.items()}


def run_operator(
    operator: Operator,
    inputs: Sequence[Any],
    bindings: Bindings,
    xp: Any = np,
    functions: Mapping[str, Callable[..., Any]] | None = None,
) -> tuple[Any, ...]:
    """Outputs of one operator. Sizes that only its outputs tell are added to `bindings`.

    functions: what to call for each nested block, default the interpreter.
    """
    definition = lookup(operator.type)
    blocks = functions or {n: block_function(b, bindings, xp) for n, b in operator.blocks.items()}
    try:
        attrs = bind_attrs(operator.attrs, bindings)
        outs = definition.run(xp, inputs, attrs, blocks)
    except NoriaError as error:
        raise error.at(operator.where()) from None
    except (ValueError, TypeError, IndexError, ArithmeticError, MemoryError) as error:
        raise EngineError(
            f"{operator.type} failed: {error}",
            where=operator.where(),
            got=", ".join(f"{v.name}: {v}" for v in operator.operands),
        ) from error
    return tuple(
        _conform(o, v, operator, bindings) for o, v in zip(outs, operator.outputs, strict=True)
    )


def _conform(array: Any, value: Value, operator: Operator, bindings: Bindings) -> Any:
    """Give an output its declared dtype; check (and learn) its shape."""
    want = dtypes.to_numpy(value.dtype)
    if not hasattr(array, "dtype") or array.dtype != want:
        array = np.asarray(array, want) if not hasattr(array, "astype") else array.astype(want)
    try:
        bindings.update(solve(value.shape, tuple(array.shape), bindings))
    except NoriaError as error:
        error.where = f"output {value.name} of {operator.where()}"
        raise error from None
    return array


def run_block(
    block: Block, arrays: Mapping[Value, Any], bindings: Bindings, xp: Any = np
) -> dict[Value, Any]:
    """All values of a block, from those of its inputs (and state)."""
    env: dict[Value, Any] = dict(arrays)
    for operator in block.operators:
        inputs = [None if v is None else env[v] for v in operator.inputs]
        env.update(zip(operator.outputs, run_operator(operator, inputs, bindings, xp), strict=True))
    return env


def block_function(
    block: Block, bindings: Bindings, xp: Any = np
) -> Callable[..., tuple[Any, ...]]:
    """A nested block as a Python function of arrays."""

    def call(*arrays: Any) -> tuple[Any, ...]:
        sizes = dict(bindings)
        for value, array in zip(block.inputs, arrays, strict=True):
            sizes.update(solve(value.shape, tuple(array.shape), sizes))
        env = run_block(block, dict(zip(block.inputs, arrays, strict=True)), sizes, xp)
        return tuple(env[v] for v in block.outputs)

    return call


def run_program(
    program: Program, feeds: Mapping[str, Any], state: Mapping[str, Any], xp: Any = np
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(outputs by name, new values of updated state by name). Feeds are taken as arrays."""
    env: dict[Value, Any] = {s.value: state[n] for n, s in program.state.items() if n in state}
    env.update({v: feeds[n] for n, v in program.inputs.items()})
    bindings = solve_all({n: (v.shape, feeds[n].shape) for n, v in program.inputs.items()})
    with np.errstate(all="ignore"):
        env = run_block(program.block, env, bindings, xp)
    outputs = {n: env[v] for n, v in program.outputs.items()}
    return outputs, {n: env[v] for n, v in program.updates.items()}
