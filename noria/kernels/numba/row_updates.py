"""Optimiser updates of the rows that a sparse gradient names, where parameter and state lie.

Every row is updated by the thread that owns its id (see `rows.py`), in one pass with the sum of its
gradient. All ids were looked at before: one outside the table fails before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from noria.ir.opdef import lookup
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.embedding import IDS, SHORT
from noria.kernels.numba.launch import float_bits, launch, need
from noria.kernels.numba.rows import TABLE, Rows, by_row
from noria.kernels.registry import BoundOp, Kernel, Prepared, register


@dataclass(frozen=True, slots=True)
class Formula:
    """How one element is updated; all names are float32.

    state:   what is kept beside the parameter `p`
    element: assignments of their new values, from the gradient `g` and `lr`
    once:    assignments that hold for all elements; wide_X is the attribute X in float64
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
    once = (  # 1 - beta^step
        "rate = lr / float32(-expm1(step * log(wide_beta1)))",
        "fix = sqrt(float32(-expm1(step * log(wide_beta2))))",
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


# Where a new value does not take the old one's memory, all rows are copied first.
_NEW = """\
    old_NAME = load_int64(args, AT)
    new_NAME = load_int64(args, AT + 1)
    if old_NAME != new_NAME:
        skip = size * me // team * WIDTH * 4
        stop = size * (me + 1) // team * WIDTH * 4
        copy_bytes(new_NAME + skip, old_NAME + skip, stop - skip)"""


def update_source(kind: str, sizes: Rows, attrs: Numbers) -> str:
    """After what all kernels have, the table has lr, step, the numbers, and for the parameter and
    each state the old and the new address."""
    formula, known = _FORMULAS[kind](attrs), list(numbers(attrs))
    names = ("p", *formula.state)
    places = {n: TABLE + 2 + len(known) + 2 * k for k, n in enumerate(names)}
    once = [f"lr = load_float32(load_int64(args, {TABLE}), 0)"]
    if "step" in lookup(kind).names:
        once.append(f"step = float64(load_int64(load_int64(args, {TABLE + 1}), 0))")
    for k, n in enumerate(known):
        once += [f"wide_{n} = load_float64(args, {TABLE + 2 + k})", f"{n} = float32(wide_{n})"]
    before = [_NEW.replace("AT", str(at)).replace("NAME", n) for n, at in places.items()]
    before += ["    barrier()", _indented([*once, *formula.once], 4)]
    soon = [f"prefetch(new_{n} + soon * WIDTH * 4)" for n in names]
    element = ["together()", "at = row * WIDTH + c", "g = load_float32(grad, c)"]
    element += [f"{n} = load_float32(new_{n}, at)" for n in names]
    element += [*formula.element, *(f"store_float32(new_{n}, at, {n})" for n in names)]
    each = f"        for c in range(WIDTH):\n{_indented(element, 12)}\n    return 0"
    return by_row(kind, sizes, each, "\n".join(before), _indented(soon, 8))


def _indented(lines: Sequence[str], spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in lines)


class UpdateRows(Kernel):
    """float32 parameters and state."""

    name = "numba:update_rows"
    ops = tuple(_FORMULAS)

    def accepts(self, op: Operator) -> None:
        names = lookup(op.type).names
        whole = [names.index(n) for n in ("ids", "step") if n in names]
        need(op, IDS, whole[:1])
        need(op, ("int64",), whole[1:])
        need(op, ("float32",), [i for i in range(len(names)) if i not in whole])

    def bind(self, bound: BoundOp) -> Prepared:
        kind, threads = bound.op.type, bound.threads
        names = lookup(kind).names
        param, _, rows = bound.inputs[:3]
        assert param is not None and rows is not None
        sizes = Rows(bound, 1, len(param.shape) - 1, param.shape[0])
        key = "source", min(sizes.per, SHORT + 1)
        source = bound.note(key, update_source, kind, sizes, bound.attrs)
        known = [float_bits(x) for x in numbers(bound.attrs).values()]
        kept = [i for i, n in enumerate(names) if n not in ("ids", "rows", "lr", "step")]
        moved = rows.nbytes + 4 * sizes.count * sizes.width * (1 + 2 * len(kept))

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            given = dict(zip(names, ins, strict=True))
            table = sizes.table(packs[0], given["rows"], scratch)
            table += [given["lr"], given.get("step", 0), *known]
            for i, out in zip(kept, outs, strict=True):
                table += [ins[i], out]
            return [launch(self.name, source, kind, table, threads=threads, bytes=moved)]

        return Prepared(emit, sizes.scratch, [sizes.pack()], lookup(kind).overwrites)


register(UpdateRows())
