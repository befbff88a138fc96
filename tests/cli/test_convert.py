from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from noria import ops
from noria.cli.convert import command
from noria.convert.onnx.writer import save as save_onnx
from noria.ir.save import load, save
from noria.ir.trace import spec, trace
from noria.runtime.executor import Executor
from noria.zoo.resnet import resnet18

onnx = pytest.importorskip("onnx")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """x float32[N, T], by float32 -> y, z"""

    def fn(x, by):
        return {"y": ops.relu(x) * by, "z": x + by}

    path = tmp_path / "small.onnx"
    save_onnx(trace(fn, x=spec("N", "T"), by=spec()), path, {})
    return path


def test_onnx_becomes_a_program_that_can_be_shown(noria, small: Path, tmp_path: Path) -> None:
    ran = noria("convert", small, tmp_path / "m.noria")
    assert ran.code == 0, ran.err
    assert "m.noria: 3 operators, 0 arrays" in ran.out
    assert "input   x     float32[N, T]" in ran.out
    assert noria("show", tmp_path / "m.noria").code == 0


def test_constants_shapes_and_outputs_are_as_wished(noria, small: Path, tmp_path: Path) -> None:
    wishes = ("--constant", "by=2.0", "--input", "x=N,3", "--output", "y")
    ran = noria("convert", small, tmp_path / "m.noria", *wishes)
    assert ran.code == 0, ran.err
    program, _ = load(tmp_path / "m.noria")
    assert [str(v) for v in program.inputs.values()] == ["float32[N, 3]"]
    assert list(program.outputs) == ["y"]


def test_a_trained_model_becomes_onnx_and_is_checked(noria, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ran = noria("convert", model, tmp_path / "m.onnx", "--check", "--size", "N=3", "--opset", 20)
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    found = {
        line[0]: float(line[1]) for line in lines if line and line[0] in OUTPUTS and len(line) == 3
    }
    assert found.keys() == OUTPUTS and max(found.values()) < 1e-5
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 20


OUTPUTS = {"loss", "accuracy", "logits"}


def test_an_onnx_source_is_checked_too(noria, small: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    ran = noria("convert", small, tmp_path / "m.noria", "--check", "--size", "N=2", "--size", "T=3")
    assert ran.code == 0, ran.err
    assert "largest difference" in ran.out


def test_weights_go_into_a_model_of_the_zoo(noria, tmp_path: Path) -> None:
    program = trace(lambda x: {"y": resnet18(4)(x)}, x=spec("N", 3, "H", "W"))
    state = Executor(program, seed=0).scope.state()
    safetensors.numpy.save_file(state, tmp_path / "w.safetensors")
    ran = noria("convert", tmp_path / "w.safetensors", tmp_path / "m", "--model", "resnet18")
    assert ran.code == 0, ran.err
    _, arrays = load(tmp_path / "m")
    np.testing.assert_array_equal(arrays["fc.weight"], state["fc.weight"])
    ran = noria("convert", tmp_path / "w.safetensors", tmp_path / "m")
    assert ran.code == 1 and "--model resnet18" in ran.err


def test_a_caffe_network_is_two_files(noria, tmp_path: Path) -> None:
    text = 'input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 3 '
    text += 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    (tmp_path / "n.prototxt").write_text(text)
    ran = noria("convert", tmp_path / "n.prototxt", tmp_path / "m.noria", "--input", "x=5,2,H,W")
    assert ran.code == 0, ran.err
    assert "float32[5, 2, H, W]" in ran.out


def test_missing_operators_are_all_told_and_nothing_is_written(noria, tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node(n, ["x"], ["y"], domain="my") for n in ("Foo", "Bar")]
    nodes[1].output[0] = "z"
    info = [onnx.helper.make_tensor_value_info(n, 1, [2]) for n in "xyz"]
    graph = onnx.helper.make_graph(nodes, "g", info[:1], info[1:])
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("my", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets), tmp_path / "m.onnx")
    ran = noria("convert", tmp_path / "m.onnx", tmp_path / "m.noria")
    assert ran.code == 1 and "my.Bar" in ran.err and "my.Foo" in ran.err
    assert not (tmp_path / "m.noria").exists()


@pytest.mark.parametrize(
    "arguments, what",
    [
        (["no.onnx", "m.noria"], "no such file"),
        (["small.onnx", "m.txt"], "nothing is known that ends so"),
        (["small.onnx", "m.noria", "--constant", "by"], "not a constant"),
        (["small.onnx", "m.noria", "--constant", "by=x"], "not a number"),
        (["small.onnx", "m.noria", "--input", "x"], "not a shape"),
        (["small.onnx", "m.noria", "--model", "resnet18"], "--model is for PyTorch's weights"),
        (["small.onnx", "m.onnx", "--opset", "99"], "no such version"),
        (["s.noria", "m.noria", "--check"], "--check compares with an ONNX file"),
    ],
)
def test_mistakes_are_told(noria, small: Path, arguments: list[str], what: str) -> None:
    save(trace(lambda x: {"y": ops.relu(x)}, x=spec(2)), small.parent / "s.noria", {})
    places = [
        a if a.startswith("--") or "=" in a or "." not in a else small.parent / a for a in arguments
    ]
    ran = noria("convert", *places)
    assert ran.code == 1 and what in ran.err
    assert not (small.parent / "m.noria").exists()


def test_help_has_an_example_for_each_format(noria) -> None:
    out = noria("convert", "--help").out
    for text in ("model.onnx model.noria", "net.caffemodel", "predict_net.pb", ".pdmodel", ".pth"):
        assert text in out


def test_models_folders_and_names_of_the_zoo_complete(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.txt", "w.pth"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    sources = next(p for p in command.params if p.name == "sources")
    found = sources.type.shell_complete(None, sources, f"{tmp_path}/")  # type: ignore[arg-type]
    names = [Path(item.value).name for item in found]
    assert names == ["a.onnx", "folder", "w.pth"]
    model = next(p for p in command.params if p.name == "model")
    items = model.type.shell_complete(None, model, "resnet1")  # type: ignore[arg-type]
    assert [item.value for item in items] == ["resnet18", "resnet101", "resnet152"]
