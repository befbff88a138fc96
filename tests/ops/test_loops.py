import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ProgramError, ShapeError
from noria.grad import append_backward
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.verify import verify
from noria.ops.control import cond
from noria.ops.loops import map_, scan, while_loop
from noria.ops.random import random_key
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case, check_program, load_ops
from noria.testing.record import named, record, set_outputs

load_ops()
STEPS = {0: {0: "T"}}


# ---- functions under test, each with a Python loop that says what it means ----------------------


def recurrent(x, w, h):
    def step(h, a):
        h = o.tanh(o.add(o.matmul(h, w), a))
        return h, o.mul(h, 2.0)

    return scan(step, h, x)


def expect_recurrent(x, w, h):
    ys = np.empty(x.shape, x.dtype)
    for t in range(len(x)):
        h = np.tanh(h @ w + x[t])
        ys[t] = 2 * h
    return h, ys


def backwards(x, w, h):
    def step(carry, a):
        h = o.tanh(o.add(o.matmul(carry["h"], w), a["x"]))
        return {"h": h, "n": o.add(carry["n"], 1)}, (h, a["i"])

    init = {"h": h, "n": 0}
    index = np.arange(x.shape[0]) if isinstance(x, np.ndarray) else o.arange(stop=x.shape[0])
    last, (hs, i) = scan(step, init, {"x": x, "i": index}, reverse=True)
    return last["h"], last["n"], hs, i


def expect_backwards(x, w, h):
    ys = np.empty(x.shape, x.dtype)
    for t in reversed(range(len(x))):
        h = ys[t] = np.tanh(h @ w + x[t])
    return h, len(x), ys, np.arange(len(x))


def only_results(x, w):
    return map_(lambda a: o.mul(o.sin(a), w), x)


def only_a_carry(x, w):
    return scan(lambda c, _: (o.mul(c, w), None), x, None, length=5)[0]


def unused_carry(x, w):
    """The gradient has no need of the first carried value, which has no gradient rule."""

    def step(c, a):
        return (o.add(c[0], o.sign(a)), o.mul(c[1], o.cos(a))), o.mul(a, w)

    (_, last), ys = scan(step, (o.mul(w, 0.0), w), x)
    return last, ys


def expect_unused_carry(x, w):
    last = w
    for a in x:
        last = last * np.cos(a)
    return last, x * w


def newton(x, a):
    """The square root of a: the number of steps depends on the data."""

    def far(c):
        return o.greater(o.reduce_max(o.abs(o.sub(o.square(c[1]), a))), 1e-2)

    def step(c):
        return o.add(c[0], 1), o.mul(0.5, o.add(c[1], o.div(a, c[1])))

    return while_loop(far, step, (0, x))


def expect_newton(x, a):
    n = 0
    while np.abs(x**2 - a).max() > 1e-2:
        n, x = n + 1, (x + a / x) / 2
    return n, x


def doubling(x, w):
    """A body whose gradient needs no history; a constant that only the condition uses."""
    init = {"x": x, "s": w}

    def step(c):
        return {"x": o.mul(c["x"], 2.0), "s": o.add(c["s"], c["x"])}

    out = while_loop(lambda c: o.less(o.reduce_sum(o.abs(c["x"])), 20.0), step, init)
    return out["x"], out["s"]


def expect_doubling(x, w):
    while np.abs(x).sum() < 20:
        x, w = x * 2, w + x
    return x, w


def while_in_scan(x, w):
    def step(c, a):
        grown = while_loop(
            lambda v: o.less(o.reduce_sum(o.square(v)), 3.0), lambda v: o.mul(v, w), a
        )
        return o.add(c, grown), grown

    return scan(step, o.mul(w, 0.5), x)


def expect_while_in_scan(x, w):
    c, ys = w * 0.5, []
    for a in x:
        while np.square(a).sum() < 3:
            a = a * w
        c = c + a
        ys.append(a)
    return c, np.reshape(ys, x.shape)


def scan_in_cond_in_while(x, w):
    def step(c):
        def long():
            return scan(lambda s, a: (o.tanh(o.add(o.mul(s, w), a)), None), c[1], x)[0]

        return o.add(c[0], 1), cond(o.equal(o.remainder(c[0], 2), 0), long, lambda: o.mul(c[1], w))

    return while_loop(lambda c: o.less(c[0], 5), step, (0, w))[1]


def expect_scan_in_cond_in_while(x, w):
    c = w
    for i in range(5):
        if i % 2:
            c = c * w
        else:
            for a in x:
                c = np.tanh(c * w + a)
    return c


def scan_in_scan(x, w):
    def row(c, r):
        last, ys = scan(lambda s, a: (o.tanh(o.add(s, a)), o.mul(s, w)), c, r)
        return last, ys

    return scan(row, w, x)


def expect_scan_in_scan(x, w):
    c, ys = w, np.empty(x.shape, x.dtype)
    for i, r in enumerate(x):
        for j, a in enumerate(r):
            ys[i, j] = c * w
            c = np.tanh(c + a)
    return c, ys


RECURRENT = [arr(4, 3, 2), arr(2, 2), arr(3, 2)]
PAIR = [arr(4, 3, low=0.5), arr(3, low=0.5)]
BOTH = {0: {0: "N"}, 1: {0: "N"}}
ROOTS = [arr(3, low=1.0, high=3.0), arr(3, low=1.0, high=4.0)]
TABLE = [
    ("scan", recurrent, expect_recurrent, RECURRENT, {"symbolic": STEPS, "grad2": True}),
    ("scan", recurrent, expect_recurrent, [arr(0, 3, 2), *RECURRENT[1:]], {"symbolic": STEPS}),
    ("scan", recurrent, expect_recurrent, [arr(1, 3, 2), *RECURRENT[1:]], {"grad2": True}),
    ("scan", backwards, expect_backwards, RECURRENT, {"symbolic": STEPS, "grad2": True}),
    ("scan", only_results, lambda x, w: np.sin(x) * w, PAIR, {"symbolic": STEPS, "grad2": True}),
    ("scan", only_a_carry, lambda x, w: x * w**5, [arr(3), arr(3)], {"grad2": True}),
    ("scan", unused_carry, expect_unused_carry, PAIR, {"symbolic": STEPS, "grad2": True}),
    ("scan", scan_in_scan, expect_scan_in_scan, [arr(3, 2, 2), arr(2)], {"grad2": True}),
    ("while_loop", newton, expect_newton, ROOTS, {"symbolic": BOTH, "grad2": True}),
    ("while_loop", doubling, expect_doubling, [arr(3), arr(3)], {"symbolic": BOTH, "grad2": True}),
    ("while_loop", doubling, expect_doubling, [arr(3, low=9, high=11), arr(3)], {"grad2": True}),
    ("while_loop", while_in_scan, expect_while_in_scan, [arr(3, 2), arr(2, low=1.2)], {"grad2": True}),
    (
        "while_loop",
        scan_in_cond_in_while,
        expect_scan_in_cond_in_while,
        [arr(3, 2), arr(2)],
        {"symbolic": STEPS, "grad2": True},
    ),
]
CASES = [
    Case(name, inputs, expect=expect, id=f"{fn.__name__}-{n}", **more)
    for n, (name, fn, expect, inputs, more) in enumerate(TABLE)
]


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: str(CASES[n]))
def test_case(number):
    check_case(CASES[number], TABLE[number][1])
