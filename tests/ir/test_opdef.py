"""The schema of an op and what is derived from it."""

import inspect

import numpy as np
import pytest

from noria.core.errors import ArgumentError, MissingError, ProgramError
from noria.core.shapes import Check
from noria.ir.opdef import OpDef, collect_checks, lookup, note_checks, op, registry, vocabulary
from noria.ir.program import Spec


@pytest.fixture
def scale(own_ops):
    @op(outputs=("out", "norm"))
    def test_scale(x, w, bias=None, *, factor, axes=(0, 1), dtype="float32"):
        """x * factor."""
        return Spec(x.shape, dtype), Spec((), x.dtype)

    @test_scale.compute
    def _(xp, x, w, bias, factor, axes, dtype):
        return x * factor, xp.sqrt((x * x).sum())

    return test_scale


def test_the_signature_is_the_schema(scale):
    assert [(i.name, i.optional, i.variadic) for i in scale.inputs] == [
        ("x", False, False),
        ("w", False, False),
        ("bias", True, False),
    ]
    assert scale.attrs == {
        "factor": inspect.Parameter.empty,
        "axes": (0, 1),
        "dtype": "float32",
    }
    assert not scale.variadic
    assert scale.__doc__ == "x * factor."
    assert str(scale.__signature__) in repr(scale)


def test_variadic_inputs_and_blocks_are_told_from_attributes(own_ops):
    @op(blocks=("body",))
    def test_loop(n, *xs, body, limit=3):
        return list(xs)

    assert [i.name for i in test_loop.inputs] == ["n", "xs"]
    assert test_loop.variadic
    assert list(test_loop.attrs) == ["limit"]
    assert test_loop.input_names(4) == ["n", "xs[0]", "xs[1]", "xs[2]"]
    assert test_loop.input_names(1) == ["n"]


def test_open_keywords_are_refused(own_ops):
    with pytest.raises(ProgramError, match="attributes must be named"):

        @op
        def test_open(x, **options):
            return x


def test_defaults_are_filled_in(scale):
    assert scale.bind_attrs({"factor": 2}) == {"factor": 2, "axes": (0, 1), "dtype": "float32"}


def test_attributes_become_plain_data(scale):
    got = scale.bind_attrs({"factor": np.float32(0.5), "axes": [[1, np.int64(2)]], "dtype": float})
    assert got == {"factor": 0.5, "axes": ((1, 2),), "dtype": "float32"}
    assert type(got["factor"]) is float and type(got["axes"][0][1]) is int
    assert scale.bind_attrs({"factor": 1, "dtype": np.dtype("int8")})["dtype"] == "int8"


def test_unknown_and_missing_attributes_are_named(scale):
    with pytest.raises(ArgumentError, match="no attribute 'facto'") as told:
        scale.bind_attrs({"facto": 1})
    assert "factor" in told.value.hint
    with pytest.raises(ArgumentError, match="needs the attribute 'factor'"):
        scale.bind_attrs({})


def test_inference_and_computation_give_tuples(scale):
    attrs = scale.bind_attrs({"factor": 2})
    specs = scale.infer([Spec((3,)), Spec(()), None], attrs)
    assert specs == (Spec((3,)), Spec(()))
    out, norm = scale.run(np, [np.array([3.0, 4.0]), None, None], attrs)
    np.testing.assert_array_equal(out, [6.0, 8.0])
    assert norm == 5.0


def test_an_op_without_computation_says_so(own_ops):
    @op
    def test_bare(x):
        return x

    assert test_bare.infer([Spec((2,))], {}) == (Spec((2,)),)
    with pytest.raises(ProgramError, match="no compute function"):
        test_bare.run(np, [np.zeros(2)], {})


def test_a_name_is_defined_once(scale):
    with pytest.raises(ProgramError, match="already defined"):
        op(lambda x: x, name="test_scale")


def test_an_unknown_effect_is_refused(own_ops):
    with pytest.raises(ArgumentError, match="unknown effect 'magic'") as told:
        op(lambda x: x, name="test_magic", effect="magic")
    assert told.value.expected == "pure, random, ordered"
    assert "test_magic" not in registry


def test_unknown_ops_are_met_with_the_nearest_names():
    with pytest.raises(MissingError, match="unknown op 'tahn'") as told:
        lookup("tahn")
    assert "'tanh'" in told.value.hint
    assert vocabulary.tanh is lookup("tanh")


def test_checks_are_collected_only_where_asked():
    note_checks([Check(1, 1, "nobody listens")])
    outer: list[Check] = []
    with collect_checks(outer):
        note_checks([Check(2, 2, "outer")])
        with collect_checks([]) as inner:
            note_checks([Check(3, 3, "inner")])
        note_checks([Check(4, 4, "outer again")])
    assert [c.where for c in inner] == ["inner"]
    assert [c.where for c in outer] == ["outer", "outer again"]


def test_a_name_a_gradient_rule_would_take_for_something_else_is_refused() -> None:
    definition = OpDef(lambda g, out: g, name="clash")
    with pytest.raises(ProgramError, match="input or attribute called"):
        definition.grad(lambda g: g)
