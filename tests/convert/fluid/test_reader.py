import numpy as np
import pytest

from noria.convert.fluid.reader import read_program
from noria.convert.handlers import UnsupportedOperators
from noria.core.errors import FormatError, MissingError, ProgramError
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope
from tests.convert.fluid.describing import Desc


def model():
    desc = Desc().var("x", [-1, 3]).var("w", [3], kept=True)
    desc.op("feed", {"X": "feed"}, {"Out": "x"}, col=0)
    desc.op("elementwise_mul", {"X": "x", "Y": "w"}, {"Out": "y"})
    desc.op("elementwise_add", {"X": "y", "Y": "y"}, {"Out": "y"})  # assigned again
    return desc.op("fetch", {"X": "y"}, {"Out": "fetch"}, col=0)


def test_feeds_become_inputs_and_persistable_variables_parameters():
    program = read_program(model().message)
    assert {n: str(v) for n, v in program.inputs.items()} == {"x": "float32[B, 3]"}
    assert program.state["w"].trainable
    scope = Scope().initialize(program, values={"w": np.array([1, 2, 3], np.float32)})
    got = Executor(program, scope).run({"x": np.ones((2, 3), np.float32)})
    assert got["y"].tolist() == [[2, 4, 6]] * 2


def test_the_shape_of_an_input_may_be_told():
    program = read_program(model().message, shapes={"x": (5, 3)})
    assert program.inputs["x"].shape == (5, 3)


def test_a_variable_that_is_assigned_to_is_updated_by_each_step():
    desc = Desc().var("x", [2]).var("s", [2], kept=True)
    desc.op("elementwise_add", {"X": "s", "Y": "x"}, {"Out": "s"})
    program = read_program(desc.message, outputs=["s"])
    assert not program.state["s"].trainable
    executor = Executor(program)
    for expected in (1.0, 2.0, 3.0):
        assert executor.run({"x": np.ones(2, np.float32)})["s"].tolist() == [expected] * 2


def test_rows_go_along_with_what_has_as_many_steps():
    desc = Desc().var("x", [-1, 2], levels=2)
    desc.op("elementwise_add", {"X": "x", "Y": "x"}, {"Out": "y"})
    program = read_program(desc.message, outputs=["y"])
    assert list(program.inputs) == ["x", "x.row_splits", "x.row_splits.1"]
    assert list(program.outputs) == ["y", "y.row_splits", "y.row_splits.1"]


def test_all_operators_nobody_converts_are_told_at_once():
    desc = Desc().var("x", [1]).op("magic", {"X": "x"}, {"Out": "y"})
    desc.op("more_magic", {"X": "y"}, {"Out": "y"})
    with pytest.raises(UnsupportedOperators) as error:
        read_program(desc.message)
    assert error.value.operators == ["magic", "more_magic"]


def test_a_variable_nobody_assigned_is_told_with_the_operator():
    desc = Desc().op("elementwise_add", {"X": "x", "Y": "x"}, {"Out": "y"})
    with pytest.raises(MissingError, match=r"elementwise_add \(block 0, operator 0\)"):
        read_program(desc.message)


def test_a_feed_that_is_not_declared_is_refused():
    desc = Desc().op("feed", {"X": "feed"}, {"Out": "x"}, col=0)
    with pytest.raises(FormatError, match="'x'"):
        read_program(desc.message)


def test_attributes_that_make_no_sense_name_the_operator():
    desc = Desc().var("x", [1])
    desc.op("elementwise_add", {"X": "x", "Y": "x"}, {"Out": "y"})
    step = desc.block.ops[0]
    step.attrs.add(name="axis", type=2, s=b"x")
    desc.var("z", [1, 2])
    step.inputs[0].arguments[0] = "z"
    with pytest.raises(ProgramError, match="makes no sense"):
        read_program(desc.message)
