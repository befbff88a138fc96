"""Operators of Caffe2 run through the reader."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from noria.convert.caffe2.reader import load, net_of_one_operator
from noria.ir.program import Spec
from noria.runtime.executor import Executor

Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    """run("Add", x, y, axis=1) -> the output, or a tuple of `outputs` of them.

    constant: positions of inputs that are known when the net is converted
    """

    def call(
        op: str, *xs: Any, outputs: int = 1, constant: tuple[int, ...] = (), **args: Any
    ) -> Any:
        arrays = {f"x{i}": np.asarray(x) for i, x in enumerate(xs)}
        constants = {f"x{i}": arrays.pop(f"x{i}") for i in constant}
        specs = {n: Spec(a.shape, a.dtype) for n, a in arrays.items()}
        net = net_of_one_operator(op, args, len(xs), outputs)
        program, state = load(None, net, specs, constants)
        assert not state
        found = Executor(program).run(arrays)
        listed = tuple(found[f"y{i}"] for i in range(outputs))
        return listed[0] if outputs == 1 else listed

    return call
