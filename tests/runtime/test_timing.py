"""With NORIA_DEBUG=2 each step tells its time and bytes; results stay the same."""

import re

import numpy as np

from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from noria.runtime.timing import line
from tests.runtime.programs import N, assert_engine_is_right, build, feeds_of, floats, mlp, value

LINE = re.compile(r" *[\d,.]+ us +[\d.]+ MB +[\d.]+ GB/s  (\S+) +(\w+) ")


def test_a_line_has_microseconds_megabytes_and_their_ratio():
    assert line(2_500_000, 5_000_000, "here").split() == [
        *("2,500.0", "us", "5.000", "MB", "2.0", "GB/s", "here")
    ]
    assert "0.0 us" in line(0, 0, "nothing")


def test_each_step_is_told_with_its_kernel(capsys):
    with flags.set(debug=2, kernels="reference"):
        run = Executor(mlp(4, 8, 2), optimized=True)
        run.run({"x": floats(3, 4)})
        capsys.readouterr()
        run.run({"x": floats(3, 4)})
    told = [LINE.match(text).groups() for text in capsys.readouterr().err.splitlines()]
    assert told == [("reference", "linear"), ("reference", "relu"), ("reference", "linear")]


def test_packing_is_told_and_views_cost_nothing(capsys):
    def fn(b):
        w = value(b, "w")
        y = o.matmul(o.reshape(b.input("x", (N * 1024, 64)), shape=(N * 1024, 64)), w)
        b.update("w", o.mul(w, 0.5))
        return {"y": y}

    program = build(fn, w=floats(64, 64))
    with flags.set(debug=2, kernels="onednn"):
        Executor(program, optimized=True).run({"x": floats(1024, 64)})
    kernels = [m[1] for m in map(LINE.match, capsys.readouterr().err.splitlines()) if m]
    assert kernels == ["pack", "onednn:matmul", "reference"]


def test_results_are_those_of_the_quiet_engine(capsys):
    program = mlp(8, 16, 4)
    runs = [feeds_of(program, N=n) for n in (3, 1, 0)]
    with flags.set(debug=2):
        assert_engine_is_right(program, runs)
        state = {n: np.asarray(s.init[1]["value"]) for n, s in program.state.items()}
        predictor = Predictor(program, state)
        got = predictor(x=runs[0]["x"])
    assert got.shape == (3, 4) and "us" in capsys.readouterr().err


def test_nothing_is_told_unless_it_is_asked_for(capsys):
    Executor(mlp(4, 2)).run({"x": floats(3, 4)})
    assert capsys.readouterr().err == ""
