"""Programs written as ONNX models, for the runtimes that read them.

What an op means in ONNX is in the files `export_*.py`, by family. Feeds keep their names and become
the model's inputs, a ragged batch as its packed values and row_splits; symbolic sizes become named
dimensions, and what depends on them is computed in the model from the shapes of its inputs.

Not written: the checks that a Program makes when real sizes are bound (that two symbolic sizes
agree) or while it runs (that an id lies in its table). A runtime does as it likes there.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from noria.convert.messages import schema
from noria.convert.onnx import export_library  # noqa: F401  # registers the emitters
from noria.convert.onnx.export_blocks import mentioned, without_unused, write_operators
from noria.convert.onnx.export_graph import Graph, Shared, element_type, tensor, value_info
from noria.core.dtypes import as_dtype
from noria.core.errors import ArgumentError, ProgramError
from noria.core.files import atomic_write
from noria.ir.program import Program
from noria.ir.save import checked_state
from noria.ir.verify import verify
from noria.passes.for_test import for_test

OPSET = 18
IR_VERSIONS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12, 25: 13, 26: 13}
MAX_INSIDE = (1 << 31) - (1 << 24)  # bytes of arrays in the file itself: a message has 2 GiB
ALIGNMENT = 4096  # of arrays in a file of their own, so that they can be mapped


def save(
    program: Program,
    path: str | os.PathLike[str],
    state: Mapping[str, Any],
    *,
    opset: int = OPSET,
    external: bool | None = None,
) -> None:
    """Writes a Program, in its test form, and its state as an ONNX model.

    state:    state name -> array, for all the Program's state
    opset:    version of ONNX's operators, 18 to 26
    external: arrays in a file of their own beside the model, `NAME.HASH.data`; None: where they do
              not fit into one file of 2 GiB
    Raises ArgumentError for another opset, ProgramError which names all ops that ONNX has nothing
    for, MissingError, DTypeError or ShapeError if `state` is not the Program's, EngineError if the
    disk is full or refuses. Nothing is written then. The model appears whole or not at all.
    """
    model, arrays = _model(program, state, opset)
    target = Path(path)
    size = sum(a.nbytes for a in arrays.values())
    if external or (external is None and size > MAX_INSIDE):
        _save_external(model, arrays, target)
        return
    if size > MAX_INSIDE:
        raise ArgumentError(
            "the arrays do not fit into one ONNX file",
            expected=f"at most {MAX_INSIDE:,} bytes",
            got=f"{size:,}",
            hint="external=True",
        )
    for name, array in arrays.items():
        model.graph.initializer.append(tensor(schema("onnx"), name, array))
    atomic_write(target, model.SerializeToString(deterministic=True))
    _remove_old_data(target, "")


def to_model(program: Program, state: Mapping[str, Any], *, opset: int = OPSET) -> Any:
    """The ModelProto that `save` would write, arrays inside. Raises as `save` does."""
    model, arrays = _model(program, state, opset)
    for name, array in arrays.items():
        model.graph.initializer.append(tensor(schema("onnx"), name, array))
    return model


# ---- the model -----------------------------------------------------------------------------------


def _model(
    program: Program, state: Mapping[str, Any], opset: int
) -> tuple[Any, dict[str, np.ndarray]]:
    """(the model without arrays, arrays by name)."""
    if opset not in IR_VERSIONS:
        known = f"{min(IR_VERSIONS)} to {max(IR_VERSIONS)}"
        raise ArgumentError("no such version of ONNX's operators", expected=known, got=repr(opset))
    verify(program)
    given = checked_state(program, state)
    program = for_test(program)
    shared = Shared(opset, [*program.inputs, *program.state, *program.outputs])
    graph = Graph(shared)
    _declare(graph, program, given)
    write_operators(graph, program.operators, program.outputs.values())
    if shared.missing:
        raise _unwritable(shared.missing)
    model = shared.messages.ModelProto(
        ir_version=IR_VERSIONS[opset], producer_name="noria", producer_version=_version()
    )
    model.opset_import.add(domain="", version=opset)
    return model, _fill(model.graph, graph, program)


def _declare(graph: Graph, program: Program, state: Mapping[str, np.ndarray]) -> None:
    for name, value in program.inputs.items():
        graph.bind(value, name)
    for name, entry in program.state.items():
        graph.shared.initializers[name] = state[name]
        graph.names[entry.value] = name
        graph.bound.add(name)
    for name, value in program.outputs.items():
        if name not in graph.bound:
            graph.preferred.setdefault(value, name)


def _fill(out: Any, graph: Graph, program: Program) -> dict[str, np.ndarray]:
    """Everything into the message but the arrays, which are returned."""
    messages, roots = graph.shared.messages, []
    out.name = program.name or "program"
    out.input.extend(value_info(messages, n, v) for n, v in program.inputs.items())
    for wanted, value in program.outputs.items():
        name = graph.name(value)
        if name != wanted:
            new = wanted if wanted not in graph.bound else graph.shared.names.fresh(wanted)
            name = graph.copy(name, new)
        roots.append(name)
        out.output.append(value_info(messages, name, value))
    nodes = without_unused(graph.nodes, roots)
    out.node.extend(nodes)
    used = set().union(*map(mentioned, nodes)) if nodes else set()
    return {n: a for n, a in graph.shared.initializers.items() if n in used}


def _unwritable(missing: Mapping[str, list[str]]) -> ProgramError:
    lines = [
        f"{places[0]}" + (f" and {len(places) - 1} more" if len(places) > 1 else "")
        for _, places in sorted(missing.items())
    ]
    return ProgramError(
        f"{len(lines)} ops of this Program cannot be written as ONNX: {', '.join(sorted(missing))}",
        got="\n  " + "\n  ".join(lines),
        hint="leave out the outputs that need them, or give the op a decompose rule",
    )


def _version() -> str:
    try:
        return version("noria")
    except PackageNotFoundError:
        return ""


# ---- arrays in a file of their own ---------------------------------------------------------------


def _save_external(model: Any, arrays: Mapping[str, np.ndarray], target: Path) -> None:
    """First the arrays, under a name that tells their content, then the model that names them.

    So the model that stood there before keeps its arrays until the new one takes its place.
    """
    data = target.with_name(f"{target.name}.{_digest(arrays)}.data")
    for name, array, offset in _placed(arrays):
        entry = model.graph.initializer.add(
            name=name, dims=array.shape, data_type=element_type(as_dtype(array.dtype))
        )
        entry.data_location = 1
        places = {"location": data.name, "offset": offset, "length": array.nbytes}
        for key, text in places.items():
            entry.external_data.add(key=key, value=str(text))

    def write(file: BinaryIO) -> None:
        for _, array, offset in _placed(arrays):
            file.seek(offset)
            file.write(_bytes(array))

    atomic_write(data, write)
    atomic_write(target, model.SerializeToString(deterministic=True))
    _remove_old_data(target, data.name)


def _placed(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray, int]]:
    offset = 0
    for name, array in arrays.items():
        yield name, array, offset
        offset += -(-array.nbytes // ALIGNMENT) * ALIGNMENT


def _bytes(array: np.ndarray) -> memoryview:
    """Its bytes, not copied where they lie in order."""
    flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(flat)


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    found = hashlib.sha256()
    for name, array in arrays.items():
        found.update(name.encode())
        found.update(_bytes(array))
    return found.hexdigest()[:16]


def _remove_old_data(target: Path, kept: str) -> None:
    """Arrays of the model that stood here before."""
    for old in target.parent.glob(f"{glob.escape(target.name)}.{'[0-9a-f]' * 16}.data"):
        if old.name != kept:
            old.unlink(missing_ok=True)
