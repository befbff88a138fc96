"""A ProgramDesc taken apart and checked: plain data for the reader.

What a hostile file may say is refused here, before anything is emitted: blocks that contain
themselves, indices that lead nowhere, sizes no array can have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from noria.core.errors import FormatError

LOD_TENSOR, SELECTED_ROWS, FEEDS, FETCHES = 7, 8, 9, 10
TENSOR_ARRAY = 13
MAX_BLOCKS = 10_000
MAX_NESTING = 32
MAX_RANK = 64
MAX_SIZE = 1 << 48
EMPTY = "@EMPTY@"  # the name of no variable

# attribute type -> field, for those with one number and those with many
_SINGLE = {0: "i", 1: "f", 6: "b", 8: "block_idx", 9: "l", 13: "var_name", 15: "float64"}
_MANY = {
    3: "ints", 4: "floats", 7: "bools", 10: "blocks_idx", 11: "longs", 12: "float64s",
    14: "vars_name",
}  # fmt: skip
_BLOCKS = (8, 10)


@dataclass
class Variable:
    """kind: the number of its type; dims: -1 where a size is open, None where nothing is said."""

    name: str
    kind: int = LOD_TENSOR
    dtype: int = 5
    dims: tuple[int, ...] | None = None
    levels: int = 0
    persistable: bool = False


@dataclass
class Step:
    """An operator: slots of variable names, attributes, and the blocks it runs."""

    type: str
    inputs: dict[str, list[str]]
    outputs: dict[str, list[str]]
    attrs: dict[str, Any]
    blocks: tuple[int, ...] = ()
    where: str = ""


@dataclass
class BlockOf:
    """A block: its variables by name, its operators in order."""

    index: int
    parent: int
    variables: dict[str, Variable] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)


def blocks_of(message: Any, where: str = "") -> list[BlockOf]:
    """The blocks of a ProgramDesc, checked. Raises FormatError for what cannot be a program."""
    if not 0 < len(message.blocks) <= MAX_BLOCKS:
        raise FormatError(
            "a program has blocks",
            where=where,
            expected=f"1 to {MAX_BLOCKS}",
            got=str(len(message.blocks)),
        )
    blocks = [_block(desc, index) for index, desc in enumerate(message.blocks)]
    _check_nesting(blocks)
    return blocks


def _block(desc: Any, index: int) -> BlockOf:
    block = BlockOf(index, desc.parent_idx)
    for var in desc.vars:
        block.variables[var.name] = _variable(var)
    for k, op in enumerate(desc.ops):
        block.steps.append(_step(op, f"block {index}, operator {k}"))
    return block


def _variable(desc: Any) -> Variable:
    kind = desc.type.type if desc.type.HasField("type") else LOD_TENSOR
    out = Variable(desc.name, kind, persistable=desc.persistable)
    if kind == LOD_TENSOR and desc.type.HasField("lod_tensor"):
        tensor, out.levels = desc.type.lod_tensor.tensor, desc.type.lod_tensor.lod_level
    elif kind == SELECTED_ROWS and desc.type.HasField("selected_rows"):
        tensor = desc.type.selected_rows
    elif kind == TENSOR_ARRAY and desc.type.HasField("tensor_array"):
        tensor = desc.type.tensor_array.tensor
    else:
        return out
    out.dtype, out.dims = tensor.data_type, tuple(tensor.dims)
    if len(out.dims) > MAX_RANK or any(not -1 <= d <= MAX_SIZE for d in out.dims):
        raise FormatError(
            f"variable '{desc.name[:100]}' has a shape that cannot be",
            expected=f"at most {MAX_RANK} sizes from -1 to {MAX_SIZE}",
            got=str(list(out.dims[:MAX_RANK])),
        )
    if not 0 <= out.levels <= 16:
        raise FormatError(f"variable '{desc.name[:100]}' has {out.levels} levels of rows")
    return out


def _step(desc: Any, where: str) -> Step:
    attrs, blocks = {}, []
    for attr in desc.attrs:
        attrs[attr.name] = value = _attribute(attr, where)
        if attr.type in _BLOCKS and attr.HasField("type"):
            blocks += [value] if isinstance(value, int) else list(value)
    inputs, outputs = (
        {s.parameter: [n for n in s.arguments if n != EMPTY] for s in slots}
        for slots in (desc.inputs, desc.outputs)
    )
    return Step(desc.type, inputs, outputs, attrs, tuple(blocks), f"{desc.type} ({where})")


def _attribute(attr: Any, where: str) -> Any:
    if attr.type in _SINGLE:
        value = getattr(attr, _SINGLE[attr.type])
    elif attr.type in _MANY:
        value = tuple(getattr(attr, _MANY[attr.type]))
    elif attr.type == 2:
        value = _text(attr.s)
    elif attr.type == 5:
        value = tuple(_text(s) for s in attr.strings)
    else:
        raise FormatError(f"attribute '{attr.name[:100]}' has no known type", where=where)
    # 32-bit floats in the file: 0.1 is meant, not 0.10000000149
    if attr.type == 1:
        return _shortest(value)
    return tuple(map(_shortest, value)) if attr.type == 4 else value


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")


def _shortest(value: float) -> float:
    """The double with the fewest digits that is this float32, as the program that wrote it had."""
    if not math.isfinite(value):
        return value
    return float(str(np.float32(value)))


def _check_nesting(blocks: list[BlockOf]) -> None:
    """Every block runs inside one operator at most, and none inside itself."""
    users: dict[int, int] = {}
    for block in blocks:
        for step in block.steps:
            for inner in step.blocks:
                if not 0 < inner < len(blocks):
                    raise FormatError(f"there is no block {inner} to run", where=step.where)
                if users.setdefault(inner, block.index) != block.index:
                    raise FormatError(f"block {inner} is run from two blocks", where=step.where)
    for index in users:
        depth, at = 0, index
        while at in users:
            at, depth = users[at], depth + 1
            if depth > MAX_NESTING:
                raise FormatError(
                    "blocks contain themselves or are nested too deep",
                    where=f"block {index}",
                    expected=f"at most {MAX_NESTING} levels",
                )
