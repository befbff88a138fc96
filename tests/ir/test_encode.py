"""Programs as JSON data."""

import json

import numpy as np

from noria.core.dims import symbol
from noria.core.trace import Source
from noria.ir.emit import Builder
from noria.ir.encode import FORMAT, VERSION, Encoder, json_text
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Program
from tests.ir.programs import finish, layered, nested


def test_the_data_of_a_program():
    encoder = Encoder(layered())
    data = encoder.data(has_state=True)
    assert (data["format"], data["version"], data["name"]) == (FORMAT, VERSION, "layered")
    assert data["has_state"] is True
    assert data["inputs"] == [["x", "float32[N, 6]"]]
    assert data["state"][0] == {
        "name": "fc.weight",
        "spec": "float32[6, 4]",
        "trainable": True,
        "init": {"op": "fill", "attrs": {"value": 0.5}},
    }
    matmul, _, clip = data["operators"][:3]
    assert matmul["inputs"] == ["x", "fc.weight"] and "made_by" not in matmul
    assert matmul["outputs"] == [["matmul", "float32[N, 4]"]]
    assert clip["attrs"] == {"low": -0.25, "high": {"float": "inf"}}
    assert data["outputs"] == [["out", "matmul_1"], ["size", "fill"]]
    assert data["updates"] == [["fc.weight", "mul"], ["step", "add_1"]]


def test_constants_are_beside_the_program_when_large():
    encoder = Encoder(layered())
    values = [
        r["attrs"]["value"] for r in encoder.data(False)["operators"] if "constant" in r["op"]
    ]
    assert values[0]["array"] == "float32[4]" and values[0]["data"][2] == {"float": "nan"}
    assert values[1] == {"array": "float32[4, 5]", "tensor": "constant/0"}
    np.testing.assert_array_equal(
        encoder.constants["constant/0"], np.arange(20, dtype=np.float32).reshape(4, 5)
    )


def test_a_constant_never_takes_the_name_of_a_state():
    program = Program("p")
    with Builder(program) as b:
        w = b.state("constant/0", (20,))
        finish(program, out=o.add(w, np.ones(20, np.float32)))
    encoder = Encoder(program)
    encoder.data(True)
    assert list(encoder.constants) == ["constant/1"]


def test_attributes_of_every_kind():
    encoder = Encoder(Program("p"))
    T = symbol("T")
    pairs = [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("a", "a"),
        ((1, (2, "b")), [1, [2, "b"]]),
        (2 * T + 1, {"dim": "2*T+1"}),
        ((T, float("-inf")), [{"dim": "T"}, {"float": "-inf"}]),
        (np.array([[True]]), {"array": "bool[1, 1]", "data": [True]}),
    ]
    for value, data in pairs:
        assert encoder.attr(value) == data


def test_sources_say_nothing_of_the_machine(tmp_path, monkeypatch):
    program = Program("p")
    user = Operator("", (), (), source=Source(str(tmp_path / "sub" / "model.py"), 7, "forward"))
    with Builder(program) as b, b.on_behalf_of(user, "grad"):
        finish(program, out=o.tanh(b.input("x", ())))
    monkeypatch.chdir(tmp_path)
    (record,) = Encoder(program).data(False)["operators"]
    assert record["source"] == ["sub/model.py", 7, "forward"] and record["made_by"] == "grad"


def test_the_text_has_one_declaration_or_operator_a_line(call_op):
    data = Encoder(nested()).data(False)
    text = json_text(data)
    assert json.loads(text) == data
    lines = [line.strip() for line in text.splitlines()]
    assert '["x", "float32[N]"]' in lines
    operators = [line for line in lines if line.startswith('{"op"')]
    assert len(operators) == 6 and operators[1].startswith('{"op": "mul", "inputs": ["x_1", "w_1"]')


def test_text_is_ascii():
    program = Program("né")
    with Builder(program) as b:
        finish(program, **{"日本": b.input("été", ())})
    text = json_text(Encoder(program).data(False))
    assert text.isascii() and json.loads(text)["outputs"] == [["日本", "été"]]
