"""The judge of Caffe2 vectors: a case is a net of one operator."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from noria.convert.caffe2.handlers import caffe2_op
from noria.convert.caffe2.reader import load, net_of_one_operator
from noria.convert.handlers import NeedsConstant
from noria.ir.program import Program, Spec
from noria.runtime.executor import Executor
from noria.testing.folder import Folder, difference

TOLERANCE = 1e-4  # relative and absolute, Caffe2's own
HALF_TOLERANCE = 2e-3  # where a float16 takes part


def judge(vectors: Folder, case: Mapping[str, Any]) -> str | None:
    """What is wrong with noria's answer to a case, None if nothing is."""
    feeds = _feeds(vectors, case)
    if any(a.dtype.kind not in "biuf" for a in feeds.values()):
        return "tensors of strings are not supported"
    wanted = case["outputs"]
    checked = [k for k, d in enumerate(wanted) if _is_number(d)]
    if not checked:
        return "nothing is compared: the outputs are no numbers"
    net = net_of_one_operator(case["op"], case["args"], len(feeds), len(wanted))
    program, constants = _read(net, feeds)
    arguments = {n: a for n, a in feeds.items() if n not in constants and n in program.inputs}
    got = Executor(program, threads=1).run(arguments)
    halves = [a for a in feeds.values() if a.dtype == np.float16]
    for k in checked:
        reason = _wrong(got.get(f"y{k}"), vectors.array(wanted[k]), bool(halves))
        if reason is not None:
            return f"output {k}: {reason}"
    return None


def _feeds(vectors: Folder, case: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inputs by name. A recorded case may go on with what only its reference was given."""
    arrays = [vectors.array(d) for d in case["inputs"] if "a" in d]
    return {f"x{i}": a for i, a in enumerate(arrays[: _taken(case["op"])])}


def _taken(name: str) -> int | None:
    """How many inputs an operator takes at most, None for any number."""
    handler = caffe2_op.find(name)
    if handler is None:
        return None
    kinds = [p.kind for p in inspect.signature(handler).parameters.values()]
    return None if inspect.Parameter.VAR_POSITIONAL in kinds else len(kinds) - 1


def _is_number(described: Mapping[str, Any]) -> bool:
    return "a" in described and np.dtype(described["dtype"]).kind in "biuf"


def _read(net: Any, feeds: Mapping[str, np.ndarray]) -> tuple[Program, set[str]]:
    """The Program, and which inputs had to be given as constants."""
    constants: dict[str, np.ndarray] = {}
    specs = {n: Spec(a.shape, a.dtype) for n, a in feeds.items()}
    while True:
        try:
            program, _ = load(None, net, specs, constants)
            return program, set(constants)
        except NeedsConstant as error:
            new = {n: feeds[n] for n in error.inputs if n not in constants}
            if not new:
                raise
            constants.update(new)


def _wrong(got: np.ndarray | None, want: np.ndarray, half: bool) -> str | None:
    if got is None:
        return "there is none"
    if got.dtype != want.dtype:
        return f"{got.dtype}, expected {want.dtype}"
    limit = HALF_TOLERANCE if half or want.dtype == np.float16 else TOLERANCE
    return difference(got, want, limit, limit)
