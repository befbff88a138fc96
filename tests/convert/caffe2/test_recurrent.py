"""Recurrent networks of Caffe2."""

from typing import Any

import numpy as np
import pytest

from noria.convert.caffe2.reader import load, net_of_one_operator
from noria.convert.messages import schema
from noria.ir.program import Spec
from noria.runtime.executor import Executor

RNG = np.random.default_rng(8)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_step(h: Any, c: Any, gates: Any, forget: float = 0.0) -> tuple[Any, Any]:
    i, f, o, g = np.split(gates, 4, -1)
    c = sigmoid(f + forget) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def test_rows_that_ended_keep_their_state(run: Any) -> None:
    h, c = RNG.normal(size=(2, 1, 3, 2))
    gates = RNG.normal(size=(1, 3, 8))
    lengths, step = np.array([1, 5, 2], np.int32), np.array([2], np.int32)
    new_h, new_c = run("LSTMUnit", h, c, gates, lengths, step, forget_bias=1.0, outputs=2)
    want_h, want_c = lstm_step(h, c, gates, 1.0)
    assert np.allclose(new_h[:, 1], want_h[:, 1]) and np.allclose(new_c[:, 1], want_c[:, 1])
    assert np.array_equal(new_h[:, [0, 2]], h[:, [0, 2]])
    dropped = run("LSTMUnit", h, c, gates, lengths, step, drop_states=1, outputs=2)
    assert dropped[1][:, 0].max() == 0


def test_a_gated_unit_mixes_the_old_state_and_the_new(run: Any) -> None:
    h, gates = RNG.normal(size=(1, 2, 3)), RNG.normal(size=(1, 2, 9))
    out = run("GRUUnit", h, gates, np.array([0], np.int32), sequence_lengths=0)
    u = sigmoid(gates[..., 3:6])
    assert np.allclose(out, u * h + (1 - u) * np.tanh(gates[..., 6:]))
    g = np.ones_like(h)
    dh, dg = run(
        "GRUUnitGradient", h, gates, np.array([0], "i4"), out, g, sequence_lengths=0, outputs=2
    )
    assert np.allclose(dh, u) and np.allclose(
        dg[..., 6:], (1 - u) * (1 - np.tanh(gates[..., 6:]) ** 2)
    )


def step_net() -> Any:
    """gates = x + FC(hidden); LSTMUnit."""
    net = schema("caffe2").NetDef(name="step")
    net.op.add(type="FC", input=["h_prev", "w", "b"], output=["fc"]).arg.add(name="axis").i = 2
    net.op.add(type="Sum", input=["fc", "x_t"], output=["gates"])
    net.op.add(
        type="LSTMUnit",
        input=["h_prev", "c_prev", "gates", "lengths", "timestep"],
        output=["h_t", "c_t"],
    )
    net.external_input.extend(["x_t", "h_prev", "c_prev", "w", "b", "lengths", "timestep"])
    return net


def test_a_step_net_runs_over_time_with_lengths() -> None:
    names = ["x", "h0", "c0", "w", "b", "lengths"]
    net = net_of_one_operator("RecurrentNetwork", {}, 0, 0)
    message = net.op[0]
    message.input.extend(names)
    message.output.extend(["h_all", "h_last", "c_last", "scopes"])
    net.external_input.extend(names)
    net.external_output.extend(["h_all", "h_last", "c_last"])
    message.arg.add(name="step_net").n.CopyFrom(step_net())
    texts = {
        "link_internal": ["h_prev", "h_t", "c_prev", "c_t", "x_t"],
        "link_external": ["h_states", "h_states", "c_states", "c_states", "x"],
        "recurrent_states": ["h_states", "c_states"],
        "alias_src": ["h_states", "h_states", "c_states"],
        "alias_dst": ["h_all", "h_last", "c_last"],
    }
    for name, listed in texts.items():
        message.arg.add(name=name).strings.extend(t.encode() for t in listed)
    numbers = {"link_offset": [0, 1, 0, 1, 0], "initial_recurrent_state_ids": [1, 2]}
    numbers["alias_offset"] = [1, -1, -1]
    for name, values in numbers.items():
        message.arg.add(name=name).ints.extend(values)
    t, n, d = 4, 3, 2
    shapes = {"x": (t, n, 4 * d), "h0": (1, n, d), "c0": (d,), "w": (4 * d, d), "b": (4 * d,)}
    feeds = {k: RNG.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    feeds["lengths"] = np.array([4, 1, 3], np.int32)
    program, _ = load(None, net, {k: Spec(v.shape, v.dtype) for k, v in feeds.items()})
    out = Executor(program).run(feeds)
    h, c = feeds["h0"][0], np.tile(feeds["c0"], (n, 1))
    for k in range(t):
        new = lstm_step(h, c, feeds["x"][k] + h @ feeds["w"].T + feeds["b"])
        going = (k < feeds["lengths"])[:, None]
        h, c = np.where(going, new[0], h), np.where(going, new[1], c)
        assert np.allclose(out["h_all"][k], h, atol=1e-5)
    assert np.allclose(out["h_last"][0], h, atol=1e-5) and np.allclose(
        out["c_last"][0], c, atol=1e-5
    )


def pytorch_layer(x: Any, h: Any, c: Any, params: list[Any]) -> tuple[Any, Any, Any]:
    shown = []
    for row in x:
        gates = row @ params[0].T + h @ params[1].T + sum(params[2:], np.zeros(1))
        i, f, g, o = np.split(gates, 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        shown.append(h)
    return np.stack(shown), h, c


@pytest.mark.parametrize(("both", "biases"), [(False, True), (True, False), (True, True)])
def test_a_whole_network_runs_layer_after_layer(run: Any, both: bool, biases: bool) -> None:
    t, n, k, d, sides = 4, 2, 3, 2, 1 + both
    x, state = RNG.normal(size=(t, n, k)), RNG.normal(size=(2, 2 * sides, n, d))
    layers = [
        [RNG.normal(size=s) for s in ((4 * d, width), (4 * d, d), *[(4 * d,)] * (2 * biases))]
        for width in [k] * sides + [sides * d] * sides
    ]
    how = {"num_layers": 2, "bidirectional": int(both), "has_biases": int(biases)}
    flat = [p for layer in layers for p in layer]
    first = np.swapaxes(x, 0, 1).copy()
    got = run("InferenceLSTM", first, *state, *flat, outputs=3, batch_first=1, **how)
    y, last = x, []
    for layer in (0, 1):
        parts = []
        for side in range(sides):
            at = layer * sides + side
            turned = y[::-1] if side else y
            out, h, c = pytorch_layer(turned, state[0, at], state[1, at], layers[at])
            parts.append(out[::-1] if side else out)
            last.append((h, c))
        y = np.concatenate(parts, 2)
    assert np.allclose(got[0], np.swapaxes(y, 0, 1), atol=1e-6)
    assert np.allclose(got[1], [h for h, _ in last]) and np.allclose(got[2], [c for _, c in last])


def test_a_step_sees_windows_of_states_and_of_inputs() -> None:
    net = schema("caffe2").NetDef(name="step")
    for kind, given, out in (
        ("ReduceFrontSum", ["ahead"], "near"),  # x[t] + x[t + 1]
        ("ExpandDims", ["near"], "near_1"),
        ("Sum", ["near_1", "oldest"], "new"),
        ("ReduceFrontSum", ["trace"], "traced"),  # of the two latest states and the new one
        ("ExpandDims", ["traced"], "traced_1"),
        ("Copy", ["traced_1"], "sum_t"),
    ):
        message = net.op.add(type=kind, input=given, output=[out])
        if kind == "ExpandDims":
            message.arg.add(name="dims").ints.append(0)
    outer = net_of_one_operator("RecurrentNetwork", {}, 0, 0)
    message, names = outer.op[0], ["short", "h0", "s0", "x"]
    message.input.extend(names)
    message.output.extend(["h_all", "s_all", "scopes"])
    outer.external_input.extend(names)
    outer.external_output.extend(["h_all", "s_all"])
    message.arg.add(name="step_net").n.CopyFrom(net)
    texts = {
        "link_internal": ["ahead", "oldest", "trace", "new", "sum_t"],
        "link_external": ["x", "h", "h", "h", "s"],
        "recurrent_states": ["h", "s"],
        "alias_src": ["h", "s"],
        "alias_dst": ["h_all", "s_all"],
    }
    for name, listed in texts.items():
        message.arg.add(name=name).strings.extend(t.encode() for t in listed)
    numbers = {"link_offset": [0, 0, 0, 2, 1], "link_window": [2, 1, 3, 1, 1]}
    numbers |= {"initial_recurrent_state_ids": [1, 2], "alias_offset": [0, 1]}
    for name, values in numbers.items():
        message.arg.add(name=name).ints.extend(values)
    shapes = {"short": (3, 2, 1), "h0": (2, 2, 1), "s0": (1, 2, 1), "x": (4, 2, 1)}
    feeds = {k: RNG.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    program, _ = load(None, outer, {k: Spec(v.shape, v.dtype) for k, v in feeds.items()})
    out = Executor(program).run(feeds)
    h, sums = list(feeds["h0"]), []
    for t in range(3):
        h.append(feeds["x"][t] + feeds["x"][t + 1] + h[t])
        sums.append(h[t] + h[t + 1] + h[t + 2])
    assert np.allclose(out["h_all"], h, atol=1e-5) and np.allclose(out["s_all"], sums, atol=1e-5)
