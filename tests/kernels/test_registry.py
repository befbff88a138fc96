"""Which kernel runs an op, what is told about those that do not, and layouts of memory."""

import numpy as np
import pytest

from noria.core.errors import MissingError
from noria.core.flags import flags
from noria.ir.program import Operator, Value
from noria.kernels import library, registry
from noria.kernels.registry import (
    LAST,
    PLAIN,
    Array,
    Declined,
    Kernel,
    choose,
    enabled_engines,
    kernels,
    register,
    same_memory,
    strides_of,
)

_registered = library  # importing it is enough


class Fake(Kernel):
    def __init__(self, name, *ops, reason=None):
        self.name, self.ops, self.reason = name, ops, reason

    def accepts(self, op):
        if self.reason:
            raise Declined(self.reason)


@pytest.fixture
def empty(monkeypatch):
    """A registry without kernels; what a test registers is forgotten after it."""
    monkeypatch.setattr(registry, "_kernels", [])
    monkeypatch.setattr(registry, "_index", (-1, {}))


def an_op(name="relu"):
    return Operator(name, (Value("x", (2, 3)),), (Value("y", (2, 3)),))


# ---- choosing ----------------------------------------------------------------------------------


def test_the_first_that_accepts_is_chosen_and_the_rest_stand_by(empty):
    names = ["a:no", "a:first", "b:second", "a:third"]
    no, first, second, third = (
        register(Fake(n, "relu", reason="rank of x must be 4" if n == "a:no" else None))
        for n in names
    )
    choice = choose(an_op(), frozenset({"a", "b"}))
    assert choice.kernel is first and choice.others == [second, third]
    assert choice.refused == [("a:no", "rank of x must be 4")]
    assert kernels() == [no, first, second, third]


def test_the_highest_priority_is_asked_first_whatever_the_order_of_registration(empty):
    general, special = Fake("a:general", "relu"), Fake("b:special", "relu")
    special.priority = 1
    register(general)
    assert choose(an_op(), frozenset({"a", "b"})).kernel is general
    register(special)
    choice = choose(an_op(), frozenset({"a", "b"}))
    assert choice.kernel is special and choice.others == [general]
    assert kernels() == [special, general]


def test_engines_and_single_kernels_can_be_enabled(empty):
    a, b = register(Fake("a:one", "relu")), register(Fake("b:two", "relu"))
    choice = choose(an_op(), frozenset({"b"}))
    assert choice.kernel is b and choice.refused == [("a:one", "switched off")]
    assert choose(an_op(), frozenset({"a:one"})).kernel is a
    assert choose(an_op(), frozenset({"a:two"})).kernel is None


def test_without_a_kernel_the_reference_is_left(empty):
    register(Fake("a:one", "relu", reason="never"))
    choice = choose(an_op(), frozenset({"a"}))
    assert choice.kernel is None and choice.others == [] and choice.refused == [("a:one", "never")]
    other = choose(an_op("tanh"), frozenset({"a"}))
    assert other.kernel is None and other.refused == []


def test_a_kernel_registered_later_is_asked_too(empty):
    assert choose(an_op(), frozenset({"a"})).kernel is None
    late = register(Fake("a:late", "tanh", "relu"))
    assert choose(an_op(), frozenset({"a"})).kernel is late
    assert choose(an_op("tanh"), frozenset({"a"})).kernel is late


def test_errors_of_a_kernel_are_not_taken_for_declining(empty):
    class Broken(Fake):
        def accepts(self, op):
            raise ZeroDivisionError

    register(Broken("a:broken", "relu"))
    with pytest.raises(ZeroDivisionError):
        choose(an_op(), frozenset({"a"}))


def test_the_list_of_kernels_is_a_copy(empty):
    kernels().append(Fake("a:one", "relu"))
    assert kernels() == []


# ---- the flag ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "engines"),
    [
        ("all", {"a", "b"}),
        ("reference", set()),
        ("a", {"a"}),
        (" a , b,reference", {"a", "b"}),
        ("reference,b", {"b"}),
    ],
)
def test_the_flag_names_engines(empty, text, engines):
    for name in ("a:one", "a:two", "b:one"):
        register(Fake(name, "relu"))
    with flags.set(kernels=text):
        assert enabled_engines() == engines


def test_an_unknown_engine_is_told_with_the_nearest(empty):
    register(Fake("onednn:conv", "conv"))
    with (
        flags.set(kernels="onednnn"),
        pytest.raises(MissingError, match=r"unknown engine 'onednnn'\n.*did you mean 'onednn'"),
    ):
        enabled_engines()


def test_the_library_registers_kernels_of_distinct_names_with_ops():
    names = [k.name for k in kernels()]
    assert len(set(names)) == len(names) and all(k.ops for k in kernels())
    assert {k.engine for k in kernels()} == {"onednn", "numba"}


def test_the_base_kernel_takes_plain_memory_and_leaves_binding_to_others():
    op = Operator("linear", (Value("x", (2, 3)), None), (Value("y", (2, 3)), Value("z", ())))
    assert Kernel().accepts(op) is None
    assert Kernel().layout(op, [LAST, None]) == ([PLAIN, None], [PLAIN, PLAIN])
    with pytest.raises(NotImplementedError):
        Kernel().bind(None)


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5), (2, 1, 4, 5, 6)])
def test_plain_strides_are_those_of_numpy(shape):
    assert strides_of(shape, PLAIN) == np.zeros(shape, np.int8).strides
    if len(shape) <= 2:
        assert strides_of(shape, LAST) == strides_of(shape, PLAIN)


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5), (1, 1, 1), (2, 3, 4, 5, 6)])
def test_channels_last_keeps_axis_1_innermost(shape):
    channels = np.moveaxis(np.zeros((shape[0], *shape[2:], shape[1]), np.int8), -1, 1)
    assert channels.shape == shape and strides_of(shape, LAST) == channels.strides


@pytest.mark.parametrize("layout", [PLAIN, LAST])
def test_strides_of_nothing_are_not_zero(layout):
    assert all(strides_of((2, 0, 3, 0), layout))


def test_axes_of_one_element_do_not_matter_to_memory():
    assert same_memory((2, 1, 3), (3, 3, 1), (3, 99, 1))
    assert not same_memory((2, 2, 3), (6, 3, 1), (6, 1, 2))
    assert same_memory((), (), ())
    flat = (5, 1, 4, 4)
    assert same_memory(flat, strides_of(flat, PLAIN), strides_of(flat, LAST))


def test_an_array_knows_its_size_and_whether_it_has_gaps():
    x = Array((2, 3), "bfloat16", (3, 1))
    assert (x.size, x.nbytes, x.dense) == (6, 12, True)
    assert not Array((2, 3), "float32", (1, 2)).dense
    assert not Array((2, 3), "float32", (4, 1)).dense
    assert Array((2, 1), "float32", (1, 7)).dense
    scalar, nothing = Array((), "int64", ()), Array((4, 0), "float64", (1, 1))
    assert (scalar.size, scalar.nbytes, scalar.dense) == (1, 8, True)
    assert (nothing.size, nothing.nbytes) == (0, 0)
