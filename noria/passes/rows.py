"""May a batch be cut into slices? Only where each row of the outputs comes from one of the inputs.

The rows of a value are its places along axis 0, where it has the size of the batch: one symbol,
that of axis 0 of every input. Which operators leave rows apart stands in the table below; whatever
is not in it is supposed to mix them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noria.core.dims import symbols_of
from noria.ir.program import Operator, Program, Value, symbols_used
from noria.ops.common import axes_of, axis_of
from noria.ops.precision import POINTWISE

Test = Callable[[Operator, list[bool]], bool]  # of an operator, and which of its inputs have rows


def _always(op: Operator, rows: list[bool]) -> bool:
    return True


def _only(*positions: int) -> Test:
    """Only these inputs have rows: x does, weights do not."""
    return lambda op, rows: all(r == (i in positions) for i, r in enumerate(rows))


def _not_along_rows(name: str) -> Test:
    """The attribute `name`, an axis or axes, does not hold axis 0."""

    def test(op: Operator, rows: list[bool]) -> bool:
        axis = op.attrs[name]
        return axis is not None and 0 not in axes_of(axis, op.operands[0].ndim)

    return test


def _resize(op: Operator, rows: list[bool]) -> bool:
    axes = op.attrs["axes"]
    return axes is None or 0 not in axes_of(axes, op.operands[0].ndim)


def _every(op: Operator, rows: list[bool]) -> bool:
    return all(rows)


def _matmul(op: Operator, rows: list[bool]) -> bool:
    x, y = op.operands
    if not rows[1]:
        return x.ndim > 2 or not op.attrs["transpose_x"]
    return x.ndim > 2 and y.ndim > 2 and rows[0]


def _batch_norm(op: Operator, rows: list[bool]) -> bool:
    channels = axis_of(op.attrs["axis"], op.operands[0].ndim)
    return not op.attrs["training"] and channels != 0 and _only(0)(op, rows)


def _transpose(op: Operator, rows: list[bool]) -> bool:
    perm = op.attrs["perm"]
    return perm is not None and perm[0] == 0


_BY_AXIS = {
    "axis": "reduce_sum reduce_mean reduce_max reduce_min reduce_prod logsumexp softmax log_softmax"
    " concat split argmax argmin cumsum",
    "axes": "layer_norm slice",
}
_VIEWS = "reshape flatten squeeze unsqueeze broadcast_to fill"
_X_ONLY = """conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear
max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool2d
adaptive_max_pool2d prelu group_norm fold unfold"""

APART: dict[str, Test] = {
    **dict.fromkeys((*POINTWISE, "cast", "identity", "stop_gradient"), _always),
    **dict.fromkeys(_VIEWS.split(), _always),
    **dict.fromkeys(_X_ONLY.split(), _only(0)),
    **{op: _not_along_rows(name) for name, ops in _BY_AXIS.items() for op in ops.split()},
    "matmul": _matmul,
    "batch_norm": _batch_norm,
    "transpose": _transpose,
    "embedding": _only(1),
    "fused_bag": _only(1),
    "grid_sample": _every,
    **dict.fromkeys(("resize", "resize_grad"), _resize),
}
"""op -> whether rows stay apart in it. Besides, its outputs must have their rows along axis 0."""


def mixed_rows(program: Program) -> str | None:
    """Why the batch of a Program cannot be cut, None if it can."""
    inputs = program.block.inputs
    leads = {str(v.shape[0]) if v.ndim else "" for v in inputs}
    batch = leads.pop() if len(leads) == 1 else ""
    if batch not in {s for v in inputs for s in symbols_of(v.shape)}:
        return f"the inputs do not share one open size along axis 0: {_told(inputs)}"
    wrong = [v for v in (*inputs, *program.outputs.values()) if not _has_rows(v, batch)]
    if wrong:
        return f"only axis 0 may have the size {batch}: {_told(wrong[:1])}"
    for operator in program.operators:
        if not _apart(operator, batch):
            return f"rows may be mixed in {operator.where()}"
    return None


def _told(values: Sequence[Value]) -> str:
    return ", ".join(f"{v.name}: {v}" for v in values) or "there are none"


def _has_rows(value: Value, batch: str) -> bool:
    """The size of the batch is that of axis 0, and of no other."""
    return bool(value.shape) and str(value.shape[0]) == batch and not _mentions(value, batch, 1)


def _mentions(value: Value, batch: str, start: int = 0) -> bool:
    return batch in symbols_of(value.shape[start:])


def _apart(operator: Operator, batch: str) -> bool:
    rows = [v is not None and _mentions(v, batch) for v in operator.inputs]
    if not any(rows) and batch not in symbols_used(operator):
        return True  # it has to do with no row
    if operator.type not in APART or operator.blocks:
        return False
    taken: list[Any] = [v for v, r in zip(operator.inputs, rows, strict=True) if r]
    if not all(_has_rows(v, batch) for v in (*taken, *operator.outputs)):
        return False
    if operator.type in POINTWISE and any(v.ndim != operator.outputs[0].ndim for v in taken):
        return False
    return APART[operator.type](operator, rows)
