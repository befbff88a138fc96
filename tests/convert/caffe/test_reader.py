"""Networks as Programs."""

import numpy as np
import pytest

import noria
from noria.convert import caffe
from noria.convert.handlers import UnsupportedOperators
from noria.core.errors import FormatError, MissingError

DATA = 'layer { name: "data" type: "Data" top: "data" top: "label" }\n'
RELU = 'layer { name: "r" type: "ReLU" bottom: "data" top: "r" }\n'


def test_all_layers_that_are_missing_are_told_at_once(write):
    text = 'layer { name: "a" type: "LSTM" bottom: "data" top: "a" }\n'
    text += 'layer { name: "b" type: "Convolutoin" bottom: "a" top: "b" }\n' + RELU
    with pytest.raises(UnsupportedOperators) as caught:
        caffe.load(*write(text, {}, {"data": (1, 2)}))
    assert caught.value.operators == ["Convolutoin", "LSTM"]
    assert "nearest: Convolution" in str(caught.value)


def test_the_shape_of_a_data_layer_is_asked_for(write):
    files = write(DATA + RELU)
    with pytest.raises(MissingError, match="does not tell the shape of 'data'"):
        caffe.load(*files)
    program, _ = caffe.load(*files, inputs={"data": ("N", 3, "H", 4)})
    assert str(program.inputs["data"]) == "float32[N, 3, H, 4]" and list(program.outputs) == ["r"]


@pytest.mark.parametrize(
    "batch, shape", [("N", "[N, 3]"), ("B", "[B, 3]"), (4, "[4, 3]"), (None, "[7, 3]")]
)
def test_the_batch_is_open_unless_it_is_given(batch, shape, write):
    program, _ = caffe.load(*write(RELU, {}, {"data": (7, 3)}), batch=batch)
    assert str(program.inputs["data"]) == f"float32{shape}"


def test_outputs_are_what_no_layer_takes_and_bottoms_may_be_overwritten(write):
    text = RELU + 'layer { name: "e" type: "Exp" bottom: "r" top: "r" }\n'
    text += 'layer { name: "s" type: "TanH" bottom: "data" top: "s" }\n'
    text += 'layer { name: "quiet" type: "Silence" bottom: "s" }\n'
    program, state = caffe.load(*write(text, {}, {"data": (1, 3)}))
    assert list(program.outputs) == ["r", "s"]
    x = np.array([[-1, 0, 1]], np.float32)
    got = noria.Predictor(program, state).run({"data": x})
    np.testing.assert_allclose(got["r"], np.exp(np.maximum(x, 0)), rtol=1e-6)


def test_losses_and_accuracies_are_left_out(write):
    text = RELU + 'layer { name: "l" type: "SoftmaxWithLoss" bottom: "r" bottom: "label" top: "l" }'
    program, _ = caffe.load(*write(text, {}, {"data": (1, 3)}))
    assert list(program.outputs) == ["r"]


@pytest.mark.parametrize(
    "text, what",
    [
        ('layer { name: "a" type: "ReLU" bottom: "dat" top: "a" }', "in front gives 'dat'"),
        ('layer { name: "a" type: "ReLU" bottom: "data" bottom: "data" top: "a" }', "bottoms"),
        ('layer { name: "a" type: "Softmax" bottom: "data" top: "a" softmax_param { axis: 7 } }',
         "axis is out of range"),
        ("", "computes nothing"),
    ],
)  # fmt: skip
def test_errors_name_the_layer(text, what, write):
    inputs = {"data": (1, 3)} if text else {}
    with pytest.raises(FormatError, match=what):
        caffe.load(*write(text, {}, inputs))


def test_an_input_that_is_none_is_an_error(write):
    with pytest.raises(MissingError, match="no input 'dta'"):
        caffe.load(*write(RELU, {}, {"data": (1, 3)}), inputs={"dta": (1, 3)})
