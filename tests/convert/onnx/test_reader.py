"""Models become Programs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from noria import Executor, Predictor, optim
from noria.convert.handlers import NeedsConstant
from noria.convert.onnx import load
from noria.core.errors import DTypeError, FormatError, MissingError, ShapeError
from noria.runtime.scope import Scope

onnx = pytest.importorskip("onnx")
X = {"x": ("f4", ["N", 3])}
W = np.arange(6, dtype="f4").reshape(3, 2)


def run(model: Any, *args: Any, **feeds: Any) -> Any:
    program, state = load(model.SerializeToString(), *args)
    return Predictor(program, state)(**feeds)


def test_weights_are_state_under_their_names(build: Any) -> None:
    model = build([("MatMul", ["x", "fc.w"], ["a"]), ("Relu", ["a"], ["y"])], X, ["y"], {"fc.w": W})
    program, state = load(model.SerializeToString())
    assert list(program.state) == ["fc.w"]
    assert str(program.inputs["x"]) == "float32[N, 3]"
    x = np.ones((2, 3), "f4")
    assert np.array_equal(Predictor(program, state)(x=x), x @ W)


def test_weights_are_trained_but_statistics_are_not(build: Any) -> None:
    rows = {n: np.full(2, v, "f4") for n, v in (("scale", 1), ("bias", 0), ("mean", 3), ("var", 2))}
    nodes = [("MatMul", ["x", "w"], ["a"]), ("BatchNormalization", ["a", *rows], ["b"])]
    nodes += [("ReduceMean", ["b"], ["loss"])]
    nodes = [
        onnx.helper.make_node(*n, **({"keepdims": 0} if "loss" in n[2] else {})) for n in nodes
    ]
    model = build(nodes, X, ["loss"], {"w": W, **rows})
    program, state = load(model.SerializeToString())
    assert list(program.parameters()) == ["w", "scale", "bias"]
    training = optim.SGD(0.1).minimize(program)
    trainer = Executor(training, Scope().initialize(training, values=state))
    losses = [float(trainer.run({"x": np.ones((4, 3), "f4")})["loss"]) for _ in range(2)]
    assert losses[1] < losses[0]


def test_a_path_and_external_data(build: Any, tmp_path: Path) -> None:
    model = build([("MatMul", ["x", "w"], ["y"])], X, ["y"], {"w": W})
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    program, state = load(path)
    assert np.array_equal(state["w"], W)
    assert list(program.outputs) == ["y"]
    with pytest.raises(FormatError, match="load the model by its path"):
        load(path.read_bytes())


def test_a_fixed_input_and_a_fixed_size_are_no_inputs_any_more(build: Any) -> None:
    specs = {"x": ("f4", ["N", 3]), "y": ("f4", ["N", 3])}
    model = build([("Add", ["x", "y"], ["z"])], specs, ["z"]).SerializeToString()
    program, _ = load(model, {"y": np.ones((4, 3), "f4")})
    assert [str(v) for v in program.inputs.values()] == ["float32[4, 3]"]
    program, _ = load(model, sizes={"N": 2})
    assert [str(v) for v in program.inputs.values()] == ["float32[2, 3]"] * 2
    with pytest.raises(MissingError, match="no input 'q'"):
        load(model, {"q": 1})


def test_what_is_fixed_must_fit_the_model(build: Any) -> None:
    nodes = [("Reshape", ["x", "to"], ["y"])]
    model = build(nodes, X | {"to": ("i8", [2])}, ["y"]).SerializeToString()
    program, _ = load(model, {"to": [3, -1]})
    assert str(program.outputs["y"]) == "float32[3, N]"
    with pytest.raises(MissingError, match=r"size 'M'(.|\n)*one of N"):
        load(model, {"to": [3, -1]}, {"M": 4})
    with pytest.raises(ShapeError, match=r"input 'to'(.|\n)*\[2\](.|\n)*\[3\]"):
        load(model, {"to": np.array([1, 3, -1])})
    with pytest.raises(DTypeError, match=r"expected int64(.|\n)*got      float64"):
        load(model, {"to": [3.0, -1.0]})
    with pytest.raises(ShapeError, match=r"input 'x'(.|\n)*\[N, 3\]"):
        load(model, {"x": np.zeros((2, 4), "f4")})


def test_a_node_with_too_many_or_too_few_inputs_says_so(build: Any) -> None:
    few = build([("Add", ["x"], ["y"])], X, ["y"]).SerializeToString()
    with pytest.raises(FormatError, match=r"Add 'y'(.|\n)*expected 2(.|\n)*got      1: x"):
        load(few)
    many = build([("Clip", ["x", "x", "", "x"], ["y"])], X, ["y"]).SerializeToString()
    with pytest.raises(FormatError, match=r"expected 1 to 3(.|\n)*got      4: x, x, none, x"):
        load(many)


def test_an_input_of_unknown_rank_must_be_given(build: Any) -> None:
    model = build([("Relu", ["x"], ["y"])], {"x": ("f4", None)}, ["y"])
    with pytest.raises(NeedsConstant) as caught:
        load(model.SerializeToString())
    assert caught.value.inputs == ("x",)
    assert run(model, {"x": np.array([-1, 2], "f4")}).tolist() == [0, 2]


def function(name: str, nodes: list[Any]) -> Any:
    return onnx.helper.make_function(
        "lab",
        name,
        ["a"],
        ["b"],
        nodes,
        [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("lab", 1)],
    )


def test_functions_of_the_model_are_called(build: Any) -> None:
    node = onnx.helper.make_node
    twice = function("Twice", [node("Add", ["a", "a"], ["b"])])
    four = function(
        "Four",
        [node("Twice", ["a"], ["c"], domain="lab"), node("Twice", ["c"], ["b"], domain="lab")],
    )
    model = build(
        [node("Four", ["x"], ["y"], domain="lab")],
        X,
        ["y"],
        functions=[twice, four],
        opsets=[onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("lab", 1)],
    )
    assert run(model, x=np.ones((1, 3), "f4")).tolist() == [[4, 4, 4]]


OPSETS = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("lab", 1)]


def chain(build: Any, length: int, last: str) -> bytes:
    """F0 calls F1 twice, F1 calls F2 twice, ... and the last function something else."""
    node = onnx.helper.make_node
    functions = []
    for i in range(length):
        name, domain = (f"F{i + 1}", "lab") if i + 1 < length else (last, "lab" * (last[0] == "F"))
        made = [node(name, [a], [b], domain=domain) for a, b in (("a", "c"), ("c", "b"))]
        functions.append(function(f"F{i}", made))
    top = node("F0", ["x"], ["y"], domain="lab")
    return build([top], X, ["y"], functions=functions, opsets=OPSETS).SerializeToString()


def test_functions_that_call_each_other_without_end_are_an_error(build: Any) -> None:
    load(chain(build, 3, "Relu"))
    with pytest.raises(FormatError, match="calls itself"):
        load(chain(build, 3, "F0"))


def test_functions_inside_each_other_too_deep_are_an_error(build: Any) -> None:
    with pytest.raises(FormatError, match="too deep"):
        load(chain(build, 5_000, "Relu"))


def test_functions_that_double_fifty_times_are_counted_before_anything_is_done(build: Any) -> None:
    with pytest.raises(FormatError, match="too many nodes"):
        load(chain(build, 50, "Relu"))


def test_a_symbolic_size_that_must_be_a_number_can_be_fixed(build: Any) -> None:
    nodes = [("Shape", ["x"], ["s"]), ("CumSum", ["x", "n"], ["y"])]
    gather = onnx.helper.make_node("Gather", ["s", "zero"], ["n"])
    model = build([nodes[0], gather, nodes[1]], X, ["y"], {"zero": np.array(0)})
    with pytest.raises(NeedsConstant, match="sizes=") as caught:
        load(model.SerializeToString())
    assert "'N': ..." in str(caught.value)
    assert load(model.SerializeToString(), sizes={"N": 1})[0].outputs


def test_errors_name_the_node(build: Any) -> None:
    model = build([("Relu", ["x", "x", "x"], ["y"])], X, ["y"])
    with pytest.raises(FormatError, match="Relu 'y'"):
        load(model.SerializeToString())
