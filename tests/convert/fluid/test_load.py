import numpy as np
import pytest

from noria.convert.fluid.load import load
from noria.convert.fluid.parameters import write_combined, write_folder
from noria.core.errors import FormatError, MissingError
from noria.runtime.predictor import Predictor
from tests.convert.fluid.test_reader import model

STATE = {"w": np.array([1, 2, 3], np.float32)}


def check(program, state):
    x = np.ones((1, 3), np.float32)
    assert Predictor(program, state)(x=x).tolist() == [[2, 4, 6]]


def test_a_folder_with_a_file_for_each_parameter(tmp_path):
    (tmp_path / "__model__").write_bytes(model().message.SerializeToString())
    write_folder(tmp_path, STATE)
    check(*load(tmp_path))


def test_a_folder_with_one_file_of_parameters(tmp_path):
    (tmp_path / "net").write_bytes(model().message.SerializeToString())
    write_combined(tmp_path / "numbers", STATE)
    check(*load(tmp_path, model="net", params="numbers"))


@pytest.mark.parametrize("name", ["", "inference", "inference.pdmodel"])
def test_a_paddle_model_by_folder_prefix_and_file(tmp_path, name):
    (tmp_path / "inference.pdmodel").write_bytes(model().message.SerializeToString())
    write_combined(tmp_path / "inference.pdiparams", STATE)
    check(*load(tmp_path / name if name else tmp_path))


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(MissingError, match="__model__"):
        load(tmp_path)
    (tmp_path / "__model__").write_bytes(b"\xff\xff\xff")
    with pytest.raises(FormatError, match="ProgramDesc"):
        load(tmp_path)
    (tmp_path / "__model__").write_bytes(model().message.SerializeToString())
    with pytest.raises(MissingError, match="got      w"):
        load(tmp_path)


def test_state_of_random_operators_is_given_too(tmp_path):
    desc = model()
    step = desc.block.ops[1]
    step.type = "dropout"
    del step.inputs[1]
    (tmp_path / "__model__").write_bytes(desc.message.SerializeToString())
    write_folder(tmp_path, STATE)
    program, state = load(tmp_path)
    assert state.keys() == program.state.keys() >= {"w", "random"}
