import numpy as np
import pytest

from noria.convert.fluid.reader import read_program
from noria.core.errors import MissingError
from tests.convert.fluid.describing import Desc

X = np.array([[1.0, -2.0]], np.float32)


def written():
    desc = Desc().var("x", [1, 2]).number("zero", 0).number("one", 1)
    desc.op("write_to_array", {"X": "x", "I": "zero"}, {"Out": "a"})
    desc.op("scale", {"X": "x"}, {"Out": "y"}, scale=2.0)
    return desc.op("write_to_array", {"X": "y", "I": "one"}, {"Out": "a"})


def test_what_was_written_is_read():
    desc = written().op("read_from_array", {"X": "a", "I": "one"}, {"Out": "z"})
    assert np.array_equal(desc.run("z", x=X), 2 * X)


def test_an_array_becomes_one_value():
    desc = written().op("tensor_array_to_tensor", {"X": "a"}, {"Out": "z", "OutIndex": "sizes"})
    z, sizes = desc.run("z", "sizes", x=X)
    assert np.array_equal(z, np.concatenate([X, 2 * X])) and sizes.tolist() == [1, 1]
    desc = written().op("tensor_array_to_tensor", {"X": "a"}, {"Out": "z"}, axis=1, use_stack=True)
    assert desc.run("z", x=X).shape == (1, 2, 2)


def test_the_length_of_an_array():
    desc = written().op("lod_array_length", {"X": "a"}, {"Out": "n"})
    assert desc.run("n", x=X).tolist() == [2]


def test_a_position_nobody_wrote_to_is_told():
    desc = written().number("five", 5).op("read_from_array", {"X": "a", "I": "five"}, {"Out": "z"})
    with pytest.raises(MissingError, match="position 5"):
        read_program(desc.message, outputs=["z"])
