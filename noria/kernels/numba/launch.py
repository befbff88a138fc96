"""From a compiled function and numbers to a row of the tape."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from noria.core.dtypes import itemsize
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba import jit, tile_sizes
from noria.kernels.numba.parallel import parallel
from noria.kernels.registry import Declined
from noria.kernels.traced import table_of


def launch(
    name: str,
    source: str,
    entry: str,
    table: Sequence[int],
    *,
    threads: int,
    bytes: int = 0,
    ops: int = 0,
) -> Call:
    """The Call of a kernel on a table of addresses and sizes, on a team where the work pays for it.

    bytes, ops: what the whole call moves and computes, as `parallel` counts them.
    """
    function = jit.compile_source(source, entry)
    address, memory = table_of(table)
    call = Call(name, function.address, (address, 0, 0, 0), (memory, function))
    return call if threads == 1 else parallel(call, bytes=bytes, ops=ops)


def need(op: Operator, dtypes: Sequence[str], positions: Sequence[int] | None = None) -> None:
    """Raises Declined unless the inputs at these positions (default all) have one of the dtypes."""
    for i, v in enumerate(op.inputs):
        if v is not None and (positions is None or i in positions) and v.dtype not in dtypes:
            raise Declined(f"{v.name} is {v.dtype}, not {' or '.join(dtypes)}")


def need_one(op: Operator, dtypes: Sequence[str]) -> str:
    """The dtype that all inputs have. Raises Declined unless it is one of these."""
    need(op, dtypes)
    found = {v.dtype for v in op.operands}
    if len(found) > 1:
        raise Declined(f"{' and '.join(sorted(found))} in one kernel")
    return found.pop()


def need_vectors(op: Operator) -> None:
    """Raises Declined for products of bfloat16 on a CPU whose matrix units oneDNN uses for them."""
    if tile_sizes.MATRIX_UNITS and any(v.dtype == "bfloat16" for v in op.operands):
        raise Declined("the CPU has matrix units for bfloat16, which oneDNN uses")


def typed(source: str, dtype: str, prefix: str = "") -> str:
    """A kernel that reads and writes memory of float32, for memory of another dtype.

    It computes in float32 as before. `ITEMSIZE` in the source becomes the bytes of an element.
    prefix: only loads and stores of pointers whose names begin so are changed
    """
    for how in ("load", "store"):
        source = source.replace(f"{how}_float32({prefix}", f"{how}_{dtype}({prefix}")
    return source.replace("ITEMSIZE", str(itemsize(dtype)))


def float_bits(x: float) -> int:
    """A float64 as the int64 of its bits, for a table."""
    return int(struct.unpack("<q", struct.pack("<d", x))[0])
