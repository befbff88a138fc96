"""A Program as JSON: what `ir/save.py` writes and `ir/decode.py` reads.

    {"format": "noria-program", "version": 1, "name": "mnist", "has_state": true,
     "inputs": [["x", "float32[N, 784]"]],
     "state": [{"name": "fc.weight", "spec": "float32[10, 784]", "trainable": true,
                "init": {"op": "uniform", "attrs": {"low": -0.1, "high": 0.1}}}],
     "operators": [{"op": "matmul", "inputs": ["x", "fc.weight"],
                    "outputs": [["matmul", "float32[N, 10]"]], "attrs": {"transpose_y": true},
                    "source": ["model.py", 12, "forward"]}],
     "outputs": [["loss", "reduce_mean"]], "updates": [["fc.weight", "sgd_update"]]}

Attributes are JSON values, except {"dim": "2*N+1"}, {"float": "inf"}, and arrays: {"array":
"int64[2]", "data": [1, 2]}, or {"array": "float32[1000, 10]", "tensor": "constant/0"} where the
numbers are in the file of tensors. An operator with blocks has "blocks": [["then", {"inputs": ...,
"operators": ..., "outputs": ["y"]}]].
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

from noria.core.dims import Dim
from noria.ir.literals import MAX_INLINE, elements, spec_text
from noria.ir.program import Block, Operator, Program, Spec, State, Value

FORMAT, VERSION = "noria-program", 1

# ---- Program -> data ---------------------------------------------------------------------------


class Encoder:
    """The data of one Program. Large constants are put into `constants`, by tensor name."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.constants: dict[str, np.ndarray] = {}
        self.free = (n for n in map("constant/{}".format, count()) if n not in program.state)

    def data(self, has_state: bool) -> dict[str, Any]:
        """The Program; has_state tells whether its state is saved beside it."""
        program = self.program
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": program.name,
            "has_state": has_state,
            "inputs": [_declared(v) for v in program.block.inputs],
            "state": [self.state(s) for s in program.state.values()],
            "operators": [self.operator(o) for o in program.block.operators],
            "outputs": [[k, v.name] for k, v in program.outputs.items()],
            "updates": [[k, v.name] for k, v in program.updates.items()],
        }

    def state(self, state: State) -> dict[str, Any]:
        init, attrs = state.init
        return {
            "name": state.name,
            "spec": spec_text(state.value),
            "trainable": state.trainable,
            "init": {"op": init, "attrs": self.attrs(attrs)},
        }

    def operator(self, operator: Operator) -> dict[str, Any]:
        out: dict[str, Any] = {
            "op": operator.type,
            "inputs": [None if v is None else v.name for v in operator.inputs],
            "outputs": [_declared(v) for v in operator.outputs],
            "attrs": self.attrs(operator.attrs),
        }
        if operator.blocks:
            out["blocks"] = [[k, self.block(b)] for k, b in operator.blocks.items()]
        if operator.source:
            file = str(operator.source).rpartition(":")[0]  # relative: says nothing of the machine
            out["source"] = [file, operator.source.line, operator.source.function]
        if operator.made_by:
            out["made_by"] = operator.made_by
        if operator.full_precision:
            out["full_precision"] = True
        return out

    def block(self, block: Block) -> dict[str, Any]:
        return {
            "inputs": [_declared(v) for v in block.inputs],
            "operators": [self.operator(o) for o in block.operators],
            "outputs": [v.name for v in block.outputs],
        }

    def attrs(self, attrs: Mapping[str, Any]) -> dict[str, Any]:
        return {k: self.attr(v) for k, v in attrs.items()}

    def attr(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return [self.attr(v) for v in value]
        if isinstance(value, Dim):
            return {"dim": str(value)}
        if isinstance(value, np.ndarray):
            return self.array(value)
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": repr(value)}
        return value

    def array(self, array: np.ndarray) -> dict[str, Any]:
        spec = spec_text(Spec(array.shape, array.dtype))
        if array.size <= MAX_INLINE:
            return {"array": spec, "data": [self.attr(v) for v in elements(array)]}
        name = next(self.free)
        self.constants[name] = array
        return {"array": spec, "tensor": name}


def _declared(value: Value) -> list[str]:
    return [value.name, spec_text(value)]


# ---- data -> text ------------------------------------------------------------------------------


def json_text(data: Any, pad: str = "") -> str:
    """JSON with one declaration or operator a line, nested blocks indented: made to be diffed."""
    inner = pad + " "
    if isinstance(data, dict) and "operators" in data:
        fields = [f"{inner}{json.dumps(k)}: {json_text(v, inner)}" for k, v in data.items()]
        return "{\n" + ",\n".join(fields) + f"\n{pad}}}"
    if isinstance(data, dict) and "blocks" in data:
        rest = json.dumps({k: v for k, v in data.items() if k != "blocks"})
        return f'{rest[:-1]}, "blocks": {json_text(data["blocks"], pad)}}}'
    if isinstance(data, list) and any(isinstance(v, (list, dict)) for v in data):
        return "[\n" + ",\n".join(inner + json_text(v, inner) for v in data) + f"\n{pad}]"
    return json.dumps(data, allow_nan=False)
