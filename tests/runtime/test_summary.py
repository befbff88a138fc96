"""The summary of a bound plan tells kernels, bytes and operations."""

import re

import pytest

from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.runtime.executor import Executor
from noria.runtime.summary import _bytes, summary
from noria.testing.check import load_ops
from tests.runtime.programs import N, build, floats, mlp, value

load_ops()


def bound_of(program, **feeds):
    return Executor(program, threads=1).bound(feeds)


def test_it_tells_sizes_steps_and_memory():
    with flags.set(kernels="reference"):
        bound = bound_of(mlp(4, 5, 3), x=floats(2, 4))
    lines = summary(bound).split("\n")
    assert lines[0] == f"plan for N=2: {len(bound.plan.steps)} steps ({_engines(bound)} reference)"
    state = 4 * (4 * 5 + 5 + 5 * 3 + 3)
    assert lines[1].endswith(f"state {state} B")
    assert f"arena {bound.arena_bytes} B, all values {bound.naive_bytes} B" in lines[1]
    assert f"largest live set {bound.peak_bytes} B" in lines[1]
    assert f"({bound.arena_bytes / bound.naive_bytes:.2f})" in lines[1]
    assert len(lines) == 3


def _engines(bound):
    return sum(step.kernel is None and not step.view for step in bound.plan.steps)


def test_it_counts_steps_by_engine(fast_kernels):
    bound = bound_of(mlp(64, 64, 64), x=floats(8, 64))
    counts = re.search(r"steps \((.*)\)", summary(bound)).group(1)
    total = sum(int(n) for n in re.findall(r"(\d+) ", counts))
    assert total == len(bound.plan.steps) and "reference" not in counts


def test_it_counts_operations_of_matrix_products(fast_kernels):
    n, k = 512, 1024
    text = summary(bound_of(mlp(k, k), x=floats(n, k)))
    gflop = float(re.search(r"work (\S+) Gflop", text).group(1))
    assert gflop == pytest.approx(2 * n * k * k / 1e9, rel=0.05)


def test_a_program_without_symbols_or_values():
    program = build(lambda b: {"w": value(b, "w")}, w=floats(5))
    text = summary(bound_of(program))
    assert text.startswith("plan for fixed sizes: 0 steps ()")
    assert "arena 0 B, all values 0 B (0.00)" in text and text.split("\n")[1].endswith("state 20 B")


def test_an_empty_batch_needs_nothing():
    bound = bound_of(build(lambda b: {"y": o.exp(b.input("x", (N, 3)))}), x=floats(0, 3))
    assert summary(bound).startswith("plan for N=0: 1 steps")
    assert "all values 0 B (0.00)" in summary(bound)


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (1_234_567, "1.23 MB"),
        (25_600_000_000, "25.60 GB"),
    ],
)
def test_bytes_have_units(n, text):
    assert _bytes(n) == text


def test_it_is_printed_when_a_plan_is_bound_and_that_is_asked_for(capsys):
    program = mlp(4, 5, 3)
    with flags.set(debug=1):
        run = Executor(program)
        for n in (2, 2, 3):
            run.run({"x": floats(n, 4)})
    told = capsys.readouterr().err
    assert told.count("plan for N=2") == told.count("plan for N=3") == 1
    assert "linear" in told.splitlines()[0]
    Executor(program).run({"x": floats(2, 4)})
    assert capsys.readouterr().err == ""


def test_steps_count_for_the_kernel_that_took_these_sizes(fast_kernels):
    program = mlp(64, 64)
    some, none = (summary(bound_of(program, x=floats(n, 64))) for n in (1, 0))
    assert "(1 numba)" in some and "(1 reference)" in none
