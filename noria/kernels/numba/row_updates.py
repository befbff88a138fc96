"""Optimiser updates of the rows that a sparse gradient names, where parameter and state lie.

Every row is updated by the thread that owns its id (see `rows.py`), after all ids were looked at:
an id outside the table fails before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noria.ir.opdef import lookup
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.embedding import IDS
from noria.kernels.numba.launch import float_bits, launch, need
from noria.kernels.numba.rows import (
    TABLE,
    by_row,
    largest_team,
    row_width,
    scratch_bytes,
    sort_table,
)
from noria.kernels.registry import BoundOp, Declined, Kernel, Prepared, register


@dataclass(frozen=True, slots=True)
class Formula:
    """How one element is updated; all names are float32.

    state:   what is kept beside the parameter `p`
    element: assignments of their new values, from the gradient `g` and `lr`
    once:    assignments that hold for all elements
    """

    state: Sequence[str]
    element: Sequence[str]
    once: Sequence[str] = ()


Numbers = Mapping[str, Any]


def _sgd(how: Numbers) -> Formula:
    return Formula((), ("p = p - lr * g",))


def _momentum(how: Numbers) -> Formula:
    step = "(g + momentum * velocity)" if how["nesterov"] else "velocity"
    return Formula(("velocity",), ("velocity = momentum * velocity + g", f"p = p - lr * {step}"))


def _adagrad(how: Numbers) -> Formula:
    lines = ("moment = moment + g * g", "p = p - lr * g / (sqrt(moment) + epsilon)")
    return Formula(("moment",), lines)


def _adam(how: Numbers) -> Formula:
    decay = ("p = p - lr * weight_decay * p",) if how["weight_decay"] else ()
    lines = ("m = beta1 * m + rest_beta1 * g", "v = beta2 * v + rest_beta2 * g * g")
    last = "p = p - rate * m / (sqrt(v) / fix + epsilon)"
    once = (  # powers are rounded before they are taken from 1, as in the reference
        "rate = lr / (float32(1) - float32(pow(float64(beta1), step)))",
        "fix = sqrt(float32(1) - float32(pow(float64(beta2), step)))",
    )
    return Formula(("m", "v"), (*lines, *decay, last), once)


def _rmsprop(how: Numbers) -> Formula:
    lines = ["square = rho * square + rest_rho * g * g", "spread = square"]
    if how["centered"]:
        lines += ["mean = rho * mean + rest_rho * g", "spread = square - mean * mean"]
    lines += ["change = g / (sqrt(spread) + epsilon)"]
    if how["momentum"]:
        lines += ["velocity = momentum * velocity + change", "change = velocity"]
    return Formula(("square", "mean", "velocity"), (*lines, "p = p - lr * change"))


_FORMULAS: dict[str, Callable[[Numbers], Formula]] = {
    "sgd_update_rows": _sgd,
    "momentum_update_rows": _momentum,
    "adagrad_update_rows": _adagrad,
    "adam_update_rows": _adam,
    "rmsprop_update_rows": _rmsprop,
}


def numbers(attrs: Numbers) -> dict[str, float]:
    """Attributes that are numbers, and what is left of each to 1; switches are in the source."""
    given = {k: float(v) for k, v in attrs.items() if not isinstance(v, bool)}
    return given | {f"rest_{k}": 1 - v for k, v in given.items()}


def update_source(kind: str, ids: str, width: int, attrs: Numbers) -> str:
    """After the sort's part the table has lr, step, the numbers, and for the parameter and each
    state the old and the new address."""
    formula = _FORMULAS[kind](attrs)
    known = list(numbers(attrs))
    start = TABLE + 2 + len(known)
    before, soon, load, store = [], [], [], []
    for k, name in enumerate(("p", *formula.state)):
        at = start + 2 * k
        before += [f"old_{name} = load_int64(args, {at})", f"new_{name} = load_int64(args, {at + 1})"]
        before += [
            f"if old_{name} != new_{name}:",
            "    skip = size * me // team * WIDTH * 4",
            "    stop = size * (me + 1) // team * WIDTH * 4",
            f"    copy_bytes(new_{name} + skip, old_{name} + skip, stop - skip)",
        ]
        soon.append(f"prefetch(new_{name} + soon * WIDTH * 4)")
        load.append(f"{name} = load_float32(new_{name}, at)")
        store.append(f"store_float32(new_{name}, at, {name})")
    once = [f"lr = load_float32(load_int64(args, {TABLE}), 0)"]
    if "step" in lookup(kind).names:
        once.append(f"step = float64(load_int64(load_int64(args, {TABLE + 1}), 0))")
    once += [f"{n} = float32(load_float64(args, {TABLE + 2 + k}))" for k, n in enumerate(known)]
    element = ["independent()", "at = row * WIDTH + c", "g = load_float32(grad, c)"]
    lines = [*_indented(once + list(formula.once), 4), "EACH", " " * 8 + "for c in range(WIDTH):"]
    lines += _indented([*element, *load, *formula.element, *store], 12)
    each = "\n".join([*lines, "    return 0", ""])
    wrong = "low < 0 or high >= size"
    texts = ("\n".join(_indented(before, 4)), "\n".join(_indented(soon, 8)))
    return by_row(kind, ids, width, wrong, each, *texts)


def _indented(lines: Sequence[str], spaces: int) -> list[str]:
    return [" " * spaces + line for line in lines]


class UpdateRows(Kernel):
    """float32 parameters and state."""

    name = "numba:update_rows"
    ops = tuple(_FORMULAS)

    def accepts(self, op: Operator) -> None:
        names = lookup(op.type).names
        step = names.index("step") if "step" in names else -1
        need(op, IDS, (1,))
        need(op, ("float32",), [i for i in range(len(names)) if i not in (1, step)])
        if step >= 0:
            need(op, ("int64",), (step,))

    def bind(self, bound: BoundOp) -> Prepared:
        kind, names = bound.op.type, lookup(bound.op.type).names
        param, ids, rows = bound.inputs[:3]
        assert param is not None and ids is not None and rows is not None
        size, count, width = param.shape[0], ids.size, row_width(rows)
        if max(size, count) >> 31:
            raise Declined("ids of more than 31 bits")
        source, team = update_source(kind, ids.dtype, width, bound.attrs), largest_team(bound)
        known = [float_bits(x) for x in numbers(bound.attrs).values()]
        kept = (0, *(i for i, n in enumerate(names) if i > 2 and n not in ("lr", "step")))
        moved = rows.nbytes * (2 + 2 * len(kept)) + 64 * count

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            given = dict(zip(names, ins, strict=True))
            table = sort_table(ins[1], ins[2], count, width, size, scratch, team)
            table += [given["lr"], given.get("step", 0), *known]
            for i, out in zip(kept, outs, strict=True):
                table += [ins[i], out]
            return [launch(self.name, source, kind, table, threads=bound.threads, bytes=moved)]

        in_place = lookup(kind).overwrites
        return Prepared(emit, scratch_bytes(count, width, team), in_place=in_place)


register(UpdateRows())
