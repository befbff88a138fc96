"""Layers: eager = the test form of what is traced = formulas = PyTorch, gradients included."""

import numpy as np
import pytest
from scipy import special

import noria.nn.layers as layers
import noria.ops.library  # noqa: F401  (all ops are registered)
from noria import nn
from noria.core.errors import ArgumentError, DTypeError, NoriaError, ShapeError
from noria.grad import append_backward
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.sparse import SparseGrad
from noria.ir.trace import spec, trace
from noria.nn.module import Module, ModuleList, Sequential
from noria.passes.for_test import for_test
from noria.runtime.executor import Executor

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(2, 4, 7, 6)).astype(np.float32)
ROWS = RNG.normal(size=(5, 4)).astype(np.float32)
SERIES = RNG.normal(size=(3, 4, 5)).astype(np.float32)
IDS = np.array([[1, 2, 2], [0, 5, 1]])


class Residual(Module):
    """A block with a list of layers, as users write them."""

    def __init__(self):
        self.layers = ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.norm = nn.LayerNorm(4)

    def __call__(self, x):
        for layer in self.layers:
            x = x + o.relu(layer(x))
        return self.norm(x)


LAYERS = {
    "Linear": (lambda: nn.Linear(4, 3), ROWS),
    "Linear of 3 axes": (lambda: nn.Linear(5, 3, bias=False), SERIES),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), IMAGE),
    "Conv2d of everything": (
        lambda: nn.Conv2d(
            4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False
        ),
        IMAGE,
    ),
    "Conv2d depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), IMAGE),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 3, 2, stride=2), IMAGE),
    "ConvTranspose2d of everything": (
        lambda: nn.ConvTranspose2d(
            4, 6, (3, 2), stride=(2, 3), padding=1, output_padding=1, groups=2, bias=False
        ),
        IMAGE,
    ),
    "BatchNorm": (lambda: nn.BatchNorm(4), RNG.normal(size=(2, 4, 2, 2, 2)).astype(np.float32)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(4, epsilon=0.1, momentum=0.3), ROWS),
    "BatchNorm1d of 3 axes": (lambda: nn.BatchNorm1d(4), SERIES),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm(4), ROWS),
    "LayerNorm of 2 axes": (lambda: nn.LayerNorm((7, 6), epsilon=0.1), IMAGE),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), IMAGE),
    "GroupNorm of 3 axes": (lambda: nn.GroupNorm(4, 4, epsilon=0.1), SERIES),
    "Embedding": (lambda: nn.Embedding(6, 3), IDS),
    "Embedding sparse": (lambda: nn.Embedding(6, 3, sparse=True), IDS),
    "Embedding padded": (lambda: nn.Embedding(6, 3, padding_idx=2), IDS),
    "Embedding sparse, padded": (lambda: nn.Embedding(6, 3, padding_idx=-1, sparse=True), IDS),
    "Dropout": (lambda: nn.Dropout(0.4), ROWS),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), IMAGE),
    "MaxPool2d overlapping": (lambda: nn.MaxPool2d((3, 2), stride=(2, 1), padding=1), IMAGE),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), IMAGE),
    "AvgPool2d padded": (lambda: nn.AvgPool2d(3, stride=2, padding=1), IMAGE),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), IMAGE),
    "AdaptiveAvgPool2d of 2 sizes": (lambda: nn.AdaptiveAvgPool2d((3, 2)), IMAGE),
    "Flatten": (nn.Flatten, IMAGE),
    "Identity": (nn.Identity, ROWS),
    "ReLU": (nn.ReLU, ROWS),
    "GELU": (nn.GELU, ROWS),
    "SiLU": (nn.SiLU, ROWS),
    "Sigmoid": (nn.Sigmoid, ROWS),
    "Tanh": (nn.Tanh, ROWS),
    "Softmax": (nn.Softmax, ROWS),
    "Softmax along 1": (lambda: nn.Softmax(axis=1), IMAGE),
    "Sequential": (
        lambda: Sequential(
            nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)
        ),
        IMAGE,
    ),
    "ModuleList": (Residual, ROWS),
}


def made(name):
    """(the layer with other than its first numbers, an input)."""
    make, x = LAYERS[name]
    layer, rng = make(), np.random.default_rng(1)
    layer.load({n: rng.uniform(0.3, 1.5, p.shape) for n, p in layer.parameters().items()})
    return layer, x


def spec_of(x):
    return spec("N", *x.shape[1:], dtype=x.dtype)


def traced(layer, x):
    return trace(lambda x: layer(x), x=spec_of(x))


def dense(program, grads):
    """Gradients as whole tables."""
    with Builder(program):
        return {n: g.dense() if isinstance(g, SparseGrad) else g for n, g in grads.items()}


def test_every_layer_is_here():
    classes = {n: c for n, c in vars(layers).items() if isinstance(c, type)}
    public = {n for n, c in classes.items() if c.__module__ == layers.__name__}
    assert {n for n in public if not n.startswith("_")} <= {n.split()[0] for n in LAYERS}


@pytest.mark.parametrize("name", LAYERS)
def test_eager_is_the_test_form(name):
    layer, x = made(name)
    program = for_test(traced(layer, x))
    assert not program.updates
    outs, _ = run_program(program, {"x": x}, layer.state())
    eager = layer(x)
    assert isinstance(eager, np.ndarray)
    assert eager.dtype == outs["out"].dtype
    np.testing.assert_array_equal(eager, outs["out"])


@pytest.mark.parametrize("name", ["Linear", "Conv2d", "BatchNorm2d", "Embedding", "Sequential"])
def test_the_engine_gives_what_eager_gives(name):
    layer, x = made(name)
    executor = Executor(for_test(traced(layer, x)))
    for n, a in layer.state().items():
        executor.scope[n] = a
    got = executor.run({"x": x})["out"]
    np.testing.assert_allclose(got, layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_batch_goes_through(name):
    layer, x = made(name)
    full = layer(x)
    got = layer(x[:0])
    assert (got.shape, got.dtype) == ((0, *full.shape[1:]), full.dtype)


# ---- PyTorch -----------------------------------------------------------------------------------


def theirs(torch, name):
    t = torch.nn
    modules = {
        "Linear": lambda: t.Linear(4, 3),
        "Linear of 3 axes": lambda: t.Linear(5, 3, bias=False),
        "Conv2d": lambda: t.Conv2d(4, 6, 3, padding=1),
        "Conv2d of everything": lambda: t.Conv2d(
            4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2, bias=False
        ),
        "Conv2d depthwise": lambda: t.Conv2d(4, 4, 3, groups=4),
        "ConvTranspose2d": lambda: t.ConvTranspose2d(4, 3, 2, stride=2),
        "ConvTranspose2d of everything": lambda: t.ConvTranspose2d(
            4, 6, (3, 2), stride=(2, 3), padding=1, output_padding=1, groups=2, bias=False
        ),
        "BatchNorm": lambda: t.BatchNorm3d(4),
        "BatchNorm1d": lambda: t.BatchNorm1d(4, eps=0.1, momentum=0.3),
        "BatchNorm1d of 3 axes": lambda: t.BatchNorm1d(4),
        "BatchNorm2d": lambda: t.BatchNorm2d(4),
        "LayerNorm": lambda: t.LayerNorm(4),
        "LayerNorm of 2 axes": lambda: t.LayerNorm((7, 6), eps=0.1),
        "GroupNorm": lambda: t.GroupNorm(2, 4),
        "GroupNorm of 3 axes": lambda: t.GroupNorm(4, 4, eps=0.1),
        "Embedding": lambda: t.Embedding(6, 3),
        "Embedding sparse": lambda: t.Embedding(6, 3),
        "Embedding padded": lambda: t.Embedding(6, 3, padding_idx=2),
        "Embedding sparse, padded": lambda: t.Embedding(6, 3, padding_idx=-1),
        "MaxPool2d": lambda: t.MaxPool2d(2),
        "MaxPool2d overlapping": lambda: t.MaxPool2d((3, 2), stride=(2, 1), padding=1),
        "AvgPool2d": lambda: t.AvgPool2d(2),
        "AvgPool2d padded": lambda: t.AvgPool2d(3, stride=2, padding=1),
        "AdaptiveAvgPool2d": lambda: t.AdaptiveAvgPool2d(1),
        "AdaptiveAvgPool2d of 2 sizes": lambda: t.AdaptiveAvgPool2d((3, 2)),
        "Flatten": t.Flatten,
        "Identity": t.Identity,
        "ReLU": t.ReLU,
        "GELU": t.GELU,
        "SiLU": t.SiLU,
        "Sigmoid": t.Sigmoid,
        "Tanh": t.Tanh,
        "Softmax": lambda: t.Softmax(-1),
        "Softmax along 1": lambda: t.Softmax(1),
        "Sequential": lambda: t.Sequential(
            t.Conv2d(4, 4, 3), t.BatchNorm2d(4), t.ReLU(), t.Flatten(), t.Linear(80, 3)
        ),
    }
    return modules[name]()


def with_numbers_of(torch, module, layer):
    """The PyTorch module with our numbers; every one of ours must be one of theirs."""
    state = module.state_dict()
    numbers = {n: torch.from_numpy(a) for n, a in layer.state().items()}
    assert numbers.keys() == {n for n in state if not n.endswith("num_batches_tracked")}
    module.load_state_dict(state | numbers)
    return module


@pytest.mark.parametrize("name", [n for n in LAYERS if n not in ("Dropout", "ModuleList")])
def test_training_form_and_gradients_equal_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    layer, x = made(name)
    module = with_numbers_of(torch, theirs(torch, name), layer)
    toward = np.random.default_rng(2).normal(size=layer(x).shape).astype(np.float32)

    def loss_of(x, toward):
        out = layer(x)
        return {"out": out, "loss": o.reduce_sum(o.mul(out, toward))}

    program = trace(loss_of, x=spec_of(x), toward=spec(*toward.shape))
    wrt = [n for n, p in layer.parameters().items() if p.trainable]
    wrt += [] if x.dtype == np.int64 else ["x"]
    program, grads = append_backward(program, wrt=wrt)
    grads = dense(program, grads)
    program.outputs |= {f"grad {n}": g for n, g in grads.items()}
    outs, updates = run_program(program, {"x": x, "toward": toward}, layer.state())

    fed = torch.tensor(x, requires_grad=x.dtype != np.int64)
    out = module(fed)
    (out * torch.from_numpy(toward)).sum().backward()
    np.testing.assert_allclose(outs["out"], out.detach().numpy(), rtol=2e-4, atol=2e-5)
    wanted = {n: p.grad for n, p in module.named_parameters()} | {"x": fed.grad}
    for n in wrt:
        got, want = outs[f"grad {n}"], wanted[n].numpy()
        np.testing.assert_allclose(got, want, rtol=5e-4, atol=2e-4, err_msg=n)
    for n, new in updates.items():
        np.testing.assert_allclose(new, module.state_dict()[n].numpy(), rtol=1e-5, atol=1e-6)
    module.eval()
    np.testing.assert_allclose(
        layer.load(updates)(x), module(fed).detach().numpy(), rtol=2e-4, atol=2e-5
    )


@pytest.mark.parametrize("name", ["Linear", "Conv2d of everything", "ConvTranspose2d"])
def test_first_weights_spread_as_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    makers = {
        "Linear": (nn.Linear(50, 400), torch.nn.Linear(50, 400)),
        "Conv2d of everything": (
            nn.Conv2d(40, 100, 3, groups=2),
            torch.nn.Conv2d(40, 100, 3, groups=2),
        ),
        "ConvTranspose2d": (nn.ConvTranspose2d(40, 100, 3), torch.nn.ConvTranspose2d(40, 100, 3)),
    }
    ours, module = makers[name]
    for n, p in module.named_parameters():
        a = ours.state()[n]
        assert a.shape == tuple(p.shape)
        assert np.abs(a).max() == pytest.approx(p.abs().max().item(), rel=0.05)


def test_a_batch_norm_called_twice_moves_its_statistics_twice():
    torch = pytest.importorskip("torch")
    layer, _ = made("BatchNorm1d")
    module = with_numbers_of(torch, theirs(torch, "BatchNorm1d"), layer)
    program = trace(lambda x: layer(layer(layer(x) * 3)), x=spec("N", 4))
    outs, updates = run_program(program, {"x": ROWS}, layer.state())
    out = module(module(module(torch.from_numpy(ROWS)) * 3))
    np.testing.assert_allclose(outs["out"], out.detach().numpy(), rtol=1e-4, atol=1e-5)
    for n, new in updates.items():
        np.testing.assert_allclose(new, module.state_dict()[n].numpy(), rtol=1e-5, atol=1e-6)
    test, _ = run_program(for_test(program), {"x": ROWS}, layer.state())
    np.testing.assert_array_equal(test["out"], layer(layer(layer(ROWS) * 3)))


# ---- formulas ----------------------------------------------------------------------------------


def test_linear_is_a_product():
    layer, x = made("Linear")
    w, b = layer.state().values()
    np.testing.assert_allclose(layer(x), x @ w.T + b, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "formula"),
    [
        (nn.ReLU(), lambda x: np.maximum(x, 0)),
        (nn.GELU(), lambda x: x * special.ndtr(x)),
        (nn.SiLU(), lambda x: x * special.expit(x)),
        (nn.Sigmoid(), special.expit),
        (nn.Tanh(), np.tanh),
        (nn.Softmax(), lambda x: special.softmax(x, axis=-1)),
        (nn.Softmax(axis=0), lambda x: special.softmax(x, axis=0)),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Module) else "",
)
def test_activations_are_their_formulas(layer, formula):
    np.testing.assert_allclose(layer(ROWS), formula(ROWS), rtol=1e-4, atol=1e-6)


def test_batch_norm_moves_its_statistics():
    layer = nn.BatchNorm1d(4, momentum=0.25)
    program = trace(layer, x=spec("N", 4))
    outs, updates = run_program(program, {"x": ROWS}, layer.state())
    np.testing.assert_allclose(outs["out"].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(outs["out"].var(0), 1, rtol=1e-3)
    np.testing.assert_allclose(updates["running_mean"], 0.25 * ROWS.mean(0), rtol=1e-5)
    wanted = 0.75 + 0.25 * ROWS.var(0, ddof=1)
    np.testing.assert_allclose(updates["running_var"], wanted, rtol=1e-5)
    assert [n for n, s in program.state.items() if s.trainable] == ["weight", "bias"]


def test_dropout_scales_what_it_keeps():
    layer = nn.Dropout(0.25)
    executor = Executor(trace(layer, x=spec(10_000)))
    x = np.ones(10_000, np.float32)
    first, second = executor.run({"x": x})["out"], executor.run({"x": x})["out"]
    assert set(np.unique(first)) == {np.float32(0), np.float32(1 / 0.75)}
    assert (first == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert not np.array_equal(first, second)


def test_two_dropouts_drop_other_elements():
    layer = nn.Dropout(0.5)
    program = trace(lambda x: {"a": layer(x), "b": layer(x)}, x=spec(1000))
    outs, _ = run_program(program, {"x": np.ones(1000, "f")}, {"random": np.array([0, 0])})
    assert not np.array_equal(outs["a"], outs["b"])


def test_dropout_of_nothing_emits_nothing():
    assert not trace(nn.Dropout(0), x=spec("N")).operators


def test_sparse_gradients_name_the_rows():
    layer = nn.Embedding(6, 3, sparse=True)
    program = trace(lambda ids: {"loss": o.reduce_sum(layer(ids))}, ids=spec("N", 3, dtype="int64"))
    _, grads = append_backward(program)
    assert grads["weight"].shape == (6, 3)
    assert [int(n) for n in grads["weight"].rows.shape[1:]] == [3, 3]
    assert grads["weight"].ids.ndim == 2


@pytest.mark.parametrize("sparse", [False, True])
def test_the_padding_row_is_not_learned(sparse):
    layer = nn.Embedding(6, 3, padding_idx=2, sparse=sparse)
    program = trace(lambda ids: {"loss": o.reduce_sum(layer(ids))}, ids=spec("N", 3, dtype="int64"))
    program, grads = append_backward(program)
    program.outputs["grad"] = dense(program, grads)["weight"]
    outs, _ = run_program(program, {"ids": IDS}, layer.state())
    np.testing.assert_array_equal(outs["grad"][:, 0], [1, 2, 0, 0, 0, 1])


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(0, 3),
        lambda: nn.Linear(3, -1),
        lambda: nn.Linear(3, 2.0),
        lambda: nn.Linear(True, 2),
        lambda: nn.Embedding(0, 3),
        lambda: nn.Embedding(5, 3, padding_idx=5),
        lambda: nn.Embedding(5, 3, padding_idx=-6),
        lambda: nn.Conv2d(3, 4, 0),
        lambda: nn.Conv2d(3, 4, (3, 3, 3)),
        lambda: nn.Conv2d(3, 4, 3, groups=2),
        lambda: nn.Conv2d(4, 3, 3, groups=2),
        lambda: nn.Conv2d(4, 4, 3, groups=0),
        lambda: nn.ConvTranspose2d(4, 3, 3, groups=2),
        lambda: nn.ConvTranspose2d(4, 4, -1),
        lambda: nn.BatchNorm1d(0),
        lambda: nn.BatchNorm2d(3, momentum=1.5),
        lambda: nn.BatchNorm2d(3, momentum=None),
        lambda: nn.GroupNorm(1, 3, epsilon=None),
        lambda: nn.BatchNorm2d(3, momentum=-0.1),
        lambda: nn.BatchNorm2d(3, epsilon=-1e-5),
        lambda: nn.LayerNorm(()),
        lambda: nn.LayerNorm((3, 0)),
        lambda: nn.LayerNorm(3, epsilon=float("nan")),
        lambda: nn.GroupNorm(2, 5),
        lambda: nn.GroupNorm(0, 4),
        lambda: nn.Dropout(1),
        lambda: nn.Dropout(-0.1),
        lambda: nn.Dropout("0.5"),
        lambda: nn.MaxPool2d(0),
        lambda: nn.MaxPool2d(2, dilatoin=2),
        lambda: nn.AdaptiveAvgPool2d(0),
        lambda: nn.Softmax(dim=1),
        lambda: nn.ReLU(inplace=True),
    ],
)
def test_bad_arguments_are_refused_when_the_layer_is_made(make):
    with pytest.raises(ArgumentError):
        make()


@pytest.mark.parametrize(
    ("layer", "x", "error"),
    [
        (nn.Linear(4, 2), np.ones((2, 3), "f"), ShapeError),
        (nn.Conv2d(3, 2, 3), np.ones((1, 4, 5, 5), "f"), ShapeError),
        (nn.Conv2d(3, 2, 3), np.ones((3, 5, 5), "f"), ShapeError),
        (nn.ConvTranspose2d(3, 2, 3), np.ones((1, 4, 5, 5), "f"), ShapeError),
        (nn.BatchNorm1d(4), np.ones((2, 4, 3, 3), "f"), ArgumentError),
        (nn.BatchNorm2d(4), np.ones((2, 4), "f"), ArgumentError),
        (nn.BatchNorm2d(4), np.ones((2, 3, 5, 5), "f"), ShapeError),
        (nn.LayerNorm(4), np.ones((2, 3), "f"), ShapeError),
        (nn.GroupNorm(2, 4), np.ones((2, 6, 3), "f"), ShapeError),
        (nn.Embedding(4, 2), np.ones(2, "f"), DTypeError),
        (nn.Embedding(4, 2), np.array([4]), ArgumentError),
        (nn.MaxPool2d(2), np.ones((2, 3), "f"), ShapeError),
        (nn.Flatten(), np.ones((), "f"), ShapeError),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, Module) else "",
)
def test_a_wrong_input_is_an_error_in_both_modes(layer, x, error):
    with pytest.raises(error):
        layer(x)
    with pytest.raises(NoriaError):
        program = trace(lambda x: layer(x), x=spec(*x.shape, dtype=x.dtype))
        run_program(program, {"x": x}, layer.state())
