"""JSON data back to Programs: everything is checked."""

import copy
import json

import numpy as np
import pytest

import noria.ir.decode
from noria.core.errors import FormatError
from noria.ir.compare import difference
from noria.ir.decode import Decoder, Fields, check_header, check_ops, typed
from noria.ir.emit import Builder
from noria.ir.encode import Encoder, json_text
from noria.ir.literals import MAX_DEPTH
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.verify import verify
from tests.ir.programs import finish, layered, nested


def data_of(program):
    encoder = Encoder(program)
    return json.loads(json_text(encoder.data(has_state=False))), encoder.constants


def decode(data, constants=None):
    return Decoder(lambda name, spec, where: constants[name]).program(data)[0]


@pytest.fixture
def data(call_op):
    return data_of(nested())[0]


def refused(data, match, where=None):
    with pytest.raises(FormatError, match=match) as told:
        decode(data)
    if where is not None:
        assert told.value.where == where
    return told.value


def put(data, path, value):
    """The data with what stands at `path` replaced; `...` as the value removes it."""
    data = copy.deepcopy(data)
    *way, last = path
    inner = data
    for step in way:
        inner = inner[step]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return data


def test_programs_come_back(call_op):
    for program in (Program("empty"), layered(), nested(3)):
        data, constants = data_of(program)
        back = decode(data, constants)
        verify(back)
        assert difference(program, back) is None
        assert data_of(back)[0] == data


def test_large_constants_are_asked_for_once_and_cannot_be_changed():
    asked = []

    def take(name, spec, where):
        asked.append((name, str(spec), where))
        return np.zeros(spec.shape, np.float32)

    program, has_state = Decoder(take).program(data_of(layered())[0])
    assert asked == [("constant/0", "float32[4, 5]", "operators[5].value")]
    assert not has_state
    assert not program.operators[5].attrs["value"].flags.writeable


def test_attributes_and_inputs_newer_than_the_file_are_absent_or_default(own_ops):
    @op
    def test_grows(x, *, k=1):
        return x

    program = Program("p")
    with Builder(program) as b:
        finish(program, out=test_grows(b.input("x", ()), k=2))
    data, _ = data_of(program)
    del own_ops["test_grows"]

    @op(name="test_grows")
    def newer(x, bias=None, *, k=1, mode="fast"):
        return x

    back = decode(data)
    verify(back)
    assert back.operators[0].inputs == (back.block.inputs[0], None)
    assert back.operators[0].attrs == {"k": 2, "mode": "fast"}
    del own_ops["test_grows"]

    @op(name="test_grows")
    def narrower(x):
        return x

    refused(data, "test_grows has no attribute 'k'", "operators[0]")


# ---- header ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, [], 3, "x", {}, {"format": "onnx"}, {"format": ["a"]}])
def test_other_kinds_of_data_are_refused(data):
    with pytest.raises(FormatError, match="not a noria Program"):
        check_header(data)


def test_a_newer_version_says_to_upgrade():
    with pytest.raises(FormatError, match="version 2 of the format") as told:
        check_header({"format": "noria-program", "version": 2})
    assert "upgrade noria" in told.value.hint and told.value.expected == "version 1"
    for version in (0, -1):
        with pytest.raises(FormatError) as told:
            check_header({"format": "noria-program", "version": version})
        assert told.value.hint == ""
    for version in ("1", True, 1.0, None):
        with pytest.raises(FormatError, match="another type"):
            check_header({"format": "noria-program", "version": version})


def test_all_unknown_ops_are_told_at_once(data):
    data["operators"][0]["op"] = "b_missing"
    data["operators"][0]["blocks"][0][1]["operators"][0]["op"] = "a_missing"
    data["state"][0]["init"]["op"] = "c_missing"
    error = refused(data, "uses 3 unknown ops")
    assert error.got == "'a_missing', 'b_missing', 'c_missing'"
    assert "import the modules" in error.hint


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"operators": 3},
        {"operators": [3, None, {"op": 5}, {"op": "tanh", "blocks": 7}]},
        {"operators": [{"op": "tanh", "blocks": [3, [], ["a"], ["a", 4], {"a": 1}]}]},
        {"state": {"op": "x"}, "operators": [{"blocks": [["a", {"operators": None}]]}]},
        {"state": [3, {"init": 4}, {"init": {"op": 5}}]},
    ],
)
def test_the_search_for_unknown_ops_bears_any_data(data):
    check_ops(data)


def test_the_number_of_operators_is_bounded(monkeypatch, data):
    monkeypatch.setattr(noria.ir.decode, "MAX_OPERATORS", 3)
    refused(data, "more than 3 operators")


# ---- fields ------------------------------------------------------------------------------------


def test_a_field_has_one_type_and_is_taken_once():
    fields = Fields({"a": 1, "b": "x", "c": []}, "place")
    assert fields.take("a", int) == 1 and fields.take("d", list, [1]) == [1]
    with pytest.raises(FormatError, match="'a' is missing"):
        fields.take("a", int)
    with pytest.raises(FormatError, match="another type") as told:
        fields.take("b", int)
    assert told.value.where == "place.b" and told.value.got == "str 'x'"
    with pytest.raises(FormatError, match="unknown field 'c'"):
        fields.end()


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], {}])
def test_an_integer_is_nothing_else(value):
    with pytest.raises(FormatError, match="another type"):
        typed(value, int, "here")


def test_half_a_character_is_no_text():
    with pytest.raises(FormatError, match="not Unicode"):
        typed("a\ud800", str, "here")
    assert typed("日本", str, "here") == "日本"


CALL = ("operators", 0)
BODY = (*CALL, "blocks", 0, 1)


@pytest.mark.parametrize(
    ("path", "value", "match", "where"),
    [
        (("name",), 3, "another type", "program.name"),
        (("name",), ..., "'name' is missing", "program"),
        (("extra",), 1, "unknown field 'extra'", "program"),
        (("has_state",), 1, "another type", "program.has_state"),
        (("inputs", 0), ["x"], "a pair is needed", "inputs"),
        (("inputs", 0, 1), "float32", "not a dtype and shape", "inputs"),
        (("inputs", 0, 1), "f4[3]", "not a dtype and shape", "inputs"),
        (("inputs", 0, 1), "float32[N+]", "cannot read a size", "inputs"),
        (("inputs", 0, 1), "float32[-1]", "out of range", "inputs"),
        (("inputs", 0, 1), "float32[4611686018427387904, 4]", "out of range", "inputs"),
        (("inputs", 0, 0), None, "another type", "inputs"),
        (("inputs", 0, 0), "w", "defined twice", "state[0]"),
        (("state", 0, "init"), [], "another type", "state[0].init"),
        (("state", 0, "init", "attrs", "value"), {}, "'float' is missing", "state[0].init.value"),
        (("state", 0, "trainable"), 0, "another type", "state[0].trainable"),
        ((*CALL, "op"), 5, "another type", "operators[0].op"),
        ((*CALL, "inputs", 0), "y", "'y' is not defined before", "operators[0]"),
        ((*CALL, "inputs", 0), 5, "another type", "operators[0]"),
        ((*CALL, "outputs", 0, 0), "x", "'x' is defined twice", "operators[0]"),
        ((*CALL, "outputs", 0), {}, "another type", "operators[0]"),
        ((*CALL, "attrs"), {"k": 1}, "no attribute 'k'", "operators[0]"),
        ((*CALL, "source"), ["a.py"], "a source is", "operators[0]"),
        ((*CALL, "source"), ["a.py", "1", "f"], "another type", "operators[0].source"),
        ((*CALL, "made_by"), 1, "another type", "operators[0].made_by"),
        ((*CALL, "blocks"), [["body", {}]], "'inputs' is missing", "operators[0].'body'"),
        ((*CALL, "blocks", 0, 0), 1, "another type", "operators[0].blocks"),
        ((*BODY, "outputs", 0), "x", "'x' is not defined", "operators[0].'body'"),
        (
            (*BODY, "operators", 0, "inputs", 0),
            "x",
            "'x' is not",
            "operators[0].'body'.operators[0]",
        ),
        (("outputs", 0, 1), "y", "'y' is not defined", "outputs"),
        (("updates",), {}, "another type", "program.updates"),
    ],
)
def test_wrong_data_is_refused_with_its_place(data, path, value, match, where):
    refused(put(data, path, value), match, where)


def test_names_in_lists_of_pairs_come_once(data):
    refused(put(data, ("outputs",), data["outputs"] * 2), "'out' is given twice", "outputs")
    twice = data["operators"][0]["blocks"] * 2
    refused(put(data, (*CALL, "blocks"), twice), "two blocks are called 'body'", "operators[0]")


# ---- attributes --------------------------------------------------------------------------------


def attribute(value):
    program = Program("p")
    with Builder(program) as b:
        finish(program, out=o.clip(b.input("x", ()), low=0.0))
    return put(data_of(program)[0], ("operators", 0, "attrs", "low"), value)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"float": "1.5"}, "not a number"),
        ({"float": "inf", "more": 1}, "unknown field 'more'"),
        ({"dim": "N+"}, "cannot read a size"),
        ({"dim": 3}, "another type"),
        ({"array": "float32[2]"}, "'data' is missing"),
        ({"array": "float32[2]", "data": [1.0]}, "bad array"),
        ({"array": "float32[1]", "data": ["a"]}, "bad array"),
        ({"array": "float32[1]", "data": [[1.0]]}, "bad array"),
        ({"array": "float32[N]", "data": [1.0]}, "bad array"),
        ({"array": "uint8[1]", "data": [256]}, "bad array"),
        ({"array": 3, "data": []}, "another type"),
        ("\ud800", "not Unicode"),
    ],
)
def test_bad_attributes_are_refused(value, match):
    assert refused(attribute(value), match).where.startswith("operators[0].low")


def test_lists_may_be_deep_but_not_endlessly():
    def deep(n):
        value = 0
        for _ in range(n):
            value = [value]
        return attribute(value)

    decode(deep(MAX_DEPTH))
    refused(deep(MAX_DEPTH + 1), "lists inside each other")


def test_blocks_may_be_deep_but_not_endlessly(data):
    def deep(n):
        empty = {"inputs": [], "operators": [], "outputs": []}
        block = empty
        for _ in range(n):
            operator = {"op": "test_call", "inputs": [], "outputs": [], "attrs": {}}
            block = empty | {"operators": [operator | {"blocks": [["body", block]]}]}
        return put(data, ("operators",), block["operators"]) | {"outputs": []}

    decode(deep(MAX_DEPTH))
    refused(deep(MAX_DEPTH + 1), "blocks inside each other")
