import numpy as np
import pytest

import noria
from noria import ops
from noria.core.errors import ShapeError
from noria.runtime.executor import Executor
from noria.testing.case import Case, arr
from noria.testing.check import check_case


def kept(x, counts):
    shows, clicks = np.log1p(x[:, 0]), np.log1p(x[:, 1])
    return np.column_stack([shows, clicks - shows, x[:, 2:]])


ROWS = {0: {0: "N"}, 1: {0: "N"}}
CASES = [  # no check of the gradient: it is not the derivative
    Case(
        "continuous_value_model",
        [arr(4, 5, low=0.0, high=9.0), arr(4, 2)],
        {"use_counts": use},
        expect=kept if use else lambda x, counts: x[:, 2:],
        grad=False,
        symbolic=ROWS,
    )
    for use in (True, False)
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


@pytest.mark.parametrize("use", [True, False])
def test_the_gradient_of_the_counts_is_what_was_counted(use):
    def step(x, counts):
        return {"loss": ops.continuous_value_model(x, counts, use_counts=use).sum()}

    program = noria.trace(step, x=noria.spec(3, 4), counts=noria.spec(3, 2))
    backward, grads = noria.append_backward(program, "loss", ["x"])
    backward.outputs = {"g": grads["x"]}
    backward.block.outputs = list(backward.outputs.values())
    counts = np.arange(6, dtype=np.float32).reshape(3, 2)
    got = Executor(backward).run({"x": np.ones((3, 4), np.float32), "counts": counts})["g"]
    assert np.array_equal(got, np.column_stack([counts, np.ones((3, 2))]))


def test_rows_without_counts_are_refused():
    with pytest.raises(ShapeError, match="shows and clicks"):
        ops.continuous_value_model(np.ones((3, 1), np.float32), np.ones((3, 2), np.float32))
