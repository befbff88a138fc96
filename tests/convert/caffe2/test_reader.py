"""Whole Caffe2 models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from noria.convert.caffe2.reader import load
from noria.convert.handlers import UnsupportedOperators
from noria.convert.messages import schema
from noria.core.errors import FormatError, MissingError
from noria.ir.program import Spec
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope

RNG = np.random.default_rng(1)


def given(net: Any, name: str, array: np.ndarray) -> None:
    message = net.op.add(type="GivenTensorFill", output=[name])
    message.arg.add(name="shape").ints.extend(array.shape)
    message.arg.add(name="values").floats.extend(array.ravel().tolist())


def add(net: Any, kind: str, inputs: str, outputs: str, **args: int) -> None:
    message = net.op.add(type=kind, input=inputs.split(), output=outputs.split())
    for name, value in args.items():
        message.arg.add(name=name).i = value


def layer() -> tuple[Any, Any, dict[str, np.ndarray]]:
    """A fully connected layer that halves its weight in every step, as init and predict nets."""
    arrays = {"w": RNG.normal(size=(3, 4)).astype("f4"), "b": RNG.normal(size=3).astype("f4")}
    init, predict = schema("caffe2").NetDef(name="init"), schema("caffe2").NetDef(name="layer")
    for name, array in arrays.items():
        given(init, name, array)
    add(predict, "FC", "x w b", "y")
    add(predict, "Tanh", "y", "y")
    predict.op.add(type="Scale", input=["w"], output=["w"]).arg.add(name="scale").f = 0.5
    predict.external_input.extend(["x", "w", "b"])
    predict.external_output.append("y")
    return init, predict, arrays


def test_a_blob_that_is_assigned_again_is_another_value_and_state_is_updated() -> None:
    init, predict, arrays = layer()
    program, state = load(init, predict, {"x": ("N", 4)})
    assert program.name == "layer" and program.parameters().keys() == {"w", "b"}
    executor = Executor(program, Scope().initialize(program, values=state))
    x = RNG.normal(size=(2, 4)).astype("f4")
    for scale in (1.0, 0.5):
        want = np.tanh(x @ (scale * arrays["w"]).T + arrays["b"])
        assert np.allclose(executor.run({"x": x})["y"], want, atol=1e-5)


def test_files_may_be_binary_or_text_and_tell_the_inputs(tmp_path: Path) -> None:
    init, predict, _ = layer()
    (tmp_path / "init.pb").write_bytes(init.SerializeToString())
    (tmp_path / "predict.pbtxt").write_text(text_format.MessageToString(predict))
    (tmp_path / "value_info.json").write_text(json.dumps({"x": [1, [5, 4]]}))
    program, state = load(tmp_path / "init.pb", tmp_path / "predict.pbtxt")
    assert program.inputs["x"].shape == (5, 4) and set(state) == {"w", "b"}
    (tmp_path / "value_info.json").write_text('{"x": 3}')
    with pytest.raises(FormatError, match="table of inputs"):
        load(tmp_path / "init.pb", tmp_path / "predict.pbtxt")


def test_an_init_net_may_draw_and_compute() -> None:
    init, predict = schema("caffe2").NetDef(), schema("caffe2").NetDef()
    init.op.add(type="XavierFill", output=["w"]).arg.add(name="shape").ints.extend([3, 4])
    given(init, "row", np.array([1.0, 2.0, 3.0], "f4"))
    add(init, "Scale", "row", "b")
    add(predict, "FC", "x w b", "y")
    program, state = load(init, predict, {"x": (2, 4)})
    assert program.state["w"].init[0] == "uniform" and state["b"].tolist() == [1, 2, 3]
    drawn = Executor(program, Scope().initialize(program, 0, state)).scope["w"]
    assert 0 < np.abs(drawn).max() <= np.sqrt(3 / 4)


def test_all_missing_operators_and_inputs_are_told_at_once() -> None:
    net = schema("caffe2").NetDef()
    add(net, "Relux", "a", "b")
    add(net, "Tangh", "b c", "d")
    with pytest.raises(UnsupportedOperators) as error:
        load(None, net)
    assert error.value.operators == ["Relux", "Tangh"]
    net = schema("caffe2").NetDef()
    add(net, "Add", "a c", "d")
    with pytest.raises(MissingError, match="a, c"):
        load(None, net)


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x12\xff\xff\xff\x07abc", b"\x0a" * 9])
def test_bytes_that_are_no_net_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="not a NetDef"):
        load(None, data, {})


def test_truncated_files_are_refused_or_told_what_is_missing(tmp_path: Path) -> None:
    init, predict, _ = layer()
    data = init.SerializeToString()
    for end in range(0, len(data), 7):
        with pytest.raises((FormatError, MissingError)):
            load(data[:end], predict, {"x": (2, 4)})


def test_an_init_net_that_computes_too_much_is_refused() -> None:
    init, predict = schema("caffe2").NetDef(), schema("caffe2").NetDef()
    given(init, "a", np.ones((1, 1), "f4"))
    add(init, "Tile", "a", "b", tiles=1 << 36)
    add(predict, "Add", "x b", "y")
    with pytest.raises(FormatError, match="too much"):
        load(init, predict, {"x": (1, 1)})


def test_nets_nested_too_deep_are_refused() -> None:
    net = inner = schema("caffe2").NetDef()
    for _ in range(80):
        inner = inner.op.add(type="Do", input=["x"], output=["y"]).arg.add(name="net").n
    with pytest.raises(FormatError):
        load(None, net, {"x": (1,)})


def plain_conv(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    """A 3 x 3 convolution with padding 1, by windows."""
    around = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = np.lib.stride_tricks.sliding_window_view(around, (3, 3), (2, 3))
    return np.einsum("nchwij,ocij->nohw", seen, w) + b[:, None, None]


def test_a_small_convolutional_network_gives_the_same_numbers() -> None:
    init, predict = schema("caffe2").NetDef(), schema("caffe2").NetDef(name="cnn")
    shapes = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (4, 6, 3, 3), "b2": (4,)}
    shapes |= {"scale": (4,), "bias": (4,), "mean": (4,), "fc_w": (5, 64), "fc_b": (5,)}
    arrays = {n: RNG.normal(size=s).astype("f4") * np.float32(0.3) for n, s in shapes.items()}
    arrays["var"] = RNG.uniform(0.5, 2, 4).astype("f4")
    for name, array in arrays.items():
        given(init, name, array)
    add(predict, "Conv", "data w1 b1", "x", kernel=3, pad=1)
    add(predict, "Relu", "x", "x")
    add(predict, "MaxPool", "x", "x", kernel=2, stride=2)
    add(predict, "Conv", "x w2 b2", "x", kernel=3, pad=1)
    add(predict, "SpatialBN", "x scale bias mean var", "x", is_test=1)
    add(predict, "FC", "x fc_w fc_b", "x")
    add(predict, "Softmax", "x", "prob")
    program, state = load(init, predict, {"data": ("N", 3, 8, 8)})
    assert program.parameters().keys() == arrays.keys() - {"mean", "var"}
    data = RNG.normal(size=(2, 3, 8, 8)).astype("f4")
    got = Executor(program, Scope().initialize(program, values=state)).run({"data": data})["prob"]
    a = arrays
    x = np.maximum(plain_conv(data, a["w1"], a["b1"]), 0).reshape(2, 6, 4, 2, 4, 2).max((3, 5))
    x = plain_conv(x, a["w2"], a["b2"])
    at = (slice(None), None, None)
    x = (x - a["mean"][at]) / np.sqrt(a["var"][at] + 1e-5) * a["scale"][at] + a["bias"][at]
    logits = x.reshape(2, 64) @ a["fc_w"].T + a["fc_b"]
    want = np.exp(logits - logits.max(1, keepdims=True))
    assert np.allclose(got, want / want.sum(1, keepdims=True), atol=1e-5)


def test_a_training_net_trains_as_its_formulas_say() -> None:
    init, net = schema("caffe2").NetDef(), schema("caffe2").NetDef(name="train")
    w, b = RNG.normal(size=(3, 4)).astype("f4"), np.zeros(3, "f4")
    given(init, "w", w)
    given(init, "b", b)
    one = init.op.add(type="ConstantFill", output=["one"])
    one.arg.add(name="shape").ints.append(1)
    one.arg.add(name="value").f = 1.0
    add(init, "CreateMutex", "", "lock")
    start = init.op.add(type="ConstantFill", output=["step"])
    start.arg.add(name="shape").ints.append(1)
    start.arg.add(name="value").i = 0
    add(net, "FC", "x w b", "logits")
    add(net, "SoftmaxWithLoss", "logits label", "p loss")
    net.op.add(type="ConstantFill", input=["loss"], output=["g"]).arg.add(name="value").f = 1.0
    add(net, "SoftmaxWithLossGradient", "logits label p g", "dlogits")
    add(net, "FCGradient", "x w dlogits", "dw db")
    add(net, "AtomicIter", "lock step", "step")
    rate = net.op.add(type="LearningRate", input=["step"], output=["lr"])
    rate.arg.add(name="base_lr").f = -0.5
    rate.arg.add(name="policy").s = b"inv"
    for name in ("gamma", "power"):
        rate.arg.add(name=name).f = 1.0
    for name in "wb":
        add(net, "WeightedSum", f"{name} one d{name} lr", name)
    net.external_output.append("loss")
    inputs = {"x": (6, 4), "label": Spec((6,), "int32")}
    program, state = load(init, net, inputs)
    executor = Executor(program, Scope().initialize(program, values=state))
    x, label = RNG.normal(size=(6, 4)).astype("f4"), RNG.integers(0, 3, 6).astype("i4")
    losses = []
    for step in range(1, 6):
        loss = executor.run({"x": x, "label": label})["loss"]
        e = np.exp(x @ w.T + b)
        p = e / e.sum(1, keepdims=True)
        losses.append(-np.log(p[range(6), label]).mean())
        assert np.isclose(loss, losses[-1], atol=1e-5)
        g = (p - np.eye(3)[label]) / 6
        w, b = w - 0.5 / (1 + step) * g.T @ x, b - 0.5 / (1 + step) * g.sum(0)
    assert losses[-1] < losses[0] and np.allclose(executor.scope["w"], w, atol=1e-5)
    assert executor.scope["step"].tolist() == [5]
