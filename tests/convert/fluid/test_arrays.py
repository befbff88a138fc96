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


def test_the_sentences_of_a_search_are_those_of_its_steps():
    words = [([5, 6], [-1.0, -2.0], [0, 1, 2], [0, 1, 2])]
    words.append(([7, 8, 0], [-1.5, -3.0, -2.5], [0, 1, 2], [0, 2, 3]))
    desc, feeds = Desc(), {}
    for t, (ids, scores, outer, inner) in enumerate(words):
        desc.number(f"t{t}", t)
        for name, values, dtype, array in (("i", ids, 3, "ids"), ("s", scores, 5, "scores")):
            name = f"{name}{t}"
            desc.var(name, [len(values), 1], levels=2, dtype=dtype)
            feeds[name] = np.array(values, [np.int64, np.float32][dtype == 5])[:, None]
            feeds |= {f"{name}.row_splits": outer, f"{name}.row_splits.1": inner}
            desc.op("write_to_array", {"X": name, "I": f"t{t}"}, {"Out": array})
    outs = {"SentenceIds": "y", "SentenceScores": "z"}
    desc.op("beam_search_decode", {"Ids": "ids", "Scores": "scores"}, outs, end_id=0, beam_size=2)
    y, outer, inner = desc.run("y", "y.row_splits", "y.row_splits.1", **feeds)
    assert (outer.tolist(), inner.tolist()) == ([0, 2, 3], [0, 2, 4, 6])
    assert y.tolist() == [5, 7, 5, 8, 6, 0]
