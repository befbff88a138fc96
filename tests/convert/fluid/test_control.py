import numpy as np
import pytest

from noria.convert.fluid.reader import read_program
from noria.core.errors import ProgramError
from tests.convert.fluid.describing import Desc

X = np.array([1.0, -2.0, 3.0], np.float32)


def counting(limit=5):
    """`while i < limit:` inside its block."""
    desc = Desc().var("x", [3])
    desc.number("i", 0).number("n", limit).op("less_than", {"X": "i", "Y": "n"}, {"Out": "go"})
    return desc.op("assign", {"X": "x"}, {"Out": "y"}).inner()


def counted(desc):
    """The end of that block, and the loop."""
    desc.op("increment", {"X": "i"}, {"Out": "i"}, step=1.0)
    desc.op("less_than", {"X": "i", "Y": "n"}, {"Out": "go"}).outer()
    return desc.op("while", {"X": ["y"], "Condition": "go"}, {"Out": ["y", "i"]}, sub_block=1)


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_a_loop_runs_while_its_condition_holds(limit):
    desc = counted(counting(limit).op("elementwise_add", {"X": "y", "Y": "x"}, {"Out": "y"}))
    y, i = desc.run("y", "i", x=X)
    assert np.array_equal(y, X * (limit + 1)) and i.tolist() == [limit]


def test_a_loop_may_end_by_what_it_computes():
    desc = Desc().var("x", [1]).var("n", [1])
    desc.op("less_than", {"X": "x", "Y": "n"}, {"Out": "go"}).inner()
    desc.op("elementwise_add", {"X": "x", "Y": "x"}, {"Out": "x"})
    desc.op("less_than", {"X": "x", "Y": "n"}, {"Out": "go"}).outer()
    desc.op("while", {"X": ["x"], "Condition": "go"}, {"Out": ["x"]}, sub_block=1)
    n = np.array([100], np.float32)
    assert desc.run("x", x=np.array([3], np.float32), n=n).tolist() == [192]


def test_what_a_loop_writes_to_an_array_can_be_read():
    desc = counting()
    desc.message.blocks[0].vars.add(name="a").type.type = 13
    desc.op("elementwise_add", {"X": "y", "Y": "x"}, {"Out": "y"})
    desc.op("write_to_array", {"X": "y", "I": "i"}, {"Out": "a"})
    counted(desc).op("lod_array_length", {"X": "a"}, {"Out": "length"})
    desc.number("two", 2).op("read_from_array", {"X": "a", "I": "two"}, {"Out": "z"})
    z, length = desc.run("z", "length", x=X)
    assert np.array_equal(z, 4 * X) and length.tolist() == [5]


def test_an_array_that_grows_without_a_bound_is_told():
    desc = Desc().var("x", [1]).var("n", [1]).array("a").number("i", 0)
    desc.op("less_than", {"X": "x", "Y": "n"}, {"Out": "go"}).inner()
    desc.op("write_to_array", {"X": "x", "I": "i"}, {"Out": "a"})
    desc.op("less_than", {"X": "x", "Y": "n"}, {"Out": "go"}).outer()
    desc.op("while", {"X": ["x"], "Condition": "go"}, {"Out": ["a"]}, sub_block=1)
    with pytest.raises(ProgramError, match="'a' grows"):
        read_program(desc.message, outputs=["x"])


def conditional(x):
    """y = 2 x where the sum of x is positive, else x."""
    desc = Desc().var("x", [3]).op("assign", {"X": "x"}, {"Out": "y"})
    desc.op("reduce_sum", {"X": "x"}, {"Out": "s"}, reduce_all=True).number("zero", 0, 5)
    desc.op("greater_than", {"X": "s", "Y": "zero"}, {"Out": "yes"}).inner()
    desc.op("elementwise_add", {"X": "x", "Y": "x"}, {"Out": "y"})
    desc.op("scale", {"X": "x"}, {"Out": "new"}, scale=3.0).outer()
    desc.op(
        "conditional_block",
        {"Cond": "yes", "Input": "x"},
        {"Out": ["y", "new"]},
        sub_block=1,
        is_scalar_condition=True,
    )
    return desc.run("y", "new", x=x)


def test_a_block_runs_if_its_condition_holds():
    assert [a.tolist() for a in conditional(X)] == [(2 * X).tolist(), (3 * X).tolist()]
    assert [a.tolist() for a in conditional(-X)] == [(-X).tolist(), [0, 0, 0]]


@pytest.mark.parametrize("mask", [0, 1])
def test_one_of_two_values_is_selected(mask):
    desc = Desc().var("a", [3]).var("b", [3]).var("m", [1], dtype=2)
    desc.op("select_input", {"X": ["a", "b"], "Mask": "m"}, {"Out": "y"})
    got = desc.run("y", a=X, b=-X, m=np.array([mask], np.int32))
    assert np.array_equal(got, [X, -X][mask])


@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrence_goes_from_step_to_step(reverse):
    desc = Desc().var("x", [4, 2]).var("h", [2]).inner()
    desc.op("elementwise_add", {"X": "before", "Y": "x"}, {"Out": "now"}).outer()
    inputs = {"inputs": "x", "initial_states": "h"}
    outputs = {"outputs": "now"}
    how = {"ex_states": ["before"], "states": ["now"], "reverse": reverse, "sub_block": 1}
    desc.op("recurrent", inputs, outputs, **how)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    want = x[::-1].cumsum(0)[::-1] if reverse else x.cumsum(0)
    assert np.array_equal(desc.run("now", x=x, h=np.ones(2, np.float32)), want + 1)
