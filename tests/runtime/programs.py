"""Programs that the tests of the runtime share, and the comparison with the interpreter."""

from itertools import pairwise

import numpy as np

from noria.core.dims import symbol
from noria.core.dtypes import to_numpy
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.runtime.executor import Executor
from noria.testing.compare import assert_same
from noria.testing.engines import compare_named

N = symbol("N")


def build(fn, name="program", **state):
    """A Program: fn(builder) returns its outputs. state: name -> array, the first value."""
    program = Program(name)
    with Builder(program) as builder:
        for key, array in state.items():
            array = np.asarray(array)
            init = ("constant", {"value": array})
            builder.state(key, array.shape, str(array.dtype), init=init, trainable=True)
        program.outputs = fn(builder)
    program.block.outputs = list(program.outputs.values())
    return program


def mlp(*sizes, activation="relu"):
    """x: float32[N, sizes[0]] through linear layers; output "y"."""
    rng = np.random.default_rng(0)
    state = {}
    for i, (a, b) in enumerate(pairwise(sizes)):
        state[f"w{i}"] = rng.normal(0, a**-0.5, (b, a)).astype("float32")
        state[f"b{i}"] = rng.normal(0, 0.1, b).astype("float32")

    def fn(b):
        x = b.input("x", (N, sizes[0]))
        for i in range(len(sizes) - 1):
            x = o.linear(x, value(b, f"w{i}"), value(b, f"b{i}"))
            if i < len(sizes) - 2:
                x = getattr(o, activation)(x)
        return {"y": x}

    return build(fn, "mlp", **state)


def value(builder, name):
    """The value of a state."""
    return builder.program.state[name].value


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def feeds_of(program, seed=0, **sizes):
    """Random feeds for the inputs of a Program."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for v in program.block.inputs:
        shape = tuple(d if isinstance(d, int) else sizes[str(d)] for d in v.shape)
        kind = to_numpy(v.dtype)
        integers = np.issubdtype(kind, np.integer)
        numbers = rng.integers(0, 3, shape) if integers else rng.normal(size=shape)
        feeds[v.name] = numbers.astype(kind)
    return feeds


def assert_engine_is_right(program, runs, *, fetch=None, executor=None, tol=None):
    """Outputs and state of the engine are those of the interpreter, step after step."""
    executor = executor or Executor(program)
    state = executor.scope.state()
    for feeds in runs:
        want, new = run_program(program, feeds, {n: a.copy() for n, a in state.items()})
        state.update({n: np.array(a) for n, a in new.items()})
        names = list(program.outputs) if fetch is None else fetch
        got = executor.run(feeds, fetch)
        compare_named(got, {n: want[n] for n in names}, "the engine", tol)
        for name, array in state.items():
            assert_same(executor.scope[name], array, f"state {name}", tol=tol)
    return executor
