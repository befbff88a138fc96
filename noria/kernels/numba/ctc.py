"""The CTC loss and its gradient: each thread takes whole sequences.

A row of log alpha needs only the row before, so the states of a step are one vectorised loop, over
whole vectors: what lies beyond the last state is on no path. The gradient goes back over the steps
with one row of log beta, and turns it into class probabilities at once.
"""

from __future__ import annotations

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.tile_sizes import WIDTH
from noria.kernels.registry import BoundOp, Kernel, Prepared, register

# Checks sequence n, as the reference does; then its rows and states.
_SEQUENCE = """
        first = load_STARTS(starts, n)
        steps = load_LENGTHS(lengths, n)
        count = load_COUNTS(counts, n)
        if count < 0 or count > width or steps < 0:
            return 1
        if steps > 0 and (first < 0 or first + (steps - 1) * step >= rows):
            return 1
        used = 2 * count + 1
        for s in range(count):
            label = load_LABELS(labels, n * width + s)
            if label < 0 or label >= classes or label == blank:
                return 1
            store_int64(states, 2 * s, blank)
            store_int64(states, 2 * s + 1, label)
        lanes = (used + LANES - 1) // LANES * LANES
        for s in range(2 * count, lanes):
            store_int64(states, s, blank)
        for s in range(used, lanes + LANES):
            store_float32(skips, s, none)
        for s in range(used):
            other = blank
            if s >= 2:
                other = load_int64(states, s - 2)
            may = none
            if other != blank and other != load_int64(states, s):
                may = float32(0)
            store_float32(skips, s, may)
"""


def _log_sum(indent: int) -> str:
    """Lines that make `path`, the log of the sum of exp of a, b and c."""
    lines = (
        "top = maximum(maximum(a, b), c)",
        "safe = top",
        "if top == none:",
        "    safe = float32(0)",
        "path = safe + log(exp(a - safe) + exp(b - safe) + exp(c - safe))",
    )
    return f"\n{' ' * indent}".join(lines)


_HEAD = """
    none = float32(-1e39)  # -inf: no path
    logits = load_int64(args, 0)
    starts = load_int64(args, 1)
    lengths = load_int64(args, 2)
    labels = load_int64(args, 3)
    counts = load_int64(args, 4)
    loss = load_int64(args, 5)
    alphas = load_int64(args, 6)
    totals = load_int64(args, 7)
    rows = load_int64(args, 8)
    classes = load_int64(args, 9)
    sequences = load_int64(args, 10)
    width = load_int64(args, 11)
    blank = load_int64(args, 12)
    step = load_int64(args, 13)
    size = 2 * width + 1
    padded = (size + LANES - 1) // LANES * LANES
    states = load_int64(args, 14) + thread_id() * load_int64(args, 15)
    skips = states + 8 * padded
"""

_FORWARD = f"""
def ctc(args):{_HEAD}
    me = thread_id()
    team = team_size()
    for row in range(rows * me // team, rows * (me + 1) // team):
        at = row * classes
        top = none
        for c in range(classes):
            top = maximum(top, load_float32(logits, at + c))
        safe = top
        if top == none or top == float32(1e39):
            safe = float32(0)
        total = float32(0)
        for c in range(classes):
            total += exp(load_float32(logits, at + c) - safe)
        store_float32(totals, row, safe + log(total))
        for s in range(size):
            independent()
            store_float32(alphas, row * size + s, none)
    barrier()
    old = skips + 4 * (padded + 2 * LANES)
    new = old + 4 * (padded + LANES)
    for n in range(me, sequences, team):{_SEQUENCE}
        for s in range(padded):
            independent()
            store_float32(old, s, none)
        for s in range(1, 3):
            store_float32(old, -s, none)
            store_float32(new, -s, none)
        for t in range(steps):
            row = first + t * step
            at = row * size
            scores = logits + 4 * row * classes
            total = load_float32(totals, row)
            if t == 0:
                for s in range(min(used, 2)):
                    score = load_float32(scores, load_int64(states, s)) - total
                    store_float32(old, s, score)
            else:
                for s in range(lanes):
                    independent()
                    a = load_float32(old, s)
                    b = load_float32(old, s - 1)
                    c = load_float32(old, s - 2) + load_float32(skips, s)
                    {_log_sum(20)}
                    score = load_float32(scores, load_int64(states, s)) - total
                    store_float32(new, s, path + score)
                swap = old
                old = new
                new = swap
            copy_bytes(alphas + 4 * at, old, 4 * used)
        a = load_float32(old, used - 1)
        b = load_float32(old, used - 2)
        c = none
        {_log_sum(8)}
        if steps == 0 and count == 0:
            path = float32(0)
        store_float32(loss, n, -path)
    return 0
"""

_BACKWARD = f"""
def ctc_grad(args):{_HEAD}
    grads = load_int64(args, 16)
    out = load_int64(args, 17)
    beta = skips + 4 * (padded + LANES)
    ahead = beta + 4 * padded
    spread = ahead + 4 * (padded + LANES)
    me = thread_id()
    team = team_size()
    for i in range(rows * classes * me // team, rows * classes * (me + 1) // team):
        independent()
        store_float32(out, i, float32(0))
    barrier()
    for n in range(me, sequences, team):{_SEQUENCE}
        log_prob = -load_float32(loss, n)
        scale = load_float32(grads, n) + (log_prob - log_prob)  # NaN for all if it is for one
        if log_prob == none:
            steps = 0
        for s in range(lanes):
            independent()
            store_float32(beta, s, none)
        for s in range(lanes + LANES):
            independent()
            store_float32(ahead, s, none)
        for s in range(max(used - 2, 0), used):
            store_float32(beta, s, float32(0))
        for t in range(steps - 1, -1, -1):
            row = first + t * step
            at = row * size
            scores = logits + 4 * row * classes
            total = load_float32(totals, row)
            for c in range(classes):
                independent()
                store_float32(spread, c, exp(load_float32(scores, c) - total))
            for s in range(used):
                independent()
                score = load_float32(scores, load_int64(states, s)) - total
                store_float32(ahead, s, load_float32(beta, s) + score)
            for s in range(used):
                independent()
                p = load_float32(alphas, at + s) + load_float32(beta, s) - log_prob
                store_float32(beta, s, p)
            for s in range(lanes):
                independent()
                store_float32(beta, s, exp(load_float32(beta, s)))
            for s in range(used):
                k = load_int64(states, s)
                store_float32(spread, k, load_float32(spread, k) - load_float32(beta, s))
            for c in range(classes):
                independent()
                store_float32(out, row * classes + c, load_float32(spread, c) * scale)
            for s in range(lanes):
                independent()
                a = load_float32(ahead, s)
                b = load_float32(ahead, s + 1)
                c = load_float32(ahead, s + 2) + load_float32(skips, s + 2)
                {_log_sum(16)}
                store_float32(beta, s, path)
    return 0
"""


class CtcLoss(Kernel):
    name = "numba:ctc"
    ops = ("ctc_sequence_loss", "ctc_sequence_loss_grad")

    def accepts(self, op: Operator) -> None:
        need(op, ("float32",), (0, *range(5, len(op.inputs))))
        need(op, ("int64", "int32"), (1, 2, 3, 4))

    def bind(self, bound: BoundOp) -> Prepared:
        logits, starts, lengths, labels, counts, *_ = bound.inputs
        assert logits and starts and lengths and labels and counts
        backward = bound.op.type.endswith("grad")
        text = _BACKWARD if backward else _FORWARD
        for name, array in zip(
            ("STARTS", "LENGTHS", "LABELS", "COUNTS"), bound.inputs[1:5], strict=True
        ):
            assert array is not None
            text = text.replace(name, array.dtype)
        (rows, classes), (sequences, width) = logits.shape, labels.shape
        sizes = [rows, classes, sequences, width, bound.attrs["blank"], bound.attrs["step"]]
        text = text.replace("LANES", str(WIDTH))
        states = 2 * width + 1
        padded = -(-states // WIDTH) * WIDTH
        room = whole_lines(20 * padded + 4 * (4 * WIDTH + classes))
        work = {"bytes": 8 * rows * (classes + states), "ops": rows * (25 * classes + 90 * states)}

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            table = [*ins[:5], *(ins[5:8] if backward else outs), *sizes, scratch, room]
            table += [ins[8], outs[0]] if backward else []
            entry = "ctc_grad" if backward else "ctc"
            return [launch(self.name, text, entry, table, threads=bound.threads, **work)]

        return Prepared(emit, scratch=room * bound.threads, work=work["ops"])


register(CtcLoss())
