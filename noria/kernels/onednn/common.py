"""What the oneDNN kernels share: descriptors of bound operands, packing, activations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from noria.core.errors import EngineError
from noria.core.flags import flags
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch
from noria.kernels.numba.weight_panels import Panels, pack
from noria.kernels.onednn.attr import Attr, Eltwise, PostOp
from noria.kernels.onednn.build_reorder import reorder
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.lib import available
from noria.kernels.onednn.memory import MemDesc, row_major
from noria.kernels.onednn.primitive import Primitive
from noria.kernels.registry import LAST, PLAIN, Array, Declined, Layouts, Pack

FLOATS = ("float32", "bfloat16")

ACTIVATIONS: Mapping[str, PostOp] = {
    "gelu_tanh": Eltwise("gelu_tanh"),
    "sigmoid": Eltwise("logistic"),
    "tanh": Eltwise("tanh"),
    "silu": Eltwise("swish", 1.0),
}
"""Post-ops that agree with the reference on NaN and infinity."""

BEHIND: Mapping[str, str] = {
    "relu": "maximum(v, float32(0))",
    "relu6": "minimum(maximum(v, float32(0)), float32(6))",
    "gelu": "gelu(v)",
}
"""oneDNN makes 0 of relu(NaN) and NaN of gelu(inf): these are loops right behind the primitive."""

_BEHIND = """
def activate(args):
    out = load_int64(args, 0)
    count = load_int64(args, 1)
    team = team_size()
    for i in range(count * thread_id() // team, count * (thread_id() + 1) // team):
        independent()
        v = load_DTYPE(out, i)
        store_DTYPE(out, i, EXPRESSION)
    return 0
"""


def need(op: Operator, dtypes: Sequence[str] = FLOATS) -> None:
    """Raises Declined unless the library is there and all operands have one of the dtypes."""
    there, why = available()
    if not there:
        raise Declined(why)
    for v in (*op.operands, *op.outputs):
        if v.dtype not in dtypes:
            raise Declined(f"{v.name} is {v.dtype}, oneDNN takes {' or '.join(dtypes)} here")


@contextmanager
def declining() -> Iterator[None]:
    """What oneDNN has no implementation for on this CPU is left to another kernel."""
    try:
        yield
    except EngineError as error:
        raise Declined(f"{error.what}: {error.got}") from error


def attr(post_ops: Sequence[PostOp] = ()) -> Attr:
    """Attributes with the flagged arithmetic precision."""
    return Attr(flags.fpmath, tuple(post_ops))


def activation(name: str | None) -> tuple[PostOp, ...]:
    """The post-op of an activation, none for those of BEHIND. Raises Declined for others."""
    if name is None or name in BEHIND:
        return ()
    if name not in ACTIVATIONS:
        raise Declined(f"oneDNN has no post-op for activation '{name}'")
    return (ACTIVATIONS[name],)


def behind(name: str | None, out: int, count: int, dtype: str, threads: int) -> list[Call]:
    """Rows that apply an activation of BEHIND to `count` numbers at `out`; none for others."""
    if name is None or name not in BEHIND:
        return []
    text = _BEHIND.replace("EXPRESSION", BEHIND[name]).replace("DTYPE", dtype)
    size = {"bytes": 8 * count, "ops": 20 * count if name == "gelu" else count}
    return [launch(f"onednn:{name}", text, "activate", [out, count], threads=threads, **size)]


def desc(array: Array) -> MemDesc:
    """The descriptor of a bound operand."""
    return MemDesc(array.shape, array.dtype, array.strides)


def channels_last(op: Operator, given: Sequence[str | None]) -> Layouts:
    """Activations of rank 3 and more channels-last, everything else row-major."""
    wanted = [None if v is None else PLAIN for v in op.inputs]
    wanted[0] = LAST
    return wanted, [LAST] * len(op.outputs)


def panels_like(source: MemDesc, chosen: MemDesc) -> Panels | None:
    """The layout that oneDNN chose for a weight [O, I, rows, columns], if it is one of panels."""
    dense = len(source.dims) == 4 and source.strides == row_major(source.dims)
    width = re.search(r"\d+", chosen.blocks or "")
    if not dense or width is None or source.dtype != chosen.dtype:
        return None
    outs, ins, high, wide = source.dims
    for across, column, row in ((False, "a", "b"), (True, "b", "a")):
        of_rows, pair = (row, "") if source.dtype == "float32" else (row.upper(), f"2{row}")
        text = f"{column.upper()}cd{of_rows}{width[0]}{column}{pair}"
        rows, columns = (outs, ins) if across else (ins, outs)
        panels = Panels(source.dtype, rows, columns, high * wide, int(width[0]), across)
        known = panels.possible and panels.nbytes == chosen.nbytes
        if known and _outline(chosen.blocks, panels.taps) == _outline(text, panels.taps):
            return panels
    return None


def _outline(blocks: str | None, taps: int) -> str:
    """The text of a layout; where axes of size 1 come in it means nothing."""
    text = blocks or ""
    return text.replace("c", "").replace("d", "") if taps == 1 else text


def pack_for(
    primitive: Primitive, arg: int, source: MemDesc, position: int, threads: int
) -> Pack | None:
    """The packed copy a primitive wants of input `position`, None if it takes it as it lies."""
    chosen = primitive.descs[arg]
    if chosen.lies_like(source):
        return None
    panels = panels_like(source, chosen)
    if panels is not None:
        return pack(position, (source, chosen), panels, threads)
    move = reorder(source, chosen)
    if ARG.SCRATCHPAD in move.descs:
        raise Declined("packing would need a scratchpad")

    def emit(address: int, copy: int) -> list[Call]:
        return [move.call({ARG.SRC: address, ARG.DST: copy})]

    return Pack(position, (source, chosen), chosen.nbytes, emit, replaces=True)
