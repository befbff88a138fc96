"""The judge of Fluid vectors: a case is a Program of one operator."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noria.convert.fluid.handlers import CODES, Lod
from noria.convert.fluid.reader import read_program
from noria.convert.handlers import NeedsConstant
from noria.convert.messages import schema
from noria.core.dtypes import as_dtype, is_float
from noria.core.errors import ProgramError
from noria.grad import append_backward
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.sparse import SparseGrad
from noria.runtime.executor import Executor
from noria.testing.folder import Folder, difference, same_moments

RTOL = 1e-5  # Fluid's own, beside each case's atol
RANDOM = {
    "uniform_random", "uniform_random_batch_size_like", "gaussian_random",
    "gaussian_random_batch_size_like", "truncated_gaussian_random", "randint", "sampling_id",
    "randperm", "bernoulli", "random_crop",
}  # fmt: skip

# element types as the tests write them
ELEMENTS = {
    "VarType.BOOL": 0, "VarType.INT16": 1, "VarType.INT32": 2, "VarType.INT64": 3,
    "VarType.FP16": 4, "VarType.FP32": 5, "VarType.FP64": 6, "VarType.UINT8": 20,
    "VarType.INT8": 21,
}  # fmt: skip

_SINGLE = {0: "i", 1: "f", 2: "s", 6: "b", 8: "block_idx", 9: "l", 15: "float64"}
_MANY = {3: "ints", 4: "floats", 5: "strings", 7: "bools", 10: "blocks_idx", 11: "longs"}


def judge(vectors: Folder, case: Mapping[str, Any]) -> str | None:
    """What is wrong with noria's answer to a case, None if nothing is."""
    feeds = _feeds(vectors, case["inputs"])
    if case["kind"] == "grad":
        return _judge_grad(vectors, case, feeds)
    return _judge_output(vectors, case, feeds)


# ---- the program -------------------------------------------------------------------------------


def _pairs(slots: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """slot -> [(variable, description of its array)]."""
    out = {}
    for slot, given in slots.items():
        many = isinstance(given, list)
        out[slot] = [(n, a) for n, a in given] if many else [(slot, given)]
    return out


def _feeds(vectors: Folder, slots: Mapping[str, Any]) -> dict[str, Lod]:
    """Variable -> array and splits."""
    feeds = {}
    for pairs in _pairs(slots).values():
        for name, described in pairs:
            splits = tuple(
                np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
                for lengths in described.get("lod", ())
            )
            feeds[name] = Lod(vectors.array(described), splits)
    return feeds


def message_of(
    vectors: Folder, case: Mapping[str, Any], feeds: Mapping[str, Lod], outs: Mapping[str, Any]
) -> Any:
    """The ProgramDesc of one operator. outs: slot -> names of variables."""
    message = schema("fluid").ProgramDesc()
    block = message.blocks.add(idx=0, parent_idx=-1)
    step = block.ops.add(type=case["op"])
    for slot, pairs in _pairs(case["inputs"]).items():
        step.inputs.add(parameter=slot, arguments=[n for n, _ in pairs])
    for slot, names in outs.items():
        step.outputs.add(parameter=slot, arguments=names)
    types = dict(vectors.signatures.get(case["op"], {}).get("attrs", ()))
    for name, value in case["attrs"].items():
        value = ELEMENTS.get(value, value) if isinstance(value, str) else value
        add_attribute(step, name, value, types.get(name))
    for name, held in feeds.items():
        var = block.vars.add(name=name)
        var.type.type = 7
        var.type.lod_tensor.lod_level = len(held.splits)
        var.type.lod_tensor.tensor.data_type = CODES[as_dtype(held.values.dtype)]
        var.type.lod_tensor.tensor.dims.extend(held.values.shape)
    return message


def add_attribute(step: Any, name: str, value: Any, kind: int | None) -> None:
    """Adds an attribute to an OpDesc. kind: its type in Fluid, where known."""
    kind = _kind_of(value) if kind is None or not _fits(value, kind) else kind
    attr = step.attrs.add(name=name, type=kind)
    if kind in _MANY:
        getattr(attr, _MANY[kind]).extend(_exact(v, kind) for v in value)
    else:
        setattr(attr, _SINGLE[kind], _exact(value, kind))


def _exact(value: Any, kind: int) -> Any:
    """As the message wants it: bytes for a text, an integer where a flag stands for one."""
    if kind in (2, 5):
        return value.encode()
    return int(value) if kind in (0, 3, 8, 9, 11) else value


def _fits(value: Any, kind: int) -> bool:
    many = isinstance(value, (list, tuple))
    if many != (kind in _MANY):
        return False
    kinds = {_kind_of(v) for v in (value if many else [value])}
    if kind in (0, 3, 9, 11):
        return kinds <= {0, 6} or (kind in (9, 11) and kinds <= {0, 6, 9})
    return kinds <= {1: {0, 1, 9}, 4: {0, 1, 9}, 2: {2}, 5: {2}, 6: {6}, 7: {6}}.get(kind, {0})


def _kind_of(value: Any) -> int:
    if isinstance(value, (list, tuple)):
        kinds = {_kind_of(v) for v in value}
        if kinds <= {0, 6}:
            return 7 if kinds == {6} else 3
        return {frozenset({9}): 11, frozenset({2}): 5}.get(frozenset(kinds - {0, 6}), 4)
    if isinstance(value, bool):
        return 6
    if isinstance(value, int):
        return 0 if -(1 << 31) <= value < 1 << 31 else 9
    return 1 if isinstance(value, float) else 2


def _read(
    message: Any, feeds: Mapping[str, Lod], wanted: Sequence[str]
) -> tuple[Program, set[str]]:
    """The Program, and which inputs had to be given as constants."""
    constants: dict[str, Lod] = {}
    while True:
        try:
            program = read_program(message, constants=constants, outputs=wanted)
            return program, set(constants)
        except NeedsConstant as error:
            asked = [n.split(".row_splits")[0] for n in (*error.inputs, error.name)]
            new = [n for n in asked if n in feeds and n not in constants]
            if not new:
                raise
            constants.update({n: feeds[n] for n in new})


def _arguments(feeds: Mapping[str, Lod], program: Program) -> dict[str, np.ndarray]:
    """The feeds of the Program's inputs."""
    out = {}
    for name, held in feeds.items():
        out[name] = held.values
        for level, splits in enumerate(held.splits):
            out[f"{name}.row_splits" + (f".{level}" if level else "")] = splits
    return {n: out[n] for n in program.inputs}


# ---- forward -----------------------------------------------------------------------------------


def _judge_output(vectors: Folder, case: Mapping[str, Any], feeds: Mapping[str, Lod]) -> str | None:
    expect = _pairs(case["expect"])
    skipped = set(case.get("no_check_set") or ())
    outs = {slot: [n for n, _ in pairs] for slot, pairs in expect.items()}
    checked = [
        (n, d) for slot, pairs in expect.items() for n, d in pairs if not skipped & {slot, n}
    ]
    if not checked:  # it must run at least
        checked = [(n, {}) for pairs in expect.values() for n, _ in pairs]
    message = message_of(vectors, case, feeds, outs)
    program, _ = _read(message, feeds, [n for n, _ in checked])
    got = Executor(program, threads=1).run(_arguments(feeds, program))
    for name, described in checked:
        reason = _wrong_rows(got, name, described.get("lod"))
        if reason is None:
            reason = _wrong_numbers(vectors, case, got[name], name, described)
        if reason is not None:
            return f"{name}: {reason}"
    return None


def _wrong_numbers(
    vectors: Folder, case: Mapping[str, Any], got: np.ndarray, name: str, described: Any
) -> str | None:
    """Compared with what Paddle computed, else with what its test expects of it."""
    if not described:
        return None
    actual = (case.get("paddle_actual") or {}).get(name)
    wanted = [vectors.array(d) for d in (actual, described) if d is not None]
    if got.size == 0 and any(want.size == 0 for want in wanted):
        return None  # what was recorded of a tensor without elements has lost its shape
    if case["op"] in RANDOM:
        return same_moments(got, wanted[0])
    if got.size == 0 and all(w.shape == (0,) for w in wanted):
        return None  # what holds nothing came out of Paddle without its other axes
    reasons = []
    for want in wanted:
        if got.size == want.size and _squeezed(got.shape) == _squeezed(wanted[0].shape):
            want = want.reshape(got.shape)
        reason = difference(got, want, case["atol"], RTOL)
        if reason is None and got.shape == wanted[0].shape:
            return None
        reasons.append(reason or f"shape {list(got.shape)}, expected {list(wanted[0].shape)}")
    return reasons[0]


def _squeezed(shape: Sequence[int]) -> list[int]:
    return [d for d in shape if d != 1]


def _wrong_rows(got: Mapping[str, np.ndarray], name: str, lod: Any) -> str | None:
    if not lod:
        return None
    for level, lengths in enumerate(lod):
        label = f"{name}.row_splits" + (f".{level}" if level else "")
        if label not in got:
            return f"no rows at level {level}"
        if np.diff(got[label]).tolist() != list(lengths):
            return f"rows {np.diff(got[label]).tolist()[:20]}, expected {list(lengths)[:20]}"
    return None


# ---- gradients ---------------------------------------------------------------------------------


def _judge_grad(vectors: Folder, case: Mapping[str, Any], feeds: Mapping[str, Lod]) -> str | None:
    outs = _slots_of(vectors, case)
    message = message_of(vectors, case, feeds, outs)
    program, constant = _read(message, feeds, case["of"])
    fixed = sorted(constant & set(case["wrt"]))
    if fixed:
        return f"{', '.join(fixed)} had to be given as constants"
    with Builder(program):
        means = [o.reduce_mean(program.outputs[n]) for n in case["of"] if _floats(program, n)]
        loss = means[0]
        for mean in means[1:]:
            loss = o.add(loss, o.cast(mean, dtype=loss.dtype))
        # the recorded gradients are those of the mean of the means
        program.outputs = {"loss": o.mul(loss, 1.0 / len(means))}
    program.block.outputs = list(program.outputs.values())
    got = _gradients(program, case["wrt"], feeds)
    for name, described in zip(case["wrt"], case["paddle_grads"], strict=True):
        want = vectors.array(described)
        mine = got.get(name, np.zeros(want.shape, want.dtype))
        reason = _wrong_gradient(mine, want, case["max_relative_error"])
        if reason is not None:
            return f"gradient of {name}: {reason}"
    return None


def _gradients(
    program: Program, wrt: Sequence[str], feeds: Mapping[str, Lod]
) -> dict[str, np.ndarray]:
    """The gradients of `loss`; nothing for what it does not depend on."""
    try:
        backward, grads = append_backward(program, "loss", wrt)
    except ProgramError as error:
        if not error.what.startswith("nothing that can be learned"):
            raise
        return {}
    with Builder(backward):
        dense = {n: g.dense() if isinstance(g, SparseGrad) else g for n, g in grads.items()}
    backward.outputs = {f"grad {n}": g for n, g in dense.items()}
    backward.block.outputs = list(backward.outputs.values())
    got = Executor(backward, threads=1).run(_arguments(feeds, backward))
    return {n.removeprefix("grad "): a for n, a in got.items()}


def _floats(program: Program, name: str) -> bool:
    return is_float(program.outputs[name].dtype)


def _slots_of(vectors: Folder, case: Mapping[str, Any]) -> dict[str, list[str]]:
    """Slot -> variables of the outputs a loss is made of."""
    known = vectors.signatures.get(case["op"], {}).get("outs", ())
    slots = {name for name, *_ in known}
    named = [n for n in case["of"] if n in slots or not slots]
    others = [n for n in case["of"] if n not in named]
    out = {n: [n] for n in named}
    if others:
        many = [name for name, duplicable, *_ in known if duplicable] or sorted(slots)
        out[many[0]] = _all_of(others)
    return out


def _all_of(names: Sequence[str]) -> list[str]:
    """All variables of a slot, of which a case may name some: out1 is the second of out0, out1."""
    parts = [re.fullmatch(r"(.*?)(\d+)", n) for n in names]
    stems = {p.group(1) for p in parts if p}
    if not all(parts) or len(stems) > 1:
        return list(names)
    last = max(int(p.group(2)) for p in parts if p)
    return [f"{stem}{k}" for stem in stems for k in range(last + 1)]


def _wrong_gradient(got: np.ndarray, want: np.ndarray, limit: float) -> str | None:
    """Fluid's rule: relative to the gradient, absolute where that is nearly 0."""
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, expected {list(want.shape)}"
    if got.size == 0:
        return None
    a, b = want.astype(np.float64), got.astype(np.float64)
    scale = np.abs(a)
    scale[scale < 1e-3] = 1.0
    apart = np.abs(a - b) / scale
    worst = np.unravel_index(np.argmax(np.where(np.isnan(apart), np.inf, apart)), apart.shape)
    if apart[worst] <= limit:
        return None
    where = [int(i) for i in worst]
    return f"at {where}: {b[worst]:.8g}, expected {a[worst]:.8g} (error {limit:g} allowed)"
