"""Recurrent layers over packed rows."""

import numpy as np
import pytest

import noria
from noria import nn, ops
from noria.convert.onnx.writer import to_model
from noria.nn.ragged import Ragged

SPLITS = [[0, 3, 3, 8], [0, 0, 1], [0, 0, 0], [0]]
SHAPES = {"x": ("T", 3), "splits": ("B+1",)}


def packed(splits):
    x = np.random.default_rng(2).normal(size=(splits[-1], 3)).astype(np.float32)
    return {"x": x, "splits": np.array(splits)}


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("how", [{}, {"bidirectional": True}, {"num_layers": 2}])
@pytest.mark.parametrize("splits", SPLITS, ids=str)
def test_layers_of_torch_s_meaning_over_rows_of_any_length(layer, how, splits, same_in_onnx):
    model = layer(3, 4, **how)

    def fn(x, splits):
        out, _ = model(Ragged(x, splits))
        return {"y": out.values}

    same_in_onnx(fn, SHAPES, **packed(splits))


@pytest.mark.parametrize("splits", SPLITS[:2], ids=str)
def test_last_states_are_those_of_the_operator(splits, same_in_onnx):
    model = nn.LSTM(3, 4, bidirectional=True)

    def fn(x, splits):
        _, (h, c) = model(Ragged(x, splits))
        return {"h": h, "c": c}

    same_in_onnx(fn, SHAPES, **packed(splits))
    specs = {"x": noria.spec("T", 3), "splits": noria.spec("B+1", dtype="int64")}
    program = noria.trace(fn, **specs)
    written = to_model(program, noria.Executor(program).scope.state())
    assert [n.op_type for n in written.graph.node].count("LSTM") == 2


def test_first_states(same_in_onnx):
    def fn(x, splits, w, h, c):
        return {"y": ops.lstm(x, w, splits, h, c)[0]}

    rng = np.random.default_rng(0)
    arrays = {k: rng.normal(size=s).astype(np.float32) for k, s in STATES.items()}
    same_in_onnx(fn, {"x": ("T", 8), "splits": ("B+1",)}, splits=np.array([0, 2, 5]), **arrays)


@pytest.mark.parametrize("reverse", [False, True])
def test_peepholes_and_a_reset_before_the_product(reverse, same_in_onnx):
    def fn(x, splits, w, h, c, p):
        lstm = ops.lstm(x, w, splits, h, c, p, reverse=reverse)[0]
        gru = ops.gru_reset_before(x[:, :6], w[:6], splits, h, reverse=reverse)[0]
        return {"y": lstm, "z": gru}

    rng = np.random.default_rng(0)
    arrays = {k: rng.normal(size=s).astype(np.float32) for k, s in STATES.items()}
    arrays["p"] = rng.normal(size=(3, 2)).astype(np.float32)
    same_in_onnx(fn, {"x": ("T", 8), "splits": ("B+1",)}, splits=np.array([0, 2, 5]), **arrays)


STATES = {"x": (5, 8), "w": (8, 2), "h": (2, 2), "c": (2, 2)}


@pytest.mark.parametrize("reverse", [False, True])
def test_all_cell_states_are_written_step_by_step(reverse, same_in_onnx):
    def fn(x, splits, w):
        return {"c": ops.lstm(x, w, splits, reverse=reverse)[1]}

    rng = np.random.default_rng(0)
    arrays = {k: rng.normal(size=STATES[k]).astype(np.float32) for k in "xw"}
    same_in_onnx(fn, {"x": ("T", 8), "splits": ("B+1",)}, splits=np.array([0, 2, 2, 5]), **arrays)
