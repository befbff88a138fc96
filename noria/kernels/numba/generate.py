"""From a Body and a Space to a prepared kernel: source, table, threads, scratch."""

from __future__ import annotations

from math import prod

from noria.core.dtypes import itemsize
from noria.kernels.call import Call
from noria.kernels.numba.body import Body
from noria.kernels.numba.codegen import Form, form_of, table_end
from noria.kernels.numba.launch import launch
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.map_loop import map_source
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.reduce_loop import TILE, reduce_source
from noria.kernels.numba.space import Space
from noria.kernels.registry import Array, BoundOp, Prepared, same_memory

WORTH_SPLITTING = 16384  # elements of a result; fewer are summed by one thread
_sources: dict[Form, str] = {}


def source_of(form: Form) -> str:
    """The kernel of a form, written once."""
    found = _sources.get(form)
    if found is None:
        write = reduce_source if form.body.results else map_source
        found = _sources[form] = write(form)
    return found


def prepare(
    body: Body, space: Space, bound: BoundOp, name: str, source: str | None = None
) -> Prepared:
    """The loop of a body over a space whose operands are the inputs and outputs of `bound`.

    source: of the kernel, if it is known
    """
    source = source or source_of(form_of(body, space))
    ops = prod(space.sizes) * body.cost
    moved = sum(a.nbytes for a in (*bound.inputs, *bound.outputs) if a is not None)
    entry, room, end = "map", 0, table_end(space)
    if body.results:
        entry = "reduce"
        room, numbers = _reduction(body, space, bound.threads)
        end = [*numbers, *end]
    threads = bound.threads

    def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
        table = [*ins, *outs, scratch, *end] if entry == "reduce" else [*ins, *outs, *end]
        return [launch(name, source, entry, table, threads=threads, bytes=moved, ops=ops)]

    return Prepared(emit, room, in_place=_in_place(body, bound), work=ops)


def _reduction(body: Body, space: Space, threads: int) -> tuple[int, list[int]]:
    """Bytes of scratch, and the numbers of `reduce_loop.EXTRA` after its address."""
    team = 1 if threads == 1 else max(threads, thread_count())
    kept = prod(n for n, reduced in zip(space.sizes, space.reduced, strict=True) if not reduced)
    count = prod(space.sizes) // kept
    columns = not space.reduced[-1]
    tiles = -(-space.sizes[-1] // TILE) if columns else 1
    pieces = kept // space.sizes[-1] * tiles if columns else kept
    split = team > 1 and pieces < 2 * team and count * min(kept, TILE) >= WORTH_SPLITTING
    lane = 8 * (kept if split else min(space.sizes[-1], TILE) if columns else 0)
    area = whole_lines(lane * len(body.results))
    return area * team, [int(split), area, lane, count]


def _in_place(body: Body, bound: BoundOp) -> list[tuple[int, int]]:
    """(output, input) pairs whose elements lie at the same places. Results lie elsewhere."""
    results = body.results
    return [
        (o, i)
        for o, out in enumerate(bound.outputs)
        for i, a in enumerate(bound.inputs)
        if a is not None and o not in results and (a is out or _lies_like(a, out))
    ]


def _lies_like(a: Array, b: Array) -> bool:
    if a.shape != b.shape or itemsize(a.dtype) != itemsize(b.dtype):
        return False
    return same_memory(a.shape, a.strides, b.strides)
