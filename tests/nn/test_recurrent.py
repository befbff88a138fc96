"""Recurrent layers against PyTorch's, with its numbers; ragged batches against rows alone."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, NoriaError, ShapeError
from noria.grad import append_backward
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.nn import recurrent as nn
from noria.nn.ragged import Ragged
from noria.optim.optimizer import SGD
from noria.passes.for_test import for_test
from noria.runtime.executor import Executor

RNG = np.random.default_rng(0)
KINDS = ["LSTM", "GRU", "RNN"]
OPTIONS = [
    {},
    {"num_layers": 2, "batch_first": True},
    {"bidirectional": True, "bias": False},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def states_of(kind, layer, rows, make=normal):
    shape = (layer.num_layers * len(layer._directions), rows, layer.hidden_size)
    return (make(*shape), make(*shape)) if kind == "LSTM" else make(*shape)


def flat(result):
    out, state = result
    return [out, *(state if isinstance(state, tuple) else [state])]


def theirs(torch, kind, layer, options):
    module = getattr(torch.nn, kind)(layer.input_size, layer.hidden_size, **options)
    module.load_state_dict({n: torch.from_numpy(a) for n, a in layer.state().items()})
    return module


def torch_of(torch, tree):
    if isinstance(tree, tuple):
        return tuple(torch_of(torch, t) for t in tree)
    return torch.tensor(tree, requires_grad=True)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_layers_and_gradients_equal_those_of_pytorch(kind, options):
    torch = pytest.importorskip("torch")
    layer = getattr(nn, kind)(5, 3, **options)
    x, state = normal(4, 6, 5), states_of(kind, layer, 4 if options.get("batch_first") else 6)
    module = theirs(torch, kind, layer, options)
    fed, start = torch_of(torch, x), torch_of(torch, state)
    wanted = flat(module(fed, start))
    toward = [normal(*w.shape) for w in wanted]
    sum((w * torch.from_numpy(t)).sum() for w, t in zip(wanted, toward, strict=True)).backward()

    parts = list(state) if isinstance(state, tuple) else [state]

    def step(**given):
        first = [given[f"s{i}"] for i in range(len(parts))]
        outs = flat(layer(given["x"], tuple(first) if kind == "LSTM" else first[0]))
        loss = sum(o.reduce_sum(a * t) for a, t in zip(outs, toward, strict=True))
        return {"loss": loss, **{f"out{i}": a for i, a in enumerate(outs)}}

    specs = {"x": spec(*(("T", "N", 5) if layer.batch_first is False else ("N", "T", 5)))}
    specs |= {f"s{i}": spec(*p.shape) for i, p in enumerate(parts)}
    program = trace(step, **specs)
    names = [*program.parameters(), *specs]
    program, grads = append_backward(program, "loss", names)
    program.outputs.update({f"grad.{n}": g for n, g in grads.items()})
    feeds = {"x": x, **{f"s{i}": p for i, p in enumerate(parts)}}
    executor = Executor(program)
    for name, array in layer.state().items():
        executor.scope[name] = array
    got = executor.run(feeds)
    for i, w in enumerate(wanted):
        assert np.allclose(got[f"out{i}"], w.detach().numpy(), atol=2e-6)
    expected = {n: p.grad for n, p in module.named_parameters()} | {"x": fed.grad}
    expected |= {f"s{i}": p.grad for i, p in enumerate(start if kind == "LSTM" else [start])}
    for n, g in expected.items():
        assert np.allclose(got[f"grad.{n}"], g.numpy(), atol=2e-5), n


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_needs_no_axis_for_the_batch(kind):
    layer = getattr(nn, kind)(5, 3, num_layers=2)
    x, state = normal(4, 5), states_of(kind, layer, 1)
    dropped = tuple(s[:, 0] for s in state) if kind == "LSTM" else state[:, 0]
    alone, batch = flat(layer(x, dropped)), flat(layer(x[:, None], state))
    for a, b in zip(alone, batch, strict=True):
        assert a.shape == b[:, 0].shape and np.allclose(a, b[:, 0], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_ragged_rows_come_out_as_each_alone(kind):
    layer = getattr(nn, kind)(5, 3, num_layers=2, bidirectional=True)
    rows = [normal(n, 5) for n in (4, 0, 1, 7)]
    state = states_of(kind, layer, 4)
    out, *last = flat(layer(Ragged.pack(rows), state))
    for n, row in enumerate(rows):
        mine = tuple(s[:, n] for s in state) if kind == "LSTM" else state[:, n]
        alone, *ends = flat(layer(row, mine))
        assert np.allclose(out.rows()[n], alone, atol=1e-6)
        for a, b in zip(last, ends, strict=True):
            assert np.allclose(a[:, n], b, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_one_step_and_equal_those_of_pytorch(kind):
    torch = pytest.importorskip("torch")
    cell = getattr(nn, kind + "Cell")(5, 3)
    module = getattr(torch.nn, kind + "Cell")(5, 3)
    module.load_state_dict({n: torch.from_numpy(a) for n, a in cell.state().items()})
    x, h = normal(4, 5), normal(4, 3)
    state = (h, normal(4, 3)) if kind == "LSTM" else h
    for given in (state, None):
        got = cell(x) if given is None else cell(x, given)
        fed = torch_of(torch, x)
        want = module(fed) if given is None else module(fed, torch_of(torch, given))
        pairs = zip(got, want, strict=True) if kind == "LSTM" else [(got, want)]
        for a, b in pairs:
            assert np.allclose(a, b.detach().numpy(), atol=1e-6)


def test_a_plain_layer_may_have_relu():
    torch = pytest.importorskip("torch")
    layer = nn.RNN(5, 3, nonlinearity="relu")
    module = theirs(torch, "RNN", layer, {"nonlinearity": "relu"})
    x = normal(4, 2, 5)
    assert np.allclose(layer(x)[0], module(torch.from_numpy(x))[0].detach().numpy(), atol=1e-6)
    cell = nn.RNNCell(5, 3, nonlinearity="relu")
    assert (cell(normal(2, 5)) >= 0).all()


def test_dropout_is_between_layers_and_in_training_only():
    layer = nn.LSTM(5, 3, num_layers=2, dropout=0.5)
    program = trace(lambda x: {"out": layer(x)[0]}, x=spec("T", "N", 5))
    drops = [op for op in program.operators if op.type == "dropout"]
    assert len(drops) <= 1 and any(op.type in ("dropout", "bernoulli") for op in program.operators)
    x = normal(4, 2, 5)
    out, _ = run_program(for_test(program), {"x": x}, layer.state())
    assert np.allclose(out["out"], layer(x)[0], atol=1e-6)


def test_first_weights_spread_as_those_of_pytorch():
    torch = pytest.importorskip("torch")
    ours, other = nn.LSTM(50, 40), torch.nn.LSTM(50, 40)
    for name, theirs_ in other.named_parameters():
        mine = ours.state()[name]
        assert mine.shape == tuple(theirs_.shape)
        assert abs(mine).max() <= 40**-0.5
        assert np.isclose(mine.std(), theirs_.detach().numpy().std(), rtol=0.2)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nn.LSTM(0, 3), ArgumentError, "input_size"),
        (lambda: nn.LSTM(3, 3, dropout=1.0), ArgumentError, "dropout"),
        (lambda: nn.RNN(3, 3, nonlinearity="gelu"), ArgumentError, "nonlinearity"),
        (lambda: nn.RNNCell(3, 3, nonlinearity="gelu"), ArgumentError, "nonlinearity"),
        (lambda: nn.LSTM(3, 3)(normal(2, 2, 2, 3)), ShapeError, "Ragged"),
        (lambda: nn.LSTM(3, 3)(normal(2, 2, 4)), NoriaError, "linear|must be equal"),
        (lambda: nn.LSTM(3, 3)(normal(2, 2, 3), [normal(1, 2, 3)]), ArgumentError, "h, c"),
        (lambda: nn.GRU(3, 3)(normal(2, 2, 3), normal(2, 2, 3)), ShapeError, "each layer"),
        (lambda: nn.GRU(3, 3)(normal(2, 2, 3), normal(2, 3)), ShapeError, "each layer"),
        (lambda: nn.GRUCell(3, 3)(normal(3)), ShapeError, "N, in"),
    ],
)
def test_what_makes_no_sense_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def trained(kind, **options):
    """(losses of three steps, bytes of the arena)"""
    layer = getattr(nn, kind)(8, 32, **options)

    def step(x):
        return {"loss": (layer(x)[0] ** 2).mean()}

    executor = Executor(SGD(0.1).minimize(trace(step, x=spec(20, 20, 8))))
    feeds = {"x": np.random.default_rng(1).normal(size=(20, 20, 8)).astype(np.float32)}
    losses = [executor.run(feeds)["loss"] for _ in range(3)]
    return losses, executor.bound(feeds).arena_bytes


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_computed_again_give_the_same_gradients(kind, options):
    kept, again = (trained(kind, **options, recompute=how)[0] for how in (False, True))
    np.testing.assert_allclose(again, kept, rtol=1e-5)
    assert kept[0] != kept[2]


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_gates_computed_again_need_less_memory(kind):
    much, little = (trained(kind, num_layers=5, recompute=how)[1] for how in (False, True))
    assert little < 0.9 * much


def test_a_gru_that_resets_before_its_product():
    layer, cell = nn.GRU(4, 3, reset_after=False), nn.GRUCell(4, 3, reset_after=False)
    state = layer.state()
    cell.load({name.removesuffix("_l0"): a for name, a in state.items()})
    x, h = normal(5, 2, 4), normal(2, 3)
    out, last = layer(x, h[None])
    w, u = state["weight_ih_l0"], state["weight_hh_l0"]
    bias = state["bias_ih_l0"] + state["bias_hh_l0"]
    for t in range(5):
        r, z, n = np.split(x[t] @ w.T + bias, 3, axis=1)
        np.testing.assert_allclose(cell(x[t], h), out[t], atol=1e-6)
        r, z = (1 / (1 + np.exp(-(a + h @ m.T))) for a, m in ((r, u[:3]), (z, u[3:6])))
        h = (1 - z) * np.tanh(n + (r * h) @ u[6:].T) + z * h
        np.testing.assert_allclose(out[t], h, atol=1e-6)
    np.testing.assert_allclose(last[0], h, atol=1e-6)
    with pytest.raises(ArgumentError, match="computed again"):
        nn.GRU(4, 3, reset_after=False, recompute=True)
