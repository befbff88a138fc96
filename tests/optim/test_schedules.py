import math

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.trace import spec, trace
from noria.nn.layers import Linear
from noria.ops import library  # noqa: F401  (all ops are registered)
from noria.optim import schedules as s
from noria.optim.optimizer import SGD
from noria.runtime.executor import Executor

STEPS = [0, 1, 2, 4, 5, 6, 9, 10, 11, 15, 25, 99, 1000]


def cosine(rate, steps, end=0.0):
    return lambda t: end + (rate - end) * (1 + math.cos(math.pi * min(t / steps, 1))) / 2


def polynomial(rate, steps, end=0.0, power=1.0):
    return lambda t: end + (rate - end) * max(1 - t / steps, 0) ** power


def piecewise(t):
    return 1.0 if t < 5 else 0.5 if t < 10 else 0.25


def warm(after, steps, start=0.0):
    def rate(t):
        if t < steps:
            return start + (after(0) - start) * t / steps
        return after(t - steps)

    return rate


# name: (schedule, the same written for one number)
SCHEDULES = {
    "constant": (s.constant(0.3), lambda t: 0.3),
    "step_decay": (s.step_decay(0.4, 5), lambda t: 0.4 * 0.1 ** (t // 5)),
    "step_decay by half": (s.step_decay(2, 10, 0.5), lambda t: 2 * 0.5 ** (t // 10)),
    "piecewise": (s.piecewise([5, 10], [1.0, 0.5, 0.25]), piecewise),
    "piecewise of one": (s.piecewise([], [0.7]), lambda t: 0.7),
    "cosine": (s.cosine(0.2, 10), cosine(0.2, 10)),
    "cosine to an end": (s.cosine(0.2, 25, end=0.05), cosine(0.2, 25, 0.05)),
    "linear": (s.polynomial(0.3, 10), polynomial(0.3, 10)),
    "polynomial": (s.polynomial(0.3, 10, 0.1, 2.5), polynomial(0.3, 10, 0.1, 2.5)),
    "rising": (s.polynomial(0.1, 10, end=0.6, power=0.5), polynomial(0.1, 10, 0.6, 0.5)),
    "exponential": (s.exponential(0.5, 10, 0.3), lambda t: 0.5 * 0.3 ** (t / 10)),
    "inverse_sqrt": (
        s.inverse_sqrt(0.5, 10),
        lambda t: 0.5 * min((t + 1) / 10, math.sqrt(10 / (t + 1))),
    ),
    "warm constant": (s.warmup(0.4, 5), warm(lambda t: 0.4, 5)),
    "warm cosine": (s.warmup(s.cosine(0.4, 10, 0.1), 5), warm(cosine(0.4, 10, 0.1), 5)),
    "warm piecewise": (
        s.warmup(s.piecewise([5, 10], [1.0, 0.5, 0.25]), 1, start=0.5),
        warm(piecewise, 1, 0.5),
    ),
    "warm twice": (
        s.warmup(s.warmup(s.step_decay(1.0, 4), 5, start=0.2), 5),
        warm(warm(lambda t: 0.1 ** (t // 4), 5, 0.2), 5),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_its_formula(name):
    schedule, formula = SCHEDULES[name]
    for t in STEPS:
        got = schedule(np.int64(t))
        assert (np.shape(got), got.dtype) == ((), np.float32)
        assert float(got) == pytest.approx(formula(t), rel=1e-5, abs=1e-7), t


@pytest.mark.parametrize("name", SCHEDULES)
def test_many_steps_are_computed_at_once(name):
    schedule, formula = SCHEDULES[name]
    got = schedule(np.array(STEPS))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [formula(t) for t in STEPS], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_in_a_program_gives_the_eager_values(name):
    schedule, _ = SCHEDULES[name]
    program = trace(lambda step: schedule(step), step=spec(dtype="int64"))
    out = program.output("out")
    assert (out.shape, out.dtype) == ((), "float32")
    for t in STEPS:
        outs, _ = run_program(program, {"step": np.array(t)}, {})
        assert outs["out"] == schedule(np.int64(t))


def test_a_schedule_advances_with_the_steps_of_the_optimiser():
    schedule = SCHEDULES["warm cosine"][0]
    model = Linear(1, 1, bias=False)
    program = trace(lambda x: {"loss": model(x).sum()}, x=spec("N", 1))
    executor = Executor(SGD(schedule).minimize(program))
    x = np.ones((1, 1), np.float32)  # the gradient is 1: a step is the learning rate
    for t in range(20):
        before = executor.scope["weight"]
        executor.run({"x": x})
        step = float((before - executor.scope["weight"])[0, 0])
        assert step == pytest.approx(float(schedule(np.int64(t))), abs=1e-6)
    assert executor.scope["optimizer.step"] == 20
    assert "optimizer.rate" not in executor.scope


def test_a_schedule_resumes_with_the_step_of_the_scope():
    schedule = s.piecewise([100], [1.0, 0.25])
    model = Linear(1, 1, bias=False)
    program = trace(lambda x: {"loss": model(x).sum()}, x=spec("N", 1))
    executor = Executor(SGD(schedule).minimize(program))
    executor.scope["optimizer.step"] = 100
    before = executor.scope["weight"]
    executor.run({"x": np.ones((1, 1), np.float32)})
    assert before - executor.scope["weight"] == pytest.approx(0.25, abs=1e-6)


def test_a_schedule_is_shared_by_all_parameters():
    model = Linear(2, 2)
    program = trace(lambda x: {"loss": model(x).sum()}, x=spec("N", 2))
    trained = SGD(s.cosine(0.1, 10)).minimize(program)
    assert [o.type for o in trained.operators].count("cos") == 1


def test_any_function_of_the_step_is_a_schedule():
    model = Linear(1, 1, bias=False)
    program = trace(lambda x: {"loss": model(x).sum()}, x=spec("N", 1))
    executor = Executor(SGD(lambda step: 0.5).minimize(program))
    before = executor.scope["weight"]
    executor.run({"x": np.ones((1, 1), np.float32)})
    np.testing.assert_allclose(before - executor.scope["weight"], 0.5, rtol=1e-5)


def test_steps_beyond_int32_do_not_overflow():
    assert s.exponential(1.0, 2**40, 0.5)(np.int64(2**41)) == pytest.approx(0.25)
    assert s.step_decay(1.0, 2**40, 0.5)(np.int64(2**41)) == pytest.approx(0.25)


def test_schedules_agree_with_those_of_pytorch():
    torch = pytest.importorskip("torch")
    pairs = [
        (s.cosine(0.1, 10), lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10)),
        (
            s.polynomial(0.1, 10, power=2),
            lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 10, power=2),
        ),
        (s.step_decay(0.1, 3, 0.2), lambda o: torch.optim.lr_scheduler.StepLR(o, 3, 0.2)),
        (s.exponential(0.1, 1, 0.8), lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.8)),
    ]
    for schedule, make in pairs:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = make(optimizer)
        for t in range(11):
            wanted = optimizer.param_groups[0]["lr"]
            assert float(schedule(np.int64(t))) == pytest.approx(wanted, abs=1e-7)
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda: s.step_decay(0.1, 0),
        lambda: s.step_decay(0.1, True),
        lambda: s.step_decay("0.1", 5),
        lambda: s.step_decay(0.1, 5, math.nan),
        lambda: s.piecewise([1, 2], [0.1, 0.2]),
        lambda: s.piecewise([2, 1], [0.1, 0.2, 0.3]),
        lambda: s.piecewise([2, 2], [0.1, 0.2, 0.3]),
        lambda: s.piecewise([2], [0.1, None]),
        lambda: s.cosine(0.1, 0),
        lambda: s.cosine(math.inf, 5),
        lambda: s.cosine(0.1, 5, end=None),
        lambda: s.polynomial(0.1, -3),
        lambda: s.polynomial(0.1, 3, power=-1),
        lambda: s.exponential(0.1, 2.5, 0.5),
        lambda: s.exponential(0.1, 2, -0.5),
        lambda: s.inverse_sqrt(0.1, 0),
        lambda: s.warmup(0.1, 0),
        lambda: s.warmup("fast", 3),
        lambda: s.warmup(0.1, 3, start=math.nan),
        lambda: s.constant(None),
    ],
)
def test_bad_numbers_are_refused(make):
    with pytest.raises(ArgumentError):
        make()


def test_a_schedule_emits_only_where_a_program_is_built():
    program = trace(lambda x: x, x=spec())
    with Builder(program):
        assert float(s.cosine(0.1, 10)(np.int64(0))) == pytest.approx(0.1)
    assert not program.operators
