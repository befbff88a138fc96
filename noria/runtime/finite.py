"""NORIA_CHECK_FINITE: the first step of a run that gives NaN or infinity is found and told.

Behind each kernel comes a row that reads what it wrote. While numbers
are checked, nothing is computed in the memory of something else, state included: so the inputs of
the operator at fault are still there to be looked at, and no update of the step is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.errors import NonFiniteError
from noria.ir.interpret import run_operator
from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch
from noria.kernels.registry import Array
from noria.runtime.buffers import Item

CHECK = "check finite"  # name of the rows

# dtype -> (integer of its size, bits of infinity, all bits but the sign)
_BITS = {
    "float64": ("int64", 0x7FF << 52, (1 << 63) - 1),
    "float32": ("int32", 0x7F80_0000, 0x7FFF_FFFF),
    "float16": ("int16", 0x7C00, 0x7FFF),
    "bfloat16": ("int16", 0x7F80, 0x7FFF),
}
_SOURCE = """
def check(args):
    x, n = load_int64(args, 0), load_int64(args, 1)
    team, me = team_size(), thread_id()
    bad = int64(0)
    for i in range(n * me // team, n * (me + 1) // team):
        bad += int64((int64(load_INTEGER(x, i)) & int64(MASK)) RELATION int64(INFINITY))
    if bad > 0:
        return 1
    return 0
"""


def check_calls(mode: str, address: int, array: Array, threads: int) -> list[Call]:
    """Rows that fail where an array (without gaps) holds NaN, or with mode "all" infinity."""
    if array.dtype not in _BITS or not array.size:
        return []
    integer, infinity, mask = _BITS[array.dtype]
    text = _SOURCE.replace("INTEGER", integer).replace("MASK", str(mask))
    text = text.replace("RELATION", ">=" if mode == "all" else ">")
    text = text.replace("INFINITY", str(infinity))
    size = {"bytes": array.nbytes, "ops": 2 * array.size}
    return [launch(CHECK, text, "check", [address, array.size], threads=threads, **size)]


def is_checked(item: Item, last: Mapping[Value, int]) -> bool:
    """Copies and views hold what was checked before; constants are what the user wrote."""
    computes = item.pack is None and not item.reorders and not item.step.view
    return computes and bool(item.step.op.operands) and any(v in last for v in item.outputs)


def bad_of(mode: str, array: Any) -> np.ndarray | None:
    """Which elements are NaN (or with mode "all" infinite); None if none is."""
    numbers = np.asarray(array)
    if not dtypes.is_float(dtypes.as_dtype(numbers.dtype)):
        return None
    bad = ~np.isfinite(numbers) if mode == "all" else np.isnan(numbers)
    return bad if bad.any() else None


def examine(
    mode: str,
    item: Item,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    sizes: Mapping[str, int],
) -> None:
    """Raises NonFiniteError if an output of an item is not finite."""
    op, kernel = item.step.op, item.kernel.name if item.kernel is not None else "reference"
    found = _first_bad(mode, op.outputs, outputs)
    if found is None:
        return
    value, array, bad = found
    inner = _inside(mode, op, inputs, sizes) if "body" in op.blocks else None
    if inner is not None:
        part, ins, (value, array, bad) = inner
        raise _error(mode, part, ins, value, array, bad, f"inside {op.where()}", kernel)
    if kernel != "reference" and not op.blocks and _reference_is_finite(mode, op, inputs, sizes):
        kernel += ", where the reference gives finite numbers"
    raise _error(mode, op, inputs, value, array, bad, "", kernel)


Found = tuple[Value, np.ndarray, np.ndarray]


def _first_bad(mode: str, values: Sequence[Value], arrays: Sequence[Any]) -> Found | None:
    for value, array in zip(values, arrays, strict=True):
        bad = None if array is None else bad_of(mode, array)
        if bad is not None:
            return value, np.asarray(array), bad
    return None


def _inside(
    mode: str, op: Operator, inputs: Sequence[Any], sizes: Mapping[str, int]
) -> tuple[Operator, list[Any], Found] | None:
    """The operator of a fused body that gives the first bad number, by the reference; its inputs.

    None if the reference finds none.
    """
    body = op.blocks["body"]
    env: dict[Value, Any] = dict(zip(body.inputs, inputs, strict=False))
    known = dict(sizes)
    for part in body.operators:
        if any(v not in env for v in part.operands):
            return None  # the body of a loop has other inputs
        ins = [None if v is None else env[v] for v in part.inputs]
        with np.errstate(all="ignore"):
            outs = run_operator(part, ins, known)
        env.update(zip(part.outputs, outs, strict=True))
        found = _first_bad(mode, part.outputs, outs) if part.operands else None
        if found is not None:
            return part, ins, found
    return None


def _reference_is_finite(
    mode: str, op: Operator, inputs: Sequence[Any], sizes: Mapping[str, int]
) -> bool:
    with np.errstate(all="ignore"):
        outs = run_operator(op, inputs, dict(sizes))
    return _first_bad(mode, op.outputs, outs) is None


# ---- what is told --------------------------------------------------------------------------------


def _error(
    mode: str,
    op: Operator,
    inputs: Sequence[Any],
    value: Value,
    array: np.ndarray,
    bad: np.ndarray,
    around: str,
    kernel: str,
) -> NonFiniteError:
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    number = float(array[index])
    kind = "NaN" if np.isnan(number) else "infinity"
    first = f"the first at {list(index)}: {number}"
    lines = [f"{value.name}: {_spec(array)}, {_counted(array)}; {first}"]
    named = [(v, a) for v, a in zip(op.inputs, inputs, strict=False) if v is not None]
    lines += [f"from {v.name}: {_spec(a)}, {_statistics(a)}" for v, a in named]
    error = NonFiniteError(
        f"{op.type} gave {kind}",
        where=", ".join(t for t in (op.where(), around, f"on {kernel}") if t),
        expected="finite numbers" if mode == "all" else "no NaN",
        got="\n           ".join(lines),
        hint=_hint(op, [a for _, a in named]),
    )
    error.op, error.value, error.index = op, value.name, index
    error.number, error.count = number, int(bad.sum())
    error.finite = {v.name: bad_of("all", a) is None for v, a in named}
    return error


def _spec(array: Any) -> str:
    numbers = np.asarray(array)
    return f"{numbers.dtype}{list(numbers.shape)}"


def _counted(array: np.ndarray) -> str:
    """`3 NaN, 1 infinite of 20`."""
    nans, infinite = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    counts = [f"{n} {kind}" for n, kind in ((nans, "NaN"), (infinite, "infinite")) if n]
    return f"{', '.join(counts)} of {array.size}"


def _statistics(array: Any) -> str:
    """Whether it is finite, and its smallest and largest number."""
    numbers = np.asarray(array)
    if not numbers.size:
        return "empty"
    if not dtypes.is_float(dtypes.as_dtype(numbers.dtype)):
        return f"from {numbers.min()} to {numbers.max()}"
    wide = numbers.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    span = f"from {finite.min():.6g} to {finite.max():.6g}" if finite.size else ""
    if finite.size == wide.size:
        return f"finite, {span}"
    return ", ".join(t for t in (f"not finite ({_counted(wide)})", span) if t)


_Test = Callable[[Sequence[np.ndarray]], bool]
_HINTS: Mapping[str, tuple[int, _Test, str]] = {
    "div": (2, lambda a: bool((a[1] == 0).any()), "the divisor holds 0: add an epsilon to it"),
    "reciprocal": (1, lambda a: bool((a[0] == 0).any()), "it holds 0: add an epsilon to it"),
    "rsqrt": (1, lambda a: bool((a[0] <= 0).any()), "it holds 0 or less: add an epsilon to it"),
    "sqrt": (1, lambda a: bool((a[0] < 0).any()), "it holds negative numbers"),
    "log": (1, lambda a: bool((a[0] <= 0).any()), "it holds 0 or less: clip it, or log_softmax"),
    "exp": (1, lambda a: bool((a[0] > 88).any()), "too large for exp: subtract the maximum"),
    "pow": (2, lambda a: bool((a[0] < 0).any()), "the base holds negative numbers"),
}


def _hint(op: Operator, inputs: Sequence[Any]) -> str:
    """What the inputs let one guess."""
    if any(bad_of("all", a) is not None for a in inputs):
        return "look where its inputs that are not finite come from: feeds, state, infinities"
    found = _HINTS.get(op.type)
    if found is not None and len(inputs) >= found[0] and found[1]([np.asarray(a) for a in inputs]):
        return found[2]
    return "a smaller learning rate, clipping, or scaled input"
