"""The loss of a random field and its gradient: each thread takes whole rows.

A step is a product with exp(pair), which is the same for all steps, between an exp and a log of as
many numbers as there are tags; its columns are divided by their largest element, and the vector by
its own. Where so little is left that float32 cannot hold it, a sum is done again with logarithms.
"""

from __future__ import annotations

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.texts import CHECK_SPLITS
from noria.kernels.registry import BoundOp, Kernel, Prepared, register

# Checks splits and labels, as the reference does; then exp(pair - largest of its column).
_HEAD = f"""
    none = float32(-1e39)  # -inf: no path
    least = float32(1e-30)
    emission = load_int64(args, 0)
    start = load_int64(args, 1)
    labels = load_int64(args, 2)
    splits = load_int64(args, 3)
    loss = load_int64(args, 4)
    alphas = load_int64(args, 5)
    rows = load_int64(args, 6)
    total = load_int64(args, 7)
    tags = load_int64(args, 8)
    shared = load_int64(args, 9)
    team = team_size()
    me = thread_id()
    stop = start + 4 * tags
    pair = stop + 4 * tags
    ways = shared + 4 * tags
    own = ways + 4 * tags * tags + me * load_int64(args, 10)
    one = own + 4 * tags
    two = one + 4 * tags{CHECK_SPLITS}
    for t in range(total):
        if load_LABELS(labels, t) < 0 or load_LABELS(labels, t) >= tags:
            return 1
    if me == 0:
        for c in range(tags):
            independent()
            store_float32(shared, c, none)
        for k in range(tags):
            for c in range(tags):
                independent()
                value = maximum(load_float32(shared, c), load_float32(pair, k * tags + c))
                store_float32(shared, c, value)
        for c in range(tags):
            independent()
            top = load_float32(shared, c)
            store_float32(shared, c, where(top == none, float32(0), top))
        for k in range(tags):
            for c in range(tags):
                independent()
                value = exp(load_float32(pair, k * tags + c) - load_float32(shared, c))
                store_float32(ways, k * tags + c, value)
    barrier()
"""

_ROWS = """
    for n in range(rows):
        begin = int64(load_SPLITS(splits, n))
        end = int64(load_SPLITS(splits, n + 1))
        if min(begin * team // max(total, 1), team - 1) != me:
            continue
"""

# exp(x - its largest) of a vector; NAME: its largest, 0 if that is infinite
_SCALED = """
            NAME = none
            for c in range(tags):
                NAME = maximum(NAME, load_float32(FROM, c))
            if NAME == none or NAME == float32(1e39):
                NAME = float32(0)
            for c in range(tags):
                independent()
                store_float32(TO, c, exp(load_float32(FROM, c) - NAME))
"""


def _scaled(name: str, source: str, to: str) -> str:
    return _SCALED.replace("NAME", name).replace("FROM", source).replace("TO", to)


_FORWARD = f"""
def crf_loss(args):{_HEAD}{_ROWS}
        if begin == end:
            store_float32(loss, n, float32(0))
            continue
        score = float32(0)
        move = int64(0)
        for t in range(begin, end):
            here = emission + 4 * t * tags
            alpha = alphas + 4 * t * tags
            tag = int64(load_LABELS(labels, t))
            score += load_float32(here, tag) + load_float32(start, move * tags + tag)
            move = tag + 2
            if t == begin:
                for c in range(tags):
                    independent()
                    store_float32(alpha, c, load_float32(start, c) + load_float32(here, c))
                continue
            before = alpha - 4 * tags
{_scaled("top", "before", "one")}
            for c in range(tags):
                independent()
                store_float32(two, c, float32(0))
            for k in range(tags):
                p = load_float32(one, k)
                row = ways + 4 * k * tags
                for c in range(tags):
                    independent()
                    store_float32(two, c, load_float32(two, c) + p * load_float32(row, c))
            weak = float32(1)
            for c in range(tags):
                independent()
                some = load_float32(two, c)
                value = top + load_float32(shared, c) + log(some) + load_float32(here, c)
                store_float32(alpha, c, value)
            for c in range(tags):
                weak = minimum(weak, load_float32(two, c))
            if weak < least:
                for c in range(tags):
                    if load_float32(two, c) < least:
                        best = none
                        for k in range(tags):
                            way = load_float32(before, k) + load_float32(pair, k * tags + c)
                            best = maximum(best, way)
                        value = none
                        if best != none:
                            some = float32(0)
                            for k in range(tags):
                                way = load_float32(before, k) + load_float32(pair, k * tags + c)
                                some += exp(way - best)
                            value = best + log(some) + load_float32(here, c)
                        store_float32(alpha, c, value)
        score += load_float32(stop, move - 2)
        alpha = alphas + 4 * (end - 1) * tags
        best = none
        for c in range(tags):
            best = maximum(best, load_float32(alpha, c) + load_float32(stop, c))
        safe = best
        if best == none:
            safe = float32(0)
        some = float32(0)
        for c in range(tags):
            some += exp(load_float32(alpha, c) + load_float32(stop, c) - safe)
        store_float32(loss, n, safe + log(some) - score)
    return 0
"""

# `moves` sums the products of how likely it is to leave a tag and to go on from the next; they are
# multiplied by `ways`, how likely the move itself is, once at the end.
_BACKWARD = f"""
def crf_loss_grad(args):{_HEAD}
    grads = load_int64(args, 11)
    d_emission = load_int64(args, 12)
    d_transition = load_int64(args, 13)
    x = two + 4 * tags
    moves = x + 4 * tags
    exact = moves + 4 * tags * tags
    fill_bytes(moves, 0, 4 * tags * (2 * tags + 4))
{_ROWS}
        if begin == end:
            continue
        scale = load_float32(grads, n)
        score = float32(0)
        move = int64(0)
        for t in range(begin, end):
            tag = int64(load_LABELS(labels, t))
            place = move * tags + tag
            score += load_float32(emission, t * tags + tag) + load_float32(start, place)
            store_float32(exact, place, load_float32(exact, place) - scale)
            move = tag + 2
        place = tags + move - 2
        score += load_float32(stop, move - 2)
        store_float32(exact, place, load_float32(exact, place) - scale)
        whole = load_float32(loss, n) + score
        beta = own
        for c in range(tags):
            independent()
            store_float32(beta, c, load_float32(stop, c))
        for t in range(end - 1, begin - 1, -1):
            here = emission + 4 * t * tags
            alpha = alphas + 4 * t * tags
            out = d_emission + 4 * t * tags
            for c in range(tags):
                independent()
                p = exp(load_float32(alpha, c) + load_float32(beta, c) - whole) * scale
                store_float32(out, c, p)
            if t == end - 1:
                for c in range(tags):
                    independent()
                    place = tags + c
                    store_float32(
                        exact, place, load_float32(exact, place) + load_float32(out, c)
                    )
            if t == begin:
                for c in range(tags):
                    independent()
                    store_float32(exact, c, load_float32(exact, c) + load_float32(out, c))
            tag = int64(load_LABELS(labels, t))
            store_float32(out, tag, load_float32(out, tag) - scale)
            if t == begin:
                continue
            for c in range(tags):
                independent()
                value = load_float32(here, c) + load_float32(beta, c)
                store_float32(beta, c, value)
                store_float32(x, c, value + load_float32(shared, c))
            before = alpha - 4 * tags
{_scaled("left", "before", "one")}
{_scaled("right", "x", "two")}
            both = left + right - whole
            if both < float32(80):
                share = exp(both) * scale
                for k in range(tags):
                    p = load_float32(one, k) * share
                    row = moves + 4 * k * tags
                    for c in range(tags):
                        independent()
                        store_float32(row, c, load_float32(row, c) + p * load_float32(two, c))
            else:
                for k in range(tags):
                    at = (k + 2) * tags
                    p = load_float32(before, k) - whole
                    for c in range(tags):
                        independent()
                        way = load_float32(pair, k * tags + c) + load_float32(beta, c)
                        value = load_float32(exact, at + c) + exp(p + way) * scale
                        store_float32(exact, at + c, value)
            for k in range(tags):
                row = ways + 4 * k * tags
                some = float32(0)
                for c in range(tags):
                    some += load_float32(row, c) * load_float32(two, c)
                value = right + log(some)
                if some < least:
                    row = pair + 4 * k * tags
                    best = none
                    for c in range(tags):
                        best = maximum(best, load_float32(row, c) + load_float32(beta, c))
                    value = none
                    if best != none:
                        some = float32(0)
                        for c in range(tags):
                            some += exp(load_float32(row, c) + load_float32(beta, c) - best)
                        value = best + log(some)
                store_float32(one, k, value)
            for c in range(tags):
                independent()
                store_float32(beta, c, load_float32(one, c))
    barrier()
    step = load_int64(args, 10)
    size = tags * (tags + 2)
    for i in range(size * me // team, size * (me + 1) // team):
        value = float32(0)
        for k in range(team):
            theirs = exact + (k - me) * step
            value += load_float32(theirs, i)
            if i >= 2 * tags:
                at = i - 2 * tags
                value += load_float32(moves + (k - me) * step, at) * load_float32(ways, at)
        store_float32(d_transition, i, value)
    return 0
"""


class CrfLoss(Kernel):
    name = "numba:crf_loss"
    ops = ("crf_sequence_loss", "crf_sequence_loss_grad")

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",), (0, 1, *range(4, len(op.inputs))))
        need(op, ("int64", "int32"), (2, 3))

    def bind(self, bound: BoundOp) -> Prepared:
        emission, _, labels, splits, *_ = bound.inputs
        assert emission is not None and labels is not None and splits is not None
        backward = bound.op.type.endswith("grad")
        total, tags = emission.shape
        text = _BACKWARD if backward else _FORWARD
        text = text.replace("SPLITS", splits.dtype).replace("LABELS", labels.dtype)
        numbers = tags * (2 * tags + 8) if backward else 4 * tags
        room = whole_lines(4 * numbers)
        sizes = [splits.shape[0] - 1, total, tags]
        work = {"bytes": 12 * total * tags, "ops": total * tags * (8 * tags + 60)}

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins[:4], *(ins[4:6] if backward else outs), *sizes, scratch, room]
            table += [ins[6], *outs] if backward else []
            entry = "crf_loss_grad" if backward else "crf_loss"
            return [launch(self.name, text, entry, table, threads=bound.threads, **work)]

        shared = 4 * tags * (tags + 1)
        return Prepared(emit, scratch=shared + room * bound.threads, work=work["ops"])


register(CrfLoss())
