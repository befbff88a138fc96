"""NORIA_VALIDATE=1: every fast kernel beside the reference, stopping at the first difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core import dtypes
from noria.core.errors import EngineError
from noria.ir.interpret import run_operator
from noria.ir.program import Operator, Value, walk
from noria.ops.bitwise import pack_bits
from noria.ops.fused_norm import batch_norm_relu
from noria.ops.precision import STEPWISE
from noria.runtime.plan import REORDER

# Differences allowed, relative to the largest magnitude in the output: sums are in another order.
# Where large inputs cancel to a small output, to a thousandth of the largest input.
TOLERANCE = {"float64": 1e-9, "float32": 2e-4, "float16": 2e-2, "bfloat16": 5e-2}


def check_step(
    op: Operator, kernel: str, inputs: list[Any], outputs: list[np.ndarray], sizes: dict[str, int]
) -> None:
    """Raises EngineError if outputs differ from the reference's on the same inputs."""
    if op.type == REORDER:
        wanted: tuple[Any, ...] = (inputs[0],)
    else:
        with np.errstate(all="ignore"):
            wanted = _with_signs(op, run_operator(op, inputs, dict(sizes)), outputs)
    floor = 1e-3 * max((_largest(a) for a in inputs if a is not None), default=0.0)
    for v, got, want in zip(op.outputs, outputs, wanted, strict=True):
        problem = difference(got, np.asarray(want), v.dtype, floor, rounding_of(op, v))
        if problem:
            raise EngineError(
                f"kernel {kernel} differs from the reference in '{v.name}'",
                where=op.where(),
                expected=f"{v.dtype}{list(got.shape)} as the reference computes it",
                got=problem,
                hint="NORIA_KERNELS=reference runs without fast kernels; please report this",
            )


def _with_signs(op: Operator, wanted: Sequence[Any], got: list[np.ndarray]) -> tuple[Any, ...]:
    """The bits of a mask are the signs of what the kernel itself gives: where a sum is nearly 0,
    its rounding decides."""
    if op.type != batch_norm_relu.name or not op.attrs["mask"]:
        return tuple(wanted)
    with np.errstate(invalid="ignore"):
        bits = pack_bits(got[0] > 0, axis=op.attrs["axis"])
    return (*wanted[:-1], bits)


def rounding_of(op: Operator, output: Value) -> str:
    """The dtype whose tolerance an output has: of a loop with halves inside, theirs, and so where
    steps round what the next ones take. A loop need not round what it does not store."""
    inside = [v for block in op.blocks.values() for o in walk(block) for v in o.outputs]
    beside = op.outputs if op.type in STEPWISE else (output,)
    floats = [v.dtype for v in (*beside, *inside) if v.dtype in TOLERANCE]
    return max(floats, key=TOLERANCE.__getitem__, default=output.dtype)


def _largest(a: np.ndarray) -> float:
    """The largest finite magnitude of a float array, 0 for others."""
    if not dtypes.is_float(dtypes.as_dtype(a.dtype)) or not a.size:
        return 0.0
    wide = a.astype(np.float64)
    return float(np.abs(np.where(np.isfinite(wide), wide, 0)).max())


def difference(
    got: np.ndarray, want: np.ndarray, dtype: str, floor: float = 0.0, rounding: str = ""
) -> str | None:
    """What is wrong with `got`, None if nothing.

    floor: the least scale of a difference; rounding: the dtype whose tolerance counts
    """
    if not dtypes.is_float(dtype):
        bad = np.flatnonzero(got.reshape(-1) != want.reshape(-1))
        return f"{bad.size} of {got.size} elements differ" if bad.size else None
    a, b = got.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    same = finite | (np.isnan(a) & np.isnan(b)) | (a == b)
    if not same.all():
        return f"{int((~same).sum())} of {got.size} elements differ in being finite"
    if not finite.any():
        return None
    scale = max(float(np.abs(b[finite]).max()), floor, 1e-30)
    error = float(np.abs(a[finite] - b[finite]).max()) / scale
    return (
        f"largest error {error:.3g} of the largest value"
        if error > TOLERANCE[rounding or dtype]
        else None
    )
