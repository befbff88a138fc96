"""What one step of a recurrent cell computes, as lines of kernel source.

The lines are the body of a loop over `l`, the UNITS lanes of a block of units. `GATE(k)` of the
forward step is block k of the recurrent product. Everything else is a slot: a pointer to the
block's lanes in some array, at the present step of a row, in the present row, or in no row at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Slot:
    """A pointer `p_NAME` to lanes of an array.

    array: name of the address in the kernel's table; blocks: how many times H its rows have
    block: which of them; at: "step" (its packed position), "before" (that of the step before, or
    the first state of the row), "all" (one vector for all steps), "handed" (to the product)
    """

    name: str
    array: str
    blocks: int = 1
    block: int = 0
    at: str = "step"


@dataclass(frozen=True, slots=True)
class Sweep:
    """One direction of a cell.

    loads, stores: slots
    lines: the arithmetic, with `LOAD(slot)`, `STORE(slot, value)`; `OUT(k, value)` is the gradient
    of block k of the product. Besides its slots a sweep has `state` (c, or its gradient) and, the
    forward one, `h` and `next` (h before and after the step), the backward one `dh`.
    """

    loads: tuple[Slot, ...]
    stores: tuple[Slot, ...]
    lines: str


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """A kind of recurrent layer, made once and told apart by identity.

    gates: blocks of the recurrent product
    product: the array that holds the gradient of that product
    adds: whether the backward product is added to what the lines left as the gradient of h
    second: the cell of a second phase: what a step does, with a product of its own, when the first
    has been done for all units (`next` of the first is what is multiplied in the second)
    phased: whether it is one of two phases
    state_is_h: whether the state is h, which is rounded where it is multiplied
    """

    gates: int
    forward: Sweep
    backward: Sweep
    product: str = "dx"
    adds: bool = False
    second: Cell | None = None
    phased: bool = False
    state_is_h: bool = False


def _blocks(name: str, array: str, count: int, total: int) -> tuple[Slot, ...]:
    return tuple(Slot(f"{name}{k}", array, total, k) for k in range(count))


@cache
def lstm(
    has_grad: bool = True,
    has_grad_c: bool = False,
    has_bias: bool = False,
    has_peepholes: bool = False,
    *,
    keeps_c: bool = True,
    keeps_gates: bool = True,
) -> Cell:
    """has_grad, has_grad_c: whether gradients of h and of c come in; has_bias: whether x still
    lacks its bias; has_peepholes: whether gates look at c; keeps_c, keeps_gates: whether somebody
    wants what only training needs."""
    bias = tuple(Slot(f"bias{k}", "bias", 4, k, at="all") for k in range(4)) if has_bias else ()
    x = [f"GATE({k}) + LOAD(x{k})" + (f" + LOAD(bias{k})" if bias else "") for k in range(4)]
    peepholes = tuple(Slot(f"peep{k}", "peepholes", 3, k, at="all") for k in range(3))
    peepholes *= has_peepholes
    if has_peepholes:
        x[0] += " + LOAD(peep0) * LOAD(state)"
        x[1] += " + LOAD(peep1) * LOAD(state)"
        x[3] += " + LOAD(peep2) * c"
    kept = (Slot("c", "c"),) * keeps_c + _blocks("gate", "gates", 4, 4) * keeps_gates
    keep = "STORE(c, c)\n" * keeps_c
    keep += "".join(f"STORE(gate{k}, {v})\n" for k, v in enumerate("ifgo")) * keeps_gates
    forward = Sweep(
        (*_blocks("x", "x", 4, 4), *bias, *peepholes),
        (Slot("out", "out"), *kept),
        f"""
i = gate({x[0]})
f = gate({x[1]})
g = tanh({x[2]})
c = f * LOAD(state) + i * g
o = gate({x[3]})
h = o * tanh(c)
STORE(state, c)
STORE(next, h)
STORE(out, h)
{keep}""",
    )
    given = [Slot("c", "c"), Slot("before", "c", at="before")]
    given += [Slot("grad", "grad")] if has_grad else []
    given += [Slot("grad_c", "grad_c")] if has_grad_c else []
    to_i, to_f, to_o = (f" + d{g} * LOAD(peep{k})" * has_peepholes for k, g in enumerate("ifo"))
    backward = Sweep(
        (*_blocks("gate", "gates", 4, 4), *given, *peepholes),
        _blocks("dx", "dx", 4, 4),
        f"""
i = LOAD(gate0)
f = LOAD(gate1)
g = LOAD(gate2)
o = LOAD(gate3)
t = tanh(LOAD(c))
dh = LOAD(dh){" + LOAD(grad)" if has_grad else ""}
do = dh * t * o * (float32(1) - o)
dc = LOAD(state){" + LOAD(grad_c)" if has_grad_c else ""} + dh * o * (float32(1) - t * t){to_o}
di = dc * g * i * (float32(1) - i)
df = dc * LOAD(before) * f * (float32(1) - f)
STORE(state, dc * f{to_i}{to_f})
OUT(0, di)
OUT(1, df)
OUT(2, dc * i * (float32(1) - g * g))
OUT(3, do)
""",
    )
    return Cell(4, forward, backward)


@cache
def gru(has_bias: bool = True, *, rounds: bool = False) -> Cell:
    """has_bias: whether the recurrent product has one; rounds: whether it takes halves: h is then
    kept as the state too, which is not rounded from step to step."""
    h, keep = ("state", "STORE(state, h)\n") if rounds else ("h", "")
    bias = tuple(Slot(f"bias{k}", "bias", 3, k, at="all") for k in range(3)) if has_bias else ()
    a, b, m = (f"GATE({k})" + (f" + LOAD(bias{k})" if has_bias else "") for k in range(3))
    forward = Sweep(
        (*_blocks("x", "x", 3, 3), *bias),
        (Slot("out", "out"), *_blocks("gate", "gates", 4, 4)),
        f"""
m = {m}
r = gate(LOAD(x0) + ({a}))
z = gate(LOAD(x1) + ({b}))
n = tanh(LOAD(x2) + r * m)
h = (float32(1) - z) * n + z * LOAD({h})
{keep}STORE(next, h)
STORE(out, h)
STORE(gate0, r)
STORE(gate1, z)
STORE(gate2, n)
STORE(gate3, m)
""",
    )
    backward = Sweep(
        (
            *_blocks("gate", "gates", 4, 4),
            Slot("before", "hidden", at="before"),
            Slot("grad", "grad"),
        ),
        (*_blocks("dx", "dx", 3, 3), *_blocks("da", "da", 3, 3)),
        """
r = LOAD(gate0)
z = LOAD(gate1)
n = LOAD(gate2)
dh = LOAD(dh) + LOAD(grad)
dn = dh * (float32(1) - z) * (float32(1) - n * n)
dr = dn * LOAD(gate3) * r * (float32(1) - r)
dz = dh * (LOAD(before) - n) * z * (float32(1) - z)
STORE(dh, dh * z)
STORE(dx0, dr)
STORE(dx1, dz)
STORE(dx2, dn)
OUT(0, dr)
OUT(1, dz)
OUT(2, dn * r)
""",
    )
    return Cell(3, forward, backward, product="da", adds=True, state_is_h=rounds)


@cache
def gru_reset_before() -> Cell:
    """Two phases: the gates, with what the reset leaves of h; then the candidate. Backwards the
    candidate comes first, and `state` is the gradient of what the reset leaves."""
    gates = Sweep(
        _blocks("x", "x", 2, 3),
        _blocks("gate", "gates", 2, 3),
        """
r = gate(LOAD(x0) + GATE(0))
z = gate(LOAD(x1) + GATE(1))
STORE(next, r * LOAD(h))
STORE(gate0, r)
STORE(gate1, z)
""",
    )
    candidate = Sweep(
        (Slot("x2", "x", 3, 2), Slot("z", "gates", 3, 1)),
        (Slot("out", "out"), Slot("gate2", "gates", 3, 2)),
        """
z = LOAD(z)
n = tanh(LOAD(x2) + GATE(0))
h = (float32(1) - z) * n + z * LOAD(h)
STORE(next, h)
STORE(out, h)
STORE(gate2, n)
""",
    )
    before, grad = Slot("before", "hidden", at="before"), Slot("grad", "grad")
    gates_back = Sweep(
        (Slot("gate0", "gates", 3, 0), Slot("dz", "dx", 3, 1), before),
        _blocks("dx", "dx", 2, 3),
        """
r = LOAD(gate0)
d = LOAD(state)
STORE(dh, LOAD(dh) + d * r)
OUT(0, d * LOAD(before) * r * (float32(1) - r))
OUT(1, LOAD(dz))
""",
    )
    candidate_back = Sweep(
        (Slot("gate1", "gates", 3, 1), Slot("gate2", "gates", 3, 2), before, grad),
        (Slot("dz", "dx", 3, 1), Slot("dn0", "dx", 3, 2)),
        """
z = LOAD(gate1)
n = LOAD(gate2)
dh = LOAD(dh) + LOAD(grad)
STORE(dz, dh * (LOAD(before) - n) * z * (float32(1) - z))
STORE(dh, dh * z)
OUT(0, dh * (float32(1) - z) * (float32(1) - n * n))
""",
    )
    second = Cell(1, candidate, candidate_back, product="dn", phased=True)
    return Cell(2, gates, gates_back, adds=True, second=second, phased=True)


@cache
def rnn(activation: str) -> Cell:
    """activation: "tanh" or "relu"."""
    act = "tanh" if activation == "tanh" else "relu"
    value = (
        "tanh(GATE(0) + LOAD(x0))" if act == "tanh" else "maximum(GATE(0) + LOAD(x0), float32(0))"
    )
    forward = Sweep(
        (Slot("x0", "x"),),
        (Slot("out", "out"),),
        f"""
h = {value}
STORE(next, h)
STORE(out, h)
""",
    )
    slope = (
        "float32(1) - h * h" if act == "tanh" else "where(h > float32(0), float32(1), float32(0))"
    )
    backward = Sweep(
        (Slot("h", "hidden"), Slot("grad", "grad")),
        (Slot("dx0", "dx"),),
        f"""
h = LOAD(h)
OUT(0, (LOAD(dh) + LOAD(grad)) * ({slope}))
""",
    )
    return Cell(1, forward, backward)
