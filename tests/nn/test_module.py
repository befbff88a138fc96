import copy

import numpy as np
import pytest

from noria.core.errors import ArgumentError, MissingError, ProgramError, ShapeError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.program import Program
from noria.ir.trace import spec, trace
from noria.nn import init
from noria.nn.layers import Conv2d, Dropout, Linear, ReLU
from noria.nn.module import Module, ModuleList, Parameter, Sequential, emitting, pending, update
from noria.ops import methods
from noria.runtime.executor import Executor


class Net(Module):
    """A model with every kind of attribute."""

    def __init__(self):
        self.conv1 = Conv2d(1, 2, 3)
        self.body = Sequential(Linear(8, 4), ReLU(), np.negative, Linear(4, 3, bias=False))
        self.heads = ModuleList([Linear(3, 2), Linear(3, 1)])
        self.scale = Parameter((), init.ones())
        self._hidden = Linear(2, 2)
        self.width = 3


NAMES = [
    "scale",
    "conv1.weight",
    "conv1.bias",
    "body.0.weight",
    "body.0.bias",
    "body.3.weight",
    "heads.0.weight",
    "heads.0.bias",
    "heads.1.weight",
    "heads.1.bias",
    "_hidden.weight",
    "_hidden.bias",
]


def program_of(*models):
    """A Program that applies each model to one input, [N, 3]."""
    return trace(lambda x: {str(i): m(x) for i, m in enumerate(models)}, x=spec("N", 3))


def run(program, model, **feeds):
    outs, updates = run_program(program, feeds, model.state())
    return outs, updates


# ---- names -------------------------------------------------------------------------------------


def test_parameters_are_named_as_in_pytorch():
    assert list(Net().parameters()) == NAMES


def test_names_are_those_pytorch_gives():
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = torch.nn.Conv2d(1, 2, 3)
            self.body = torch.nn.Sequential(
                torch.nn.Linear(8, 4),
                torch.nn.ReLU(),
                torch.nn.Identity(),
                torch.nn.Linear(4, 3, bias=False),
            )
            self.heads = torch.nn.ModuleList([torch.nn.Linear(3, 2), torch.nn.Linear(3, 1)])
            self.scale = torch.nn.Parameter(torch.ones(()))
            self._hidden = torch.nn.Linear(2, 2)

    theirs = {n: tuple(p.shape) for n, p in Theirs().named_parameters()}
    assert {n: p.shape for n, p in Net().parameters().items()} == theirs


def test_state_of_a_program_has_the_names_and_specs_of_the_model():
    net = Sequential(Linear(3, 4), ReLU(), Linear(4, 2))
    program = program_of(net)
    assert {n: (s.value.shape, s.trainable) for n, s in program.state.items()} == {
        n: (p.shape, p.trainable) for n, p in net.parameters().items()
    }
    assert list(program.state) == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_name_is_found_however_late_the_module_is_attached():
    inner = Linear(3, 2)
    outer = Sequential(Sequential(inner))
    assert inner.weight.name == "0.0.weight"
    model = Module()
    model.net = outer
    assert (inner.path, inner.weight.name) == ("net.0.0", "net.0.0.weight")


def test_children_are_listed_in_order():
    assert [n for n, _ in Net().children()] == ["conv1", "body", "heads", "_hidden"]


def test_a_replaced_module_gives_its_name_to_the_next():
    model = Sequential(Linear(3, 2))
    model.fc = Linear(3, 2)
    model.fc = Linear(3, 5)
    assert model.parameters()["fc.weight"].shape == (5, 3)


# ---- sharing -----------------------------------------------------------------------------------


def test_a_module_used_twice_shares_its_parameters():
    layer = Linear(3, 3)
    program = trace(lambda x: layer(layer(x)), x=spec("N", 3))
    assert list(program.state) == ["weight", "bias"]
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    w, b = layer.state().values()
    outs, _ = run(program, layer, x=x)
    np.testing.assert_allclose(outs["out"], (x @ w.T + b) @ w.T + b, rtol=1e-5)


def test_a_module_that_is_two_attributes_has_its_first_name():
    shared = Linear(3, 3)
    model = Sequential(shared, ReLU(), shared)
    assert list(model.parameters()) == ["0.weight", "0.bias"]
    assert list(program_of(model).state) == ["0.weight", "0.bias"]


def test_a_tied_parameter_has_its_first_name():
    class Tied(Module):
        def __init__(self):
            self.first = Linear(3, 3)
            self.second = Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

        def __call__(self, x):
            return self.second(self.first(x))

    model = Tied()
    assert list(model.parameters()) == ["first.weight", "first.bias"]
    assert list(program_of(model).state) == ["first.weight", "first.bias"]


def test_a_part_of_another_model_takes_its_new_name():
    old = Sequential(Linear(3, 3), Linear(3, 10))
    new = Sequential(old[0], Linear(3, 2))
    assert list(new.parameters()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    moved = Module()
    moved.trunk = old[0]
    assert old[0].weight.name == "trunk.weight"


def test_a_module_moved_within_a_model_is_renamed():
    model = Module()
    model.a = Linear(2, 2)
    layer = model.a
    del model.a
    model.b = layer
    assert list(model.parameters()) == ["b.weight", "b.bias"]


def test_a_deep_copy_has_its_own_numbers():
    model = Sequential(Linear(3, 2))
    model.state()
    other = copy.deepcopy(model)
    assert list(other.parameters()) == list(model.parameters())
    other.load({"0.bias": [5, 5]})
    assert not np.any(model.state()["0.bias"] == 5)
    assert other[0].weight.owner is other[0]


# ---- several models ----------------------------------------------------------------------------


def test_two_models_in_one_program_need_names():
    with pytest.raises(ArgumentError, match=r"two parameters are called 'weight'.*(\n.*)*named"):
        program_of(Linear(3, 2), Linear(3, 2))


def test_named_models_live_in_one_program():
    a, b = Linear(3, 2).named("a"), Sequential(Linear(3, 2)).named("deep.b")
    program = program_of(a, b)
    assert list(program.state) == ["a.weight", "a.bias", "deep.b.0.weight", "deep.b.0.bias"]
    assert list(b.parameters()) == ["deep.b.0.weight", "deep.b.0.bias"]
    outs, _ = run_program(program, {"x": np.ones((1, 3), "f")}, a.state() | b.state())
    assert not np.array_equal(outs["0"], outs["1"])


def test_part_of_a_model_cannot_be_named():
    model = Sequential(Linear(3, 2))
    with pytest.raises(ArgumentError, match="'0' of another"):
        model[0].named("x")


def test_an_attribute_takes_the_place_of_a_given_name():
    model = Module()
    model.fc = Linear(3, 2).named("other")
    assert model.fc.weight.name == "fc.weight"


def test_one_model_is_traced_into_many_programs():
    model = Linear(3, 2)
    first, second = program_of(model), program_of(model)
    assert list(first.state) == list(second.state)
    assert first.state["weight"].value is not second.state["weight"].value


def test_a_parameter_without_a_name_cannot_be_used():
    loose = Parameter((3,), init.ones())
    assert repr(loose) == "Parameter(?: float32[3])"
    with pytest.raises(ArgumentError, match="attribute of a Module"):
        trace(lambda x: x * loose, x=spec("N", 3))


# ---- arithmetic --------------------------------------------------------------------------------

X = np.linspace(-1, 2, 6).reshape(2, 3).astype(np.float32)
OTHER = np.linspace(2, 3, 6).reshape(3, 2).astype(np.float32)

FORMS = {
    "p * 2": (lambda p: p * 2, lambda a: a * 2),
    "2 * p": (lambda p: 2 * p, lambda a: 2 * a),
    "p + array": (lambda p: p + X, lambda a: a + X),
    "array - p": (lambda p: X - p, lambda a: X - a),
    "array @ p": (lambda p: OTHER @ p, lambda a: OTHER @ a),
    "p @ array": (lambda p: p @ OTHER, lambda a: a @ OTHER),
    "1 / p": (lambda p: 1 / p, lambda a: 1 / a),
    "p ** 2": (lambda p: p**2, lambda a: a**2),
    "-p": (lambda p: -p, lambda a: -a),
    "+p": (lambda p: +p, lambda a: a),
    "abs": (lambda p: abs(p), np.abs),
    "p // 1": (lambda p: p // 1, lambda a: a // 1),
    "p < array": (lambda p: p < X, lambda a: a < X),
    "array < p": (lambda p: np.less(X, p), lambda a: np.less(X, a)),
    "p + p": (lambda p: p + p, lambda a: a + a),
    "T": (lambda p: p.T, lambda a: a.T),
    "reshape": (lambda p: p.reshape(3, 2), lambda a: a.reshape(3, 2)),
    "reshape(-1)": (lambda p: p.reshape((-1,)), np.ravel),
    "unsqueeze": (lambda p: p.unsqueeze(1), lambda a: a[:, None]),
    "squeeze": (lambda p: p.unsqueeze(0).squeeze(), lambda a: a),
    "expand": (lambda p: p.expand(2, 2, 3), lambda a: np.stack([a, a])),
    "swapaxes": (lambda p: p.swapaxes(0, 1), lambda a: a.T),
    "transpose": (lambda p: p.transpose(1, 0), lambda a: a.T),
    "flatten": (lambda p: p.flatten(), np.ravel),
    "sum": (lambda p: p.sum(axis=1, keepdims=True), lambda a: a.sum(1, keepdims=True)),
    "std": (lambda p: p.std(axis=0, correction=1), lambda a: a.std(0, ddof=1)),
    "max": (lambda p: p.max(), np.max),
    "softmax": (lambda p: p.softmax(axis=0), lambda a: np.exp(a) / np.exp(a).sum(0)),
    "relu": (lambda p: p.relu(), lambda a: np.maximum(a, 0)),
    "clip": (lambda p: p.clip(low=0.1), lambda a: np.maximum(a, np.float32(0.1))),
    "astype": (lambda p: p.astype("int64"), lambda a: a.astype(np.int64)),
    "detach": (lambda p: p.detach(), lambda a: a),
    "item": (lambda p: p[1, 1:], lambda a: a[1, 1:]),
    "iteration": (lambda p: list(p)[1], lambda a: a[1]),
    "split": (lambda p: p.split(num=3, axis=1)[2], lambda a: a[:, 2:]),
}


class Holder(Module):
    def __init__(self, fn):
        self.p = Parameter((2, 3), init.normal())
        self.fn = fn

    def __call__(self, x):
        return self.fn(self.p)


@pytest.mark.parametrize("form", FORMS)
def test_arithmetic_on_parameters_is_the_same_in_programs_and_eager(form):
    fn, wanted = FORMS[form]
    model = Holder(fn)
    a = model.p.numbers()
    eager = model(None)
    assert isinstance(eager, np.ndarray)
    program = trace(lambda x: model(x), x=spec())
    outs, _ = run(program, model, x=np.zeros((), "f"))
    np.testing.assert_array_equal(eager, outs["out"])
    assert eager.dtype == outs["out"].dtype
    np.testing.assert_allclose(eager, wanted(a), rtol=1e-5, atol=1e-6)
    assert eager.dtype == wanted(a).dtype


def test_every_method_of_values_is_one_of_parameters():
    for name in methods.NAMES:
        assert callable(getattr(Parameter, name))
    p = Holder(None).p
    assert (p.ndim, len(p), p.shape, p.dtype) == (2, 2, (2, 3), "float32")


def test_a_parameter_becomes_an_array_outside_programs_only():
    model = Holder(None)
    np.testing.assert_array_equal(np.asarray(model.p), model.p.numbers())
    assert np.asarray(model.p, dtype=np.float64).dtype == np.float64
    with pytest.raises(ArgumentError, match="has no numbers"):
        trace(lambda x: x + np.asarray(model.p), x=spec(2, 3))


def test_other_functions_of_numpy_are_refused_in_both_modes():
    model = Holder(np.exp)
    with pytest.raises(ArgumentError, match=r"numpy\.exp"):
        model(None)
    with pytest.raises(ArgumentError, match=r"numpy\.exp"):
        trace(lambda x: model(x), x=spec(2, 3))


def test_the_truth_of_a_parameter_is_an_error():
    with pytest.raises(ArgumentError, match="neither true nor false"):
        bool(Holder(None).p)


# ---- eager numbers -----------------------------------------------------------------------------


def test_state_and_load_are_inverse():
    a, b = Net(), Net()
    a.load({n: np.full(p.shape, i) for i, (n, p) in enumerate(a.parameters().items())})
    assert b.load(a.state()) is b
    for name, array in b.state().items():
        np.testing.assert_array_equal(array, np.full(array.shape, NAMES.index(name)))
        assert array.dtype == np.float32


def test_state_and_load_copy():
    model = Linear(2, 2)
    given = np.zeros((2, 2), np.float32)
    model.load({"weight": given})
    given[:] = 1
    model.state()["weight"][:] = 2
    np.testing.assert_array_equal(model.weight.numbers(), np.zeros((2, 2)))


def test_loading_some_keeps_the_others():
    model = Linear(2, 2)
    before = model.state()["weight"]
    model.load({"bias": [1, 2]})
    np.testing.assert_array_equal(model.state()["weight"], before)
    np.testing.assert_array_equal(model.state()["bias"], [1, 2])


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ({"bias": [7, 7], "wieght": np.zeros((2, 2))}, MissingError, "did you mean 'weight'"),
        ({"bias": [7, 7], "weight": np.zeros((2, 1))}, ShapeError, "'weight' has another shape"),
    ],
)
def test_a_wrong_load_changes_nothing(values, error, match):
    model = Linear(2, 2)
    with pytest.raises(error, match=match):
        model.load(values)
    assert not np.any(model.state()["bias"] == 7)


def test_numbers_of_a_trained_scope_are_loaded():
    model = Linear(3, 2)
    executor = Executor(program_of(model), seed=9)
    x = np.ones((1, 3), np.float32)
    assert not np.array_equal(model(x), executor.run({"x": x})["0"])
    model.load(executor.scope.state())
    np.testing.assert_allclose(model(x), executor.run({"x": x})["0"], rtol=1e-5)


def test_eager_numbers_differ_between_layers():
    model = Sequential(Linear(3, 3), Linear(3, 3))
    state = model.state()
    assert not np.any(state["0.weight"] == state["1.weight"])


def test_state_may_be_asked_for_while_a_program_is_built():
    model = Linear(3, 2)

    def fn(x):
        assert all(type(a) is np.ndarray for a in Linear(3, 2).state().values())
        assert type(Holder(None).p.numbers()) is np.ndarray
        return model(x)

    assert len(trace(fn, x=spec("N", 3)).operators) == 1


# ---- building ----------------------------------------------------------------------------------


def test_emitting_tells_the_two_modes_apart():
    assert not emitting()
    with Builder(Program()):
        assert emitting()


def test_an_update_is_committed_when_the_step_ends():
    class Counter(Module):
        def __init__(self):
            self.count = Parameter((), init.zeros(), dtype="int64", trainable=False)

        def __call__(self, x):
            assert pending(self.count) is None
            new = self.count + 1
            update(self.count, new)
            assert pending(self.count) is new
            return x + self.count

    executor = Executor(trace(Counter(), x=spec(dtype="int64")))
    seen = [int(executor.run({"x": np.array(10)})["out"]) for _ in range(3)]
    assert seen == [10, 11, 12]
    assert executor.scope["count"] == 3


def test_an_update_outside_a_program_is_an_error():
    with pytest.raises(ProgramError, match="no Program is being built"):
        update(Holder(None).p, np.zeros((2, 3)))


def test_a_module_without_call_says_so():
    with pytest.raises(NotImplementedError, match="Module has no __call__"):
        Module()(1)


# ---- containers --------------------------------------------------------------------------------


def test_sequential_applies_modules_and_functions():
    model = Sequential(Linear(3, 2), np.tanh, lambda x: x * 2)
    x = np.ones((1, 3), np.float32)
    np.testing.assert_allclose(model(x), np.tanh(model[0](x)) * 2, rtol=1e-6)
    assert len(model) == 3
    assert model[-1](1) == 2


def test_an_empty_sequential_is_the_identity():
    assert Sequential()(5) == 5


def test_sequential_refuses_what_cannot_be_called():
    with pytest.raises(ArgumentError, match="layer 1 of Sequential"):
        Sequential(ReLU(), 3)


def test_module_list_is_a_list():
    layers = ModuleList(Dropout(p) for p in (0.1, 0.2))
    layers.append(Linear(2, 2))
    assert [type(m) for m in layers] == [Dropout, Dropout, Linear]
    assert (len(layers), layers[0].p, layers[-1].weight.name) == (3, 0.1, "2.weight")


def test_module_list_refuses_what_is_no_module():
    with pytest.raises(ArgumentError, match="holds modules"):
        ModuleList([ReLU(), np.tanh])


def test_repr_shows_the_tree():
    assert repr(Sequential(Linear(3, 2), ReLU())) == (
        "Sequential(\n"
        "  0: Linear(\n"
        "    weight: float32[2, 3]\n"
        "    bias: float32[2]\n"
        "  )\n"
        "  1: ReLU()\n"
        ")"
    )
    assert repr(Linear(3, 2).named("fc").weight) == "Parameter(fc.weight: float32[2, 3])"
