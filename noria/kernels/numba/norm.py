"""Batch norm in training, forward and gradient, on memory [rows, channels]; with a ReLU, and a
residual before it, in the same passes (`norm_source.py`).

x, its gradient and what has their size are float32 or bfloat16. All else is float32, and so is the
arithmetic. Masks have a bit for each number where channels are whole vectors, so that rows of bits
lie one behind the other; with other numbers of channels the gradient reads the ReLU's output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from noria.ir.program import Operator, Value
from noria.kernels.call import Call
from noria.kernels.numba.launch import float_bits, launch, need
from noria.kernels.numba.norm_source import (
    EACH,
    LIFTED,
    VECTOR,
    backward,
    factors,
    forward,
    room_of,
    scratch_of,
    width_of,
)
from noria.kernels.numba.parallel import thread_count
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Prepared,
    register,
)
from noria.ops.common import axis_of


class BatchNorm(Kernel):
    """Training form and its gradient, with a ReLU or without; the test form is elementwise."""

    name = "numba:batch_norm"
    ops: tuple[str, ...] = (
        "batch_norm",
        "batch_norm_grad",
        "batch_norm_relu",
        "batch_norm_relu_grad",
        "batch_norm_factors",
    )

    def accepts(self, op: Operator) -> None:
        rank = op.operands[0].ndim
        large = [i for i, v in enumerate(op.inputs) if v is not None and v.ndim == rank]
        given = [i for i in large if not is_mask(op.inputs[i])]
        need(op, ("float32",), [i for i in range(len(op.inputs)) if i not in large])
        need(op, ("float32", "bfloat16"), given)
        if len({v.dtype for i, v in enumerate(op.inputs) if v is not None and i in given}) > 1:
            raise Declined("x and its gradient have different dtypes")
        if op.type == "batch_norm" and not op.attrs["training"]:
            raise Declined("the test form")
        x = op.operands[0]
        if axis_of(op.attrs["axis"], x.ndim) != 1:
            raise Declined("channels are not axis 1")
        if _by_factors(op) and (op.attrs["residual"] or len(op.operands) > 6):
            raise Declined("by factors one gradient is masked, and not given")
        masks = [v for v in (*op.inputs, *op.outputs) if is_mask(v)]
        if masks and not (isinstance(x.shape[1], int) and x.shape[1] % VECTOR == 0):
            raise Declined(f"channels of a mask are not a multiple of {VECTOR}")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        rank = op.operands[0].ndim
        full = LAST if rank > 2 else PLAIN
        wanted: list[str | None] = [
            None if v is None else full if v.ndim == rank else PLAIN for v in op.inputs
        ]
        return wanted, [full if v.ndim == rank else PLAIN for v in op.outputs]

    def bind(self, bound: BoundOp) -> Prepared:
        x, kind = bound.inputs[0], bound.op.type
        assert x is not None
        rows, channels = x.size // x.shape[1], x.shape[1]
        width = width_of(channels)
        end = [rows, channels, width, room_of(width)]
        given, made = _PLACES[kind]
        vectors, mask = channels % VECTOR == 0, _mask_of(bound)
        if kind.endswith("grad"):
            entry, source = "batch_norm_grad", backward(x.dtype, vectors, mask)
        else:
            scaled = kind == "batch_norm_relu" and bound.inputs[7] is not None
            text = forward(x.dtype, vectors, scaled)
            text = factors(x.dtype, vectors) if kind == "batch_norm_factors" else text
            entry, source = "batch_norm", text
            low = 0.0 if kind.endswith("relu") else -math.inf
            end += [float_bits(k) for k in (bound.attrs["momentum"], bound.attrs["epsilon"], low)]
        team = max(bound.threads, thread_count())
        moved = _bytes_moved(bound)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            addresses = [ins[i] if i is not None and i < len(ins) else 0 for i in given]
            results = [*outs, *[0] * (made - len(outs))]
            table = [*addresses, *results, scratch, *end]
            more = {"threads": bound.threads, "bytes": moved, "ops": 8 * x.size}
            return [launch(self.name, source, entry, table, **more)]

        scratch = scratch_of(width, team, LIFTED if mask == "factors" else EACH)
        return Prepared(emit, scratch, in_place=_IN_PLACE[kind])


_IN_PLACE = {
    "batch_norm": ((0, 0), (3, 3), (4, 4)),
    "batch_norm_relu": ((0, 0), (0, 5), (3, 3), (4, 4)),
    "batch_norm_grad": ((0, 0), (0, 4)),
    "batch_norm_relu_grad": ((0, 0), (0, 5), (3, 5), (3, 6)),
    "batch_norm_factors": ((3, 3), (4, 4)),
}
# op -> where the table takes its inputs from, how many outputs it has room for
_PLACES: dict[str, tuple[tuple[int | None, ...], int]] = {
    "batch_norm": (tuple(range(8)), 6),
    "batch_norm_relu": (tuple(range(8)), 6),
    "batch_norm_grad": ((0, 1, 2, 3, None, 4, None), 4),
    "batch_norm_relu_grad": (tuple(range(7)), 4),
    "batch_norm_factors": (tuple(range(8)), 6),
}


def is_mask(v: Value | Array | None) -> bool:
    return v is not None and v.dtype == "uint8"


def _mask_of(bound: BoundOp) -> str:
    """How the mask of a gradient comes, as `backward` wants to know; where there is none, as what
    costs least."""
    x, *_ = bound.inputs
    assert x is not None
    if bound.op.type != "batch_norm_relu_grad":
        return "mask" if x.shape[1] % VECTOR == 0 else "positive"
    if is_mask(bound.inputs[4]):
        return "mask"
    return "factors" if _by_factors(bound.op) else "positive"


def _by_factors(op: Operator) -> bool:
    """Is a gradient masked by what x was normalised by?"""
    if op.type != "batch_norm_relu_grad" or is_mask(op.inputs[4]):
        return False
    return op.operands[4].ndim != op.operands[0].ndim


def _bytes_moved(bound: BoundOp) -> int:
    """Both passes read what is as large as x; where the masked gradient is an output, the second
    one reads that instead of all but x. Factors are made in one pass."""
    x = bound.inputs[0]
    assert x is not None
    rank = len(x.shape)
    size = sum(a.nbytes for a in bound.inputs if a is not None and len(a.shape) == rank)
    out = sum(a.nbytes for a in bound.outputs if len(a.shape) == rank)
    if bound.op.type == "batch_norm_factors":
        return x.nbytes
    if not bound.op.type.endswith("grad"):
        return x.nbytes + size + out
    return size + out + (2 * x.nbytes if len(bound.outputs) > 3 else size)


register(BatchNorm())
