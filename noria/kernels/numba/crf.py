"""The best path of a random field: a row belongs to one thread, the tags to the vector.

Step by step, the best way into every tag is found for all of them at once, one previous tag after
the other; where it came from is kept, and the path read backwards from the end.
"""

from __future__ import annotations

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.texts import CHECK_SPLITS
from noria.kernels.registry import BoundOp, Kernel, Prepared, register

_SOURCE = f"""
def crf_decode(args):
    emission = load_int64(args, 0)
    start = load_int64(args, 1)
    splits = load_int64(args, 2)
    path = load_int64(args, 3)
    score = load_int64(args, 4)
    rows = load_int64(args, 5)
    total = load_int64(args, 6)
    tags = load_int64(args, 7)
    came = load_int64(args, 8)
    team = team_size()
    me = thread_id()
    best = came + 4 * total * tags + me * 8 * tags
    ways = best + 4 * tags
    stop = start + 4 * tags
    pair = stop + 4 * tags{CHECK_SPLITS}
    for n in range(rows):
        begin = int64(load_SPLITS(splits, n))
        end = int64(load_SPLITS(splits, n + 1))
        if min(begin * team // max(total, 1), team - 1) != me:
            continue
        if begin == end:
            store_float32(score, n, float32(0))
            continue
        here = emission + 4 * begin * tags
        for c in range(tags):
            independent()
            store_float32(best, c, load_float32(start, c) + load_float32(here, c))
        for t in range(begin + 1, end):
            here = emission + 4 * t * tags
            back = came + 4 * t * tags
            before = load_float32(best, 0)
            for c in range(tags):
                independent()
                store_float32(ways, c, before + load_float32(pair, c))
                store_int32(back, c, int32(0))
            for k in range(1, tags):
                before = load_float32(best, k)
                row = pair + 4 * k * tags
                for c in range(tags):
                    independent()
                    way = before + load_float32(row, c)
                    old = load_float32(ways, c)
                    better = way > old
                    store_float32(ways, c, where(better, way, old))
                    store_int32(back, c, where(better, int32(k), load_int32(back, c)))
            for c in range(tags):
                independent()
                store_float32(best, c, load_float32(ways, c) + load_float32(here, c))
        top = load_float32(best, 0) + load_float32(stop, 0)
        tag = int64(0)
        for c in range(1, tags):
            value = load_float32(best, c) + load_float32(stop, c)
            if value > top:
                top = value
                tag = int64(c)
        store_float32(score, n, top)
        for t in range(end - 1, begin, -1):
            store_int64(path, t, tag)
            tag = int64(load_int32(came + 4 * t * tags, tag))
        store_int64(path, begin, tag)
    return 0
"""


class CrfDecode(Kernel):
    name = "numba:crf_decode"
    ops = ("crf_decode",)

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",), (0, 1))
        need(op, ("int64", "int32"), (2,))

    def bind(self, bound: BoundOp) -> Prepared:
        emission, _, splits = bound.inputs
        assert emission is not None and splits is not None
        total, tags = emission.shape
        sizes = [splits.shape[0] - 1, total, tags]
        source = _SOURCE.replace("SPLITS", splits.dtype)
        work = {"bytes": 8 * total * tags, "ops": 2 * total * tags * tags}

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins, *outs, *sizes, scratch]
            threads = min(bound.threads, max(sizes[0], 1))
            return [launch(self.name, source, "crf_decode", table, threads=threads, **work)]

        room = 4 * total * tags + 8 * tags * bound.threads
        return Prepared(emit, scratch=room, work=work["ops"])


register(CrfDecode())
