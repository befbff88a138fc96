"""Files of any age, and files that are none."""

import random

import numpy as np
import pytest

from noria.convert import caffe
from noria.convert.caffe.network import layers_of, read_network, read_weights
from noria.convert.messages import schema
from noria.core.errors import FormatError, NoriaError

V1 = """
name: "old" input: "data" input_dim: 1 input_dim: 3 input_dim: 6 input_dim: 6
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1
         convolution_param { num_output: 2 kernel_size: 3 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" relu_param { negative_slope: 0.5 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "conv" top: "fc"
         inner_product_param { num_output: 3 } }
layers { name: "prob" type: SOFTMAX bottom: "fc" top: "prob" }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss"
         include { phase: TRAIN } }
"""


def old_weights(path, shapes):
    message = schema("caffe").NetParameter()
    for name, blobs in shapes.items():
        layer = message.layers.add(name=name)
        for shape in blobs:
            four = (1,) * (4 - len(shape)) + shape
            data = [np.arange(np.prod(shape), dtype="<f4").tobytes()]
            layer.blobs.add(num=four[0], channels=four[1], height=four[2], width=four[3], data=data)
    path.write_bytes(message.SerializeToString())


def test_a_network_of_2014(tmp_path):
    (tmp_path / "n.prototxt").write_text(V1)
    shapes = {"conv": [(2, 3, 3, 3), (2,)], "fc": [(3, 32), (3,)]}
    old_weights(tmp_path / "n.caffemodel", shapes)
    program, state = caffe.load(tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    assert [o.type for o in program.operators] == [
        "conv2d",
        "leaky_relu",
        "reshape",
        "linear",
        "softmax",
    ]
    assert str(program.inputs["data"]) == "float32[N, 3, 6, 6]"
    assert state["fc.weight"].shape == (3, 32) and state["conv.bias"].shape == (2,)
    assert list(program.outputs) == ["prob"]


def test_rules_of_phases_stages_and_levels(tmp_path):
    def names(rules, **how):
        text = "".join(f'layer {{ name: "{n}" type: "ReLU" {r} }}' for n, r in rules.items())
        (tmp_path / "n.prototxt").write_text(text)
        return [m.name for m in layers_of(read_network(tmp_path / "n.prototxt"), **how)]

    rules = {
        "always": "",
        "test": "include { phase: TEST }",
        "train": "include { phase: TRAIN }",
        "not_test": "exclude { phase: TEST }",
        "deploy": 'include { stage: "deploy" }',
        "val": 'include { phase: TEST not_stage: "deploy" } include { phase: TRAIN }',
        "high": "include { min_level: 2 }",
    }
    assert names(rules) == ["always", "test", "val"]
    assert names(rules, stages=("deploy",)) == ["always", "test", "deploy"]
    assert names(rules, level=2) == ["always", "test", "val", "high"]


def test_double_blobs_and_blobs_without_a_shape(tmp_path):
    message = schema("caffe").NetParameter()
    layer = message.layer.add(name="a")
    layer.blobs.add(double_data=[np.arange(3.0).tobytes()]).shape.dim.append(3)
    layer.blobs.add(data=[np.ones(2, "<f4").tobytes(), np.zeros(1, "<f4").tobytes()])
    (tmp_path / "w").write_bytes(message.SerializeToString())
    one, two = read_weights(tmp_path / "w")["a"]
    assert one.tolist() == [0, 1, 2] and two.tolist() == [1, 1, 0]


@pytest.mark.parametrize("dims", [(2, 3), (1 << 62, 4), (-1, -4), (1 << 62, 1 << 62)])
def test_a_shape_that_lies_is_an_error(dims, tmp_path):
    message = schema("caffe").NetParameter()
    blob = message.layer.add(name="a").blobs.add(data=[np.ones(4, "<f4").tobytes()])
    blob.shape.dim.extend(dims)
    (tmp_path / "w").write_bytes(message.SerializeToString())
    with pytest.raises(FormatError, match="another number of elements"):
        read_weights(tmp_path / "w")


@pytest.mark.parametrize(
    "text", ["layer {", "layer: 3", 'layer { name: "a" type: 5 }', "layer {" * 10_000, "\0\1\2"]
)
def test_a_text_that_is_none_is_an_error(text, tmp_path):
    (tmp_path / "n").write_text(text)
    with pytest.raises(FormatError):
        read_network(tmp_path / "n")


def test_mutated_files_give_errors_and_nothing_else(tmp_path):
    shapes = {"conv": [(2, 3, 3, 3), (2,)], "fc": [(3, 32), (3,)]}
    old_weights(tmp_path / "w", shapes)
    whole, text, rng = (tmp_path / "w").read_bytes(), V1.encode(), random.Random(0)
    for trial in range(100):
        source = whole if trial % 2 else text
        data = bytearray(source)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "m").write_bytes(bytes(data))
        files = (tmp_path / "n", tmp_path / "m") if trial % 2 else (tmp_path / "m", tmp_path / "w")
        (tmp_path / "n").write_text(V1)
        try:
            caffe.load(*files)
        except NoriaError:
            continue
