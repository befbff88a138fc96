"""Kernels of float32 on bfloat16: copies of the operands lie behind the kernel's scratch memory.

For kernels that go through their operands many times, or add into their results: they compute as in
float32, and results are rounded once.
"""

from __future__ import annotations

from collections.abc import Callable

from noria.kernels.call import Call
from noria.kernels.numba.launch import launch
from noria.kernels.numba.lines import whole_lines
from noria.kernels.registry import Array, BoundOp

Emit = Callable[[list[int], list[int], list[int], int], list[Call]]

_CONVERT = """
def convert(args):
    source, target, n = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
    for i in range(n * thread_id() // team_size(), n * (thread_id() + 1) // team_size()):
        independent()
        store_TO(target, i, load_FROM(source, i))
    return 0
"""


class Widened:
    """Float32 copies of the halves of an operator, which must be dense.

    start: bytes of the kernel's own scratch memory; nbytes: of all
    """

    def __init__(self, bound: BoundOp, start: int) -> None:
        self.threads, self.nbytes = bound.threads, whole_lines(start)
        self.ins = [self._place(a) for a in bound.inputs]
        self.outs = [self._place(a) for a in bound.outputs]

    def _place(self, a: Array | None) -> tuple[int, int] | None:
        """(offset, elements) of the copy of an operand that needs one."""
        if a is None or a.dtype != "bfloat16":
            return None
        place = self.nbytes, a.size
        self.nbytes += whole_lines(a.size * 4)
        return place

    def around(self, kernel: Emit) -> Emit:
        """The kernel on the copies."""

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            def at(places: list[tuple[int, int] | None], given: list[int]) -> list[int]:
                pairs = zip(places, given, strict=True)
                return [a if p is None else scratch + p[0] for p, a in pairs]

            wide_ins, wide_outs = at(self.ins, ins), at(self.outs, outs)
            before = self._convert(self.ins, ins, wide_ins, "bfloat16", "float32")
            after = self._convert(self.outs, wide_outs, outs, "float32", "bfloat16")
            return [*before, *kernel(wide_ins, wide_outs, packs, scratch), *after]

        return emit

    def _convert(
        self,
        places: list[tuple[int, int] | None],
        sources: list[int],
        targets: list[int],
        old: str,
        new: str,
    ) -> list[Call]:
        return [
            convert(a, b, p[1], old, new, self.threads)
            for p, a, b in zip(places, sources, targets, strict=True)
            if p is not None
        ]


def convert(source: int, target: int, count: int, old: str, new: str, threads: int) -> Call:
    """The row that copies so many elements of one dtype as those of another."""
    text = _CONVERT.replace("FROM", old).replace("TO", new)
    table = [source, target, count]
    return launch("numba:convert", text, "convert", table, threads=threads, bytes=6 * count)
