"""Programs of one operator, and the reference vectors where they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria.convert.fluid.handlers import CODES, Lod
from noria.convert.fluid.reader import read_program
from noria.convert.messages import schema
from noria.core.dtypes import as_dtype
from noria.runtime.executor import Executor
from noria.testing.vectors_fluid import add_attribute

VECTORS = Path(os.environ.get("NORIA_VECTORS") or Path(__file__).parents[4] / "shared" / "vectors")


@pytest.fixture(scope="session")
def fluid_vectors() -> Path:
    """The folder of Fluid's reference vectors; skips where it is not there."""
    folder = VECTORS / "fluid"
    if not (folder / "cases.jsonl").is_file():
        pytest.skip(f"no reference vectors at {folder} (NORIA_VECTORS names another place)")
    return folder


def message_of(
    type: str, inputs: dict[str, Any], attrs: dict[str, Any], outputs: dict[str, list[str]]
) -> Any:
    """A ProgramDesc of one operator. inputs: slot -> array, Lod, or a list of them."""
    message = schema("fluid").ProgramDesc()
    block = message.blocks.add(idx=0, parent_idx=-1)
    step = block.ops.add(type=type)
    for slot, given in inputs.items():
        many = given if isinstance(given, list) else [given]
        names = [f"{slot}{i}" if len(many) > 1 else slot for i in range(len(many))]
        step.inputs.add(parameter=slot, arguments=names)
        for name, value in zip(names, many, strict=True):
            held = value if isinstance(value, Lod) else Lod(value)
            var = block.vars.add(name=name)
            var.type.type = 7
            var.type.lod_tensor.lod_level = len(held.splits)
            var.type.lod_tensor.tensor.data_type = CODES[as_dtype(held.values.dtype)]
            var.type.lod_tensor.tensor.dims.extend(held.values.shape)
    for slot, names in outputs.items():
        step.outputs.add(parameter=slot, arguments=names)
    for name, value in attrs.items():
        add_attribute(step, name, value, None)
    return message


@pytest.fixture
def run_op() -> Callable[..., dict[str, np.ndarray]]:
    """`run_op("softmax", {"X": x}, {"axis": 1})["Out"]`: an operator converted and run.

    outputs: the slots asked for, or slot -> names; constants: names of inputs fixed beforehand
    """

    def run(
        type: str,
        inputs: dict[str, Any],
        attrs: dict[str, Any] | None = None,
        outputs: Any = ("Out",),
        constants: tuple[str, ...] = (),
    ) -> dict[str, np.ndarray]:
        slots = outputs if isinstance(outputs, dict) else {s: [s] for s in outputs}
        message = message_of(type, inputs, attrs or {}, slots)
        fixed = {n: inputs[n] for n in constants}
        wanted = [n for names in slots.values() for n in names]
        program = read_program(message, constants=fixed, outputs=wanted)
        return Executor(program, threads=1).run(_feeds(inputs, program.inputs))

    return run


def _feeds(inputs: dict[str, Any], wanted: Any) -> dict[str, np.ndarray]:
    out = {}
    for slot, given in inputs.items():
        many = given if isinstance(given, list) else [given]
        for i, value in enumerate(many):
            name = f"{slot}{i}" if len(many) > 1 else slot
            held = value if isinstance(value, Lod) else Lod(value)
            out[name] = held.values
            for level, splits in enumerate(held.splits):
                out[f"{name}.row_splits" + (f".{level}" if level else "")] = splits
    return {n: out[n] for n in wanted}
