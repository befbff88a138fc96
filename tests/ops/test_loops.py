import ml_dtypes
import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ProgramError, ShapeError
from noria.grad import append_backward
from noria.ir.emit import Builder, building
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.verify import verify
from noria.ops import loop_ops
from noria.ops.control import cond
from noria.ops.loops import map_, scan, while_loop
from noria.ops.random import random_key
from noria.testing.case import Case, arr
from noria.testing.check import check_case, check_program, load_ops
from noria.testing.record import record, set_outputs

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
    (
        "while_loop",
        while_in_scan,
        expect_while_in_scan,
        [arr(3, 2), arr(2, low=1.2)],
        {"grad2": True},
    ),
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


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(loop_ops).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


# ---- on arrays ---------------------------------------------------------------------------------


def test_on_arrays_a_loop_is_a_python_loop():
    x = np.arange(1.0, 5.0, dtype=np.float32)
    last, sums = scan(lambda s, a: (s + a, s + a), 0.0, x)
    assert last == 10 and last.dtype == np.float32
    assert sums.tolist() == [1, 3, 6, 10]
    n, y = while_loop(lambda c: c[1] < 100, lambda c: (c[0] + 1, c[1] * 3), (0, np.float32(1)))
    assert (n, y) == (5, 243) and n.dtype == np.int64


def test_a_scan_of_no_steps_on_arrays_gives_empty_results():
    x = np.zeros((0, 3), np.float32)
    last, (ys, n) = scan(
        lambda s, a: (o.add(s, a), (o.exp(a), o.reduce_sum(a))), np.ones(3, np.float32), x
    )
    assert last.tolist() == [1, 1, 1]
    assert (ys.shape, ys.dtype, n.shape) == ((0, 3), np.float32, (0,))


def test_a_scan_without_slices_needs_a_length():
    last, ys = scan(lambda c, x: (c * 2, x), 1, None, length=10)
    assert last == 1024 and ys is None
    with pytest.raises(ArgumentError, match="length"):
        scan(lambda c, x: (c, None), 1)
    for bad in (-1, 2.0, True, "3"):
        with pytest.raises(ArgumentError, match="length"):
            scan(lambda c, x: (c, None), 1, length=bad)


# ---- state, random numbers ---------------------------------------------------------------------


def accumulate(dtype="float32"):
    """A Program with a parameter used in a loop, its loss and gradient; x is [T, 2]."""
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (symbol("T"), 2), dtype)
        w = builder.state("w", (2,), dtype, trainable=True)
        zero = o.fill(shape=(2,), value=0.0, dtype=dtype)
        last, _ = scan(lambda s, a: (o.add(s, o.mul(a, w)), None), zero, x)
        set_outputs(program, {"loss": o.reduce_sum(last)})
    program, grads = append_backward(program)
    set_outputs(program, {"g": grads["w"]})
    return program


def test_parameters_used_in_a_loop_learn():
    program = accumulate()
    verify(program)
    state = {"w": np.array([2.0, -1.0], np.float32)}
    for steps in (0, 1, 5):
        x = np.random.default_rng(0).standard_normal((steps, 2)).astype(np.float32)
        want = {"loss": (x * state["w"]).sum(), "g": x.sum(0)}
        check_program(program, {"x": x}, want, state=state)


def test_gradients_of_narrow_parameters_are_summed_in_float32():
    program = accumulate("bfloat16")
    x, w = np.ones((1000, 2), ml_dtypes.bfloat16), np.ones(2, ml_dtypes.bfloat16)
    out, _ = run_program(program, {"x": x}, {"w": w})
    assert out["g"].tolist() == [1000, 1000]  # in bfloat16 the sum would stop at 256


def noisy(count):
    """count noises, one a step: [count]; a step inside a step draws too."""

    def step(c, _):
        outer = o.normal(random_key(), shape=(), stream=1)
        inner = scan(
            lambda d, _: (d, o.normal(random_key(), shape=(), stream=2)), c, None, length=2
        )
        picked = cond(
            o.greater(c, -1.0), lambda: o.normal(random_key(), shape=(), stream=3), lambda: c
        )
        return c, (outer, inner[1], picked)

    return scan(step, o.fill(shape=(), value=0.0), None, length=count)[1]


def test_each_iteration_draws_other_random_numbers_at_every_depth():
    program = Program()
    with Builder(program):
        outer, inner, picked = noisy(5)
        set_outputs(program, {"outer": outer, "inner": inner, "picked": picked})
    state = {"random": np.array([7, 0])}
    out, updates = run_program(program, {}, state)
    numbers = np.concatenate([np.ravel(a) for a in out.values()])
    assert len(np.unique(numbers)) == 5 + 10 + 5
    again, _ = run_program(program, {}, state)
    np.testing.assert_array_equal(out["inner"], again["inner"])
    later, _ = run_program(program, {}, updates)
    assert not np.intersect1d(numbers, np.ravel(later["inner"])).size
    check_program(program, {}, out, state=state)


def test_the_condition_of_a_loop_may_draw_too():
    program = Program()
    with Builder(program):

        def tossed(n):
            return o.less(o.uniform(random_key(), shape=(), stream=1), 0.8)

        set_outputs(program, {"n": while_loop(tossed, lambda n: o.add(n, 1), 0)})
    verify(program)
    runs = [int(run_program(program, {}, {"random": np.array([s, 0])})[0]["n"]) for s in range(30)]
    assert len(set(runs)) > 4


def test_the_backward_pass_draws_the_numbers_of_the_forward_pass():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (4,))

        def step(c, a):
            noise = o.normal(random_key(), shape=(), stream=1)
            return c, (o.mul(a, noise), noise)

        _, (ys, noise) = scan(step, o.fill(shape=(), value=0.0), x)
        set_outputs(program, {"loss": o.reduce_sum(ys), "noise": noise})
    program, grads = append_backward(program, wrt=["x"])
    set_outputs(program, {"g": grads["x"]})
    out, _ = run_program(program, {"x": np.ones(4, np.float32)}, {"random": np.array([3, 1])})
    np.testing.assert_array_equal(out["g"], out["noise"])


# ---- what is traced ----------------------------------------------------------------------------


def trace(fn, *arrays):
    return record(fn, [np.asarray(a) for a in arrays])


def operator(program, name):
    (found,) = [op for op in program.operators if op.type == name]
    return found


def test_no_counter_is_carried_unless_something_asks_for_it():
    program = trace(recurrent, np.ones((4, 3, 2)), np.ones((2, 2)), np.ones((3, 2))).program
    assert operator(program, "scan").attrs["carried"] == 1


def test_a_loop_in_a_program_with_arrays_only_is_traced():
    program = trace(
        lambda x: o.add(
            while_loop(lambda c: o.less(o.reduce_sum(c), 9.0), lambda c: o.add(c, x), np.zeros(2)),
            x,
        ),
        np.ones(2),
    ).program
    assert operator(program, "while_loop").attrs["carried"] == 1


def test_a_carried_scalar_keeps_its_dtype_whatever_python_scalar_a_step_gives():
    def fn(x):
        return scan(lambda c, a: ((0, 1.0), a), (5, o.reduce_sum(x)), x)[0]

    recorded = trace(fn, np.ones(3, np.float16))
    assert [v.dtype for v in recorded.outputs] == ["int64", "float16"]


# ---- errors ------------------------------------------------------------------------------------

ONES = np.ones((3, 2), np.float32)


@pytest.mark.parametrize("call", [lambda fn, x: fn(x), trace], ids=["eager", "traced"])
class TestErrors:
    def test_a_carry_that_changes_shape_is_named(self, call):
        def fn(x):
            return scan(
                lambda c, a: ({"h": o.reshape(c["h"], shape=(2, 1))}, None), {"h": x[0]}, x
            )[0]["h"]

        with pytest.raises(ShapeError, match=r"carry\['h'\](.|\n)*\[2\](.|\n)*\[2, 1\]"):
            call(fn, ONES)

    def test_a_carry_that_changes_dtype_is_named(self, call):
        def fn(x):
            def step(c):
                return c[0], o.cast(c[1], dtype="float64")

            return while_loop(lambda c: o.less(c[0], 1), step, (0, x))[1]

        with pytest.raises(DTypeError, match=r"carry\[1\](.|\n)*float32(.|\n)*float64"):
            call(fn, ONES)

    def test_a_carry_that_changes_structure_is_told(self, call):
        with pytest.raises(ProgramError, match=r"expected \*\n.*got +\(\*, \*\)"):
            call(lambda x: scan(lambda c, a: ((c, c), None), x[0], x)[0], ONES)

    def test_a_step_must_return_a_pair(self, call):
        with pytest.raises(ProgramError, match=r"returns \(carry, y\)"):
            call(lambda x: scan(lambda c, a: o.add(c, a), x[0], x)[0], ONES)

    def test_slices_of_different_lengths_are_told(self, call):
        with pytest.raises(ShapeError, match=r"xs\[1\](.|\n)*\[3\](.|\n)*\[2\]"):
            call(lambda x: scan(lambda c, a: (c, None), 0.0, (x, x[1:]))[0], ONES)

    def test_a_scalar_cannot_be_scanned(self, call):
        with pytest.raises(ShapeError, match="no axis"):
            call(lambda x: map_(lambda a: a, o.reduce_sum(x)), ONES)


def test_the_condition_is_one_bool():
    with pytest.raises(DTypeError, match="cond_fn"):
        trace(lambda x: while_loop(lambda c: o.reduce_sum(c), lambda c: c, x), ONES)
    with pytest.raises(ShapeError, match="cond_fn"):
        trace(lambda x: while_loop(lambda c: o.less(c, 0.0), lambda c: c, x), ONES)


def test_a_result_whose_size_only_a_step_knows_is_refused():
    with pytest.raises(ShapeError, match=r"size of y\['at'\] is known only inside"):
        trace(lambda x: scan(lambda c, a: (c, {"at": o.nonzero(a, size="K")}), 0.0, x)[0], ONES)


def test_a_state_cannot_be_updated_by_a_step():
    program = Program()
    with Builder(program) as builder:
        builder.state("w", ())
        with pytest.raises(ProgramError, match="nested"):
            scan(lambda c, _: (update(c), None), 0.0, None, length=3)


def update(value):
    building().update("w", value)
    return value
