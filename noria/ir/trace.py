"""From a Python function to a Program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from noria.core.dims import Dim, parse_dim
from noria.core.errors import ArgumentError, ProgramError
from noria.ir.emit import Builder
from noria.ir.program import Program, Spec, Value


def spec(*shape: int | str | Dim, dtype: Any = "float32") -> Spec:
    """Shape and dtype of an input. A string is a symbolic size: `spec("N", 1, 28, 28)`."""
    return Spec(tuple(parse_dim(d) if isinstance(d, str) else d for d in shape), dtype)


def trace(fn: Callable[..., Any], *, name: str = "", **inputs: Spec) -> Program:
    """Run `fn` once on symbolic values; the Program of what it did.

    fn:     takes the inputs by name and returns a value, or a dict of name -> value
    inputs: `x=noria.spec("N", 784)`; a size given as a string may differ at each run
    A single returned value becomes the output "out". Raises ProgramError if anything but values is
    returned.

        program = noria.trace(lambda x: {"y": noria.ops.relu(x)}, x=noria.spec("N", 3))
    """
    label = name or getattr(fn, "__name__", type(fn).__name__).strip("<>")
    program = Program(label if label.isidentifier() else "program")
    for k, s in inputs.items():
        if not isinstance(s, Spec):
            raise ArgumentError(
                f"input '{k}' must be a spec", got=repr(s), hint=f'{k}=noria.spec("N", 784)'
            )
    with Builder(program) as builder:
        values = {k: builder.input(k, s.shape, s.dtype) for k, s in inputs.items()}
        result = fn(**values)
        program.outputs = _named(result, builder)
    program.block.outputs = list(program.outputs.values())
    return program


def _named(result: Any, builder: Builder) -> dict[str, Value]:
    if not isinstance(result, Mapping):
        result = {"out": result}
    out = {}
    for k, v in result.items():
        if not isinstance(v, Value):
            raise ProgramError(
                f"output '{k}' of the traced function is not a value of the Program",
                expected="a value, or a dict of name -> value",
                got=type(v).__name__,
            )
        out[str(k)] = builder.capture(v)
    return out
