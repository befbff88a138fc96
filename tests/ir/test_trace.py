"""From a Python function to a Program."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, ProgramError
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value
from noria.ir.trace import spec, trace
from noria.ir.verify import verify
from tests.ir.programs import N


def test_a_spec_reads_sizes_from_text():
    assert spec("N", "2*T+1", 3, N).shape == (N, 2 * symbol("T") + 1, 3, N)
    assert spec(dtype="int64").shape == () and spec(dtype="int64").dtype == "int64"


def test_a_function_becomes_a_program():
    def doubled(x, y):
        return {"sum": o.add(x, y), "same": x}

    program = trace(doubled, x=spec("N", 2), y=spec(2))
    verify(program)
    assert program.name == "doubled" and list(program.inputs) == ["x", "y"]
    assert program.block.outputs == list(program.outputs.values())
    got, _ = run_program(program, {"x": np.ones((3, 2)), "y": np.arange(2.0)}, {})
    np.testing.assert_array_equal(got["sum"], [[1, 2]] * 3)


def test_one_value_is_the_output_out():
    assert list(trace(o.tanh, x=spec(3)).outputs) == ["out"]


def test_a_program_can_be_named():
    assert trace(lambda x: x, x=spec(1)).name == "lambda"
    assert trace(lambda x: x, name="mine", x=spec(1)).name == "mine"


def test_what_is_no_value_is_refused():
    with pytest.raises(ProgramError, match="output 'y' of the traced function"):
        trace(lambda x: {"y": 3.0}, x=spec(1))
    with pytest.raises(ProgramError, match="belongs to another Program"):
        trace(lambda x: Value("far", ()), x=spec(1))
    with pytest.raises(ArgumentError, match="input 'x' must be a spec"):
        trace(lambda x: x, x=(3, 4))
