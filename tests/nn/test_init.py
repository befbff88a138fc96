import math

import numpy as np
import pytest
from scipy import stats

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.emit import Builder
from noria.ir.program import Program, State, Value
from noria.ir.save import load, save
from noria.nn import init
from noria.nn.layers import Linear
from noria.nn.module import Module, Parameter
from noria.runtime.scope import Scope, initial_value

N = 200_000  # numbers drawn: a mean is off by std / 450 or so


def draw(start, shape=(N,), name="w", seed=0, dtype="float32"):
    return initial_value(State(Value(name, shape, dtype), start), seed)


# ---- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "value"), [(init.zeros(), 0), (init.ones(), 1), (init.constant(-2.5), -2.5)]
)
def test_constants_fill_the_state(start, value):
    np.testing.assert_array_equal(draw(start, (2, 3)), np.full((2, 3), value, np.float32))


def test_a_numpy_number_is_kept_as_plain_data():
    assert init.constant(np.float32(0.5)) == ("fill", {"value": 0.5})
    assert type(init.constant(np.float32(0.5))[1]["value"]) is float


def test_array_gives_its_numbers_in_the_dtype_of_the_state():
    data = np.arange(6).reshape(2, 3)
    got = draw(init.array(data), (2, 3))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, data)


def test_array_takes_a_copy():
    data = np.zeros(3, np.float32)
    start = init.array(data)
    data[:] = 7
    np.testing.assert_array_equal(draw(start, (3,)), [0, 0, 0])
    with pytest.raises(ValueError, match="read-only"):
        start[1]["value"][0] = 1


# ---- distributions -----------------------------------------------------------------------------

WEIGHT = (300, 80, 3, 3)  # fan in 720, fan out 2700
ROOT2 = math.sqrt(2)
TRUNCATED = stats.truncnorm(-2, 2, loc=0.5, scale=0.3)

DISTRIBUTIONS = {
    "uniform": (init.uniform(-1, 3), stats.uniform(-1, 4)),
    "normal": (init.normal(2, 0.5), stats.norm(2, 0.5)),
    "truncated": (init.truncated_normal(0.5, 0.3), TRUNCATED),
    "fan in": (init.fan_in_uniform(25), stats.uniform(-0.2, 0.4)),
    "xavier_uniform": (
        init.xavier_uniform(WEIGHT, gain=2),
        stats.uniform(-2 * math.sqrt(6 / 3420), 4 * math.sqrt(6 / 3420)),
    ),
    "xavier_normal": (init.xavier_normal(WEIGHT), stats.norm(0, math.sqrt(2 / 3420))),
    "kaiming_uniform": (
        init.kaiming_uniform(WEIGHT),
        stats.uniform(-math.sqrt(6 / 720), 2 * math.sqrt(6 / 720)),
    ),
    "kaiming_normal": (init.kaiming_normal(WEIGHT), stats.norm(0, math.sqrt(2 / 720))),
    "kaiming_out": (
        init.kaiming_normal(WEIGHT, gain=5 / 3, mode="out"),
        stats.norm(0, 5 / 3 / math.sqrt(2700)),
    ),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_numbers_follow_the_distribution(name):
    start, wanted = DISTRIBUTIONS[name]
    got = draw(start).astype(np.float64)
    mean, variance, kurtosis = wanted.stats("mvk")
    error = math.sqrt(variance / N)
    assert abs(got.mean() - mean) < 5 * error
    assert got.var() == pytest.approx(variance, rel=5 * math.sqrt((kurtosis + 2) / N))
    assert stats.kstest(got, wanted.cdf).pvalue > 1e-4
    low, high = wanted.support()
    slack = 1e-6 * math.sqrt(variance)
    assert low - slack <= got.min() and got.max() <= high + slack


def test_numbers_next_to_each_other_are_not_correlated():
    got = draw(init.normal())
    assert abs(np.corrcoef(got[:-1], got[1:])[0, 1]) < 5 / math.sqrt(N)


@pytest.mark.parametrize("name", ["xavier_uniform", "xavier_normal", "kaiming_uniform"])
def test_gains_and_fans_equal_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    size = {"xavier_uniform": 2.0, "xavier_normal": 2.0, "kaiming_uniform": None}[name]
    weight = torch.empty(60, 50, 3, 3)
    torch.manual_seed(0)
    if size:
        getattr(torch.nn.init, name + "_")(weight, gain=size)
        start = getattr(init, name)((60, 50, 3, 3), gain=size)
    else:
        torch.nn.init.kaiming_uniform_(weight, nonlinearity="relu")
        start = init.kaiming_uniform((60, 50, 3, 3))
    ours = draw(start, (60, 50, 3, 3))
    assert ours.std() == pytest.approx(weight.std().item(), rel=0.02)


@pytest.mark.parametrize(
    ("nonlinearity", "slope"),
    [*((n, 0.0) for n in ("linear", "sigmoid", "tanh", "relu", "selu")), ("leaky_relu", 0.2)],
)
def test_gain_equals_that_of_pytorch(nonlinearity, slope):
    torch = pytest.importorskip("torch")
    wanted = torch.nn.init.calculate_gain(nonlinearity, slope or None)
    assert init.gain(nonlinearity, slope) == pytest.approx(wanted)


def test_fans_count_the_kernel():
    assert init.fans((5, 7)) == (7, 5)
    assert init.fans((5, 7, 2, 3)) == (42, 30)


def test_empty_weights_have_initialisers():
    for make in (init.xavier_uniform, init.xavier_normal, init.kaiming_uniform):
        assert draw(make((0, 0)), (0, 0)).shape == (0, 0)
    assert init.fan_in_uniform(0) == init.uniform(0, 0)


# ---- determinism -------------------------------------------------------------------------------


def scope_of(names, seed):
    program = Program()
    with Builder(program) as b:
        for n in names:
            b.state(n, (50,), init=init.normal(), trainable=True)
    return Scope().initialize(program, seed).state()


def test_numbers_depend_on_seed_and_name_alone():
    first = scope_of(["a", "b", "c"], 3)
    again = scope_of(["c", "other", "a"], 3)
    for name in ("a", "c"):
        np.testing.assert_array_equal(first[name], again[name])
    drawn = [*first.values(), *scope_of(["a", "b", "c"], 4).values()]
    for i, x in enumerate(drawn):
        for y in drawn[:i]:
            assert not np.any(x == y)


@pytest.mark.parametrize("start", [init.normal(), init.uniform(), init.truncated_normal()])
def test_a_larger_state_starts_with_the_same_numbers(start):
    np.testing.assert_array_equal(draw(start, (8,)), draw(start, (2, 8))[0])


def test_eager_numbers_are_those_of_a_scope_with_seed_0():
    layer = Linear(3, 2)
    for name, p in layer.parameters().items():
        np.testing.assert_array_equal(p.numbers(), draw(p.init, p.shape, name))


def test_initialisers_survive_saving(tmp_path):
    program = Program()
    starts = {
        "half": init.constant(np.float32(0.5)),
        "given": init.array([[1.0, 2.0]]),
        "drawn": init.kaiming_normal((1, 2)),
    }
    with Builder(program) as b:
        for name, start in starts.items():
            b.state(name, (1, 2), init=start)
    save(program, tmp_path / "p")
    loaded = load(tmp_path / "p")
    loaded = loaded[0] if isinstance(loaded, tuple) else loaded
    before = Scope().initialize(program, 5).state()
    for name, array in Scope().initialize(loaded, 5).state().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_every_float_dtype_is_drawn(dtype):
    got = draw(init.normal(1, 0.1), (5000,), dtype=dtype)
    assert str(got.dtype) == dtype
    assert got.astype(np.float64).mean() == pytest.approx(1, abs=0.01)
    assert got.astype(np.float64).std() == pytest.approx(0.1, rel=0.1)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: init.constant([1, 2]),
        lambda: init.uniform(1, 0),
        lambda: init.uniform(0, math.inf),
        lambda: init.uniform(math.nan, 1),
        lambda: init.normal(0, -1),
        lambda: init.normal(math.nan, 1),
        lambda: init.truncated_normal(0, math.inf),
        lambda: init.fans((3,)),
        lambda: init.xavier_normal(()),
        lambda: init.kaiming_uniform((3, 3), mode="fan_out"),
        lambda: init.gain("nonsense"),
    ],
)
def test_bad_numbers_are_refused(make):
    with pytest.raises(ArgumentError):
        make()


@pytest.mark.parametrize("start", [0.5, init.normal, ("normal", 1.0), None])
def test_what_is_no_initialiser_is_refused(start):
    with pytest.raises(ArgumentError, match="not an initialiser"):
        Parameter((3,), start)


def test_array_of_another_shape_is_refused():
    with pytest.raises(ShapeError, match="another shape"):
        Parameter((3,), init.array([1.0, 2.0]))


@pytest.mark.parametrize("shape", [(-1,), (2.5,), "ab", (None,)])
def test_bad_shapes_are_refused(shape):
    with pytest.raises(ShapeError):
        Parameter(shape, init.zeros())


def test_bad_dtype_is_refused():
    with pytest.raises(DTypeError):
        Parameter((3,), init.zeros(), dtype="float31")


def test_array_fills_a_layer():
    class Known(Module):
        def __init__(self):
            self.table = Parameter((2, 2), init.array(np.eye(2)), trainable=False)

        def __call__(self, x):
            return x @ self.table

    x = np.array([[3.0, 4.0]], np.float32)
    np.testing.assert_array_equal(Known()(x), x)
