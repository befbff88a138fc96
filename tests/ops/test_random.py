import importlib
import math

import numpy as np
import pytest
from scipy import stats

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef, lookup
from noria.ir.program import Program
from noria.ops import random
from noria.ops.loops import scan
from noria.ops.random import dropout, next_stream, random_key, uniform
from noria.passes.for_test import for_test
from noria.testing.case import Case, arr
from noria.testing.check import check_case

family = importlib.import_module("noria.ops.random")
KEY = np.array([7, 3])
MASK = 0xFFFFFFFF


def one_block(block, stream, key):
    """Philox 4x32-10 in Python's integers."""
    a, b, c, d = block, 0, stream & MASK, stream >> 32
    k0, k1 = (int(k) & MASK for k in key)
    for _ in range(10):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (q >> 32) ^ b ^ k0, q & MASK, (p >> 32) ^ d ^ k1, p & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return a, b, c, d


def words(key, stream, count):
    blocks = [one_block(i, stream, key) for i in range(-(-count // 4))]
    return np.array([w for b in blocks for w in b][:count], np.uint64)


def units(key, stream, shape):
    return ((words(key, stream, math.prod(shape)) >> 8) / 2.0**24).reshape(shape)


def gaussians(key, stream, shape):
    count = math.prod(shape)
    w = words(key, stream, count + count % 2)
    out = []
    for a, b in w.reshape(-1, 2).tolist():
        r, t = math.sqrt(-2 * math.log((a + 0.5) / 2**32)), 2 * math.pi * b / 2**32
        out += [r * math.cos(t), r * math.sin(t)]
    return np.array(out[:count]).reshape(shape)


def cut(key, stream, shape):
    """Quantiles of the normal distribution between its values at -2 and 2."""
    low, high = stats.norm.cdf([-2, 2])
    return stats.norm.ppf(low + (high - low) * units(key, stream, shape))


def draw(name, fn, stream=9, key=KEY, **attrs):
    return Case(name, [key], {**attrs, "stream": stream}, expect=lambda k: fn(k, stream))


def dropped(p, stream):
    def apply(x, key):
        kept = units(key, stream, x.shape) >= p
        return np.where(kept, x.astype(np.float64) / (1 - p), 0), kept

    return apply


def thinned(p, shape, symbolic=None, stream=4, **more):
    return Case(
        "dropout",
        [arr(*shape, **more), KEY],
        {"p": p, "stream": stream},
        expect=dropped(p, stream),
        symbolic=symbolic,
    )


CASES = [
    draw("uniform", lambda k, s: units(k, s, (3, 5)), shape=(3, 5)),
    draw("uniform", lambda k, s: 7 * units(k, s, (7,)) - 2, shape=(7,), low=-2.0, high=5.0),
    draw("uniform", lambda k, s: units(k, s, ()), shape=(), stream=2**32 + 1),
    draw("uniform", lambda k, s: units(k, s, (4,)), shape=4, key=np.array([-1, 2**31 - 1])),
    draw("uniform", lambda k, s: units(k, s, (0, 3)), shape=(0, 3)),
    draw("uniform", lambda k, s: units(k, s, (9,)), shape=(9,), dtype="bfloat16"),
    draw("uniform", lambda k, s: units(k, s, (9,)), shape=(9,), dtype="float16"),
    Case("uniform", [KEY], {"shape": (3,), "dtype": "float64"}),
    draw("normal", lambda k, s: gaussians(k, s, (3, 5)), shape=(3, 5)),
    draw("normal", lambda k, s: 3 + 2 * gaussians(k, s, (5,)), shape=(5,), mean=3.0, std=2.0),
    draw("normal", lambda k, s: gaussians(k, s, (9,)), shape=(9,), dtype="float64"),
    draw("normal", lambda k, s: gaussians(k, s, (9,)), shape=(9,), dtype="bfloat16"),
    draw("truncated_normal", lambda k, s: cut(k, s, (3, 5)), shape=(3, 5)),
    draw("truncated_normal", lambda k, s: 1 + 3 * cut(k, s, (9,)), shape=(9,), mean=1.0, std=3.0),
    Case("truncated_normal", [KEY], {"shape": (3,), "dtype": "float64"}),
    draw("randint", lambda k, s: words(k, s, 9) * 10 >> 32, shape=(9,), high=10),
    draw(
        "randint",
        lambda k, s: (words(k, s, 6) * 200 >> 32).astype(np.int64).reshape(2, 3) - 100,
        shape=(2, 3),
        low=-100,
        high=100,
        dtype="int8",
    ),
    draw("randint", lambda k, s: words(k, s, 5) >> 1, shape=(5,), high=2**31),
    draw("bernoulli", lambda k, s: units(k, s, (4, 5)) < 0.3, shape=(4, 5), p=0.3),
    draw("bernoulli", lambda k, s: np.ones(5), shape=(5,), p=1, dtype="float32"),
    draw("bernoulli", lambda k, s: np.zeros(5), shape=(5,), p=0, dtype="int64"),
    draw("permutation", lambda k, s: np.argsort(words(k, s, 11), kind="stable"), n=11),
    draw("permutation", lambda k, s: np.zeros(0), n=0),
    thinned(0.5, (3, 5), symbolic={0: {0: "N"}}),
    thinned(0.2, (2, 3, 7), stream=2**32 + 3),
    thinned(0.0, (6,)),
    thinned(0.3, ()),
    thinned(0.3, (0, 4)),
    thinned(0.3, (5, 4), dtype="bfloat16"),
    thinned(0.3, (5,), dtype="float64"),
    Case("next_key", [KEY], expect=lambda k: np.array([7, 4])),
    Case("fold_key", [KEY, np.int64(5)]),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    found = {d.name for d in vars(family).values() if isinstance(d, OpDef)}
    assert found == {c.op for c in CASES}


def test_every_random_op_declares_its_effect():
    drawing = {c.op for c in CASES} - {"next_key", "fold_key"}
    assert {lookup(n).effect for n in drawing} == {"random"}
    assert lookup("next_key").effect == lookup("fold_key").effect == "pure"


@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_open_sizes_are_bound_at_run_time(name):
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (symbol("N"), 2))
        program.outputs = {"out": getattr(random, name)(shape=x.shape)}
    state = {"random": KEY}
    out, _ = run_program(program, {"x": np.zeros((3, 2), np.float32)}, state)
    assert out["out"].shape == (3, 2)


# ---- the Program's key -------------------------------------------------------------------------


def thinning_program():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (1000,))
        program.outputs = {"a": dropout(x, p=0.5), "b": dropout(x, p=0.5)}
    return program


def test_a_program_draws_other_numbers_each_step_and_the_same_again():
    program = thinning_program()
    feeds = {"x": np.ones(1000, np.float32)}
    state = {"random": np.array([11, 0])}
    first, new = run_program(program, feeds, state)
    assert new["random"].tolist() == [11, 1]
    second, _ = run_program(program, feeds, new)
    again, _ = run_program(program, feeds, state)
    assert not np.array_equal(first["a"], first["b"])  # two streams
    assert not np.array_equal(first["a"], second["a"])
    assert np.array_equal(first["a"], again["a"])


def test_a_program_has_one_key_and_updates_it_once():
    program = thinning_program()
    assert list(program.state) == ["random"] and list(program.updates) == ["random"]
    kinds = [op.type for op in program.operators]
    assert kinds.count("next_key") == 1
    streams = [op.attrs["stream"] for op in program.operators if op.type == "dropout"]
    assert len(set(streams)) == 2


def test_streams_stay_unique_when_a_program_is_built_further():
    program = thinning_program()
    used = {op.attrs.get("stream") for op in program.operators}
    with Builder(program):
        assert next_stream() not in used
    with Builder(program):
        uniform(shape=(2,))
        uniform(shape=(2,))
    streams = [op.attrs["stream"] for op in program.operators if "stream" in op.attrs]
    assert len(streams) == len(set(streams)) == 4


def test_each_iteration_of_a_loop_draws_other_numbers():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (5, 100))
        _, out = scan(lambda c, row: (c, dropout(row, p=0.5)), None, x)
        program.outputs = {"out": out, "after": uniform(shape=(3,))}
    out, new = run_program(program, {"x": np.ones((5, 100), np.float32)}, {"random": KEY})
    assert len({row.tobytes() for row in out["out"]}) == 5
    assert new["random"].tolist() == [7, 4]


def test_the_gradient_of_dropout_flows_where_it_kept():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (200,))
        out = dropout(x, p=0.75)
        program.outputs = {"out": out, "g": gradients(out, [x])[0]}
    got, _ = run_program(program, {"x": np.ones(200, np.float32)}, {"random": KEY})
    assert set(got["out"].tolist()) == {0.0, 4.0}
    assert np.array_equal(got["g"], got["out"])


def test_dropout_is_the_identity_at_test_time():
    program = for_test(thinning_program())
    x = np.arange(1000, dtype=np.float32)
    out, new = run_program(program, {"x": x}, {})
    assert np.array_equal(out["a"], x) and new == {}


def test_dropout_of_nothing_is_its_input():
    x = np.ones(3, np.float32)
    assert dropout(x, p=0.0) is x
    with Builder(Program()) as builder:
        value = builder.input("x", (3,))
        assert dropout(value, p=0) is value and not builder.program.state


def test_the_key_of_another_program_is_not_declared_in_a_nested_block_twice():
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (2, 4))
        scan(lambda c, row: (c, dropout(row, p=0.5)), None, x)
        key = random_key()
    assert key is program.state["random"].value


# ---- eager mode --------------------------------------------------------------------------------


def test_arrays_need_a_key():
    with pytest.raises(ArgumentError, match="needs a key"):
        dropout(np.ones(3), p=0.5)
    with pytest.raises(ArgumentError, match="needs a key"):
        uniform(shape=(3,))


def test_every_function_draws_what_its_op_draws():
    shape = {"shape": (2, 3)}
    for name, attrs in (
        ("uniform", shape),
        ("normal", shape),
        ("truncated_normal", shape),
        ("randint", {**shape, "high": 9}),
        ("bernoulli", shape),
        ("permutation", {"n": 5}),
    ):
        got = getattr(random, name)(KEY, **attrs, stream=3)
        assert np.array_equal(got, lookup(name)(KEY, **attrs, stream=3))


def test_many_draws_have_the_distribution_they_should():
    z = random.truncated_normal(KEY, shape=(20_000,))
    assert np.abs(z).max() <= 2
    assert stats.kstest(z.astype(np.float64), stats.truncnorm(-2, 2).cdf).pvalue > 0.01
    counts = np.bincount(random.randint(KEY, shape=(20_000,), high=7))
    assert stats.chisquare(counts).pvalue > 0.01
    assert abs(random.bernoulli(KEY, shape=(20_000,), p=0.3).mean() - 0.3) < 0.02
    assert sorted(random.permutation(KEY, n=1000)) == list(range(1000))


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [np.array([1, 2], np.int32), np.array([1]), np.array([1.0, 2.0])])
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ShapeError, match="seed, step"):
        lookup("uniform")(key, shape=(2,))


@pytest.mark.parametrize(
    ("name", "attrs", "error"),
    [
        ("uniform", {"shape": (2,), "dtype": "int64"}, DTypeError),
        ("normal", {"shape": (-1,)}, ShapeError),
        ("randint", {"shape": (2,), "high": 0}, ArgumentError),
        ("randint", {"shape": (2,), "high": 2**32}, ArgumentError),
        ("randint", {"shape": (2,), "high": 1.5}, ArgumentError),
        ("randint", {"shape": (2,), "high": 300, "dtype": "uint8"}, ArgumentError),
        ("randint", {"shape": (2,), "high": 3, "dtype": "float32"}, DTypeError),
        ("bernoulli", {"shape": (2,), "p": 1.5}, ArgumentError),
        ("permutation", {"n": 3, "stream": -1}, ArgumentError),
    ],
)
def test_bad_attributes_are_refused(name, attrs, error):
    with pytest.raises(error):
        lookup(name)(KEY, **attrs)


@pytest.mark.parametrize("p", [1.0, -0.1, None])
def test_dropout_refuses_probabilities_outside_its_range(p):
    with pytest.raises(ArgumentError, match="probability"):
        dropout(np.ones(3), KEY, p=p)


def test_fold_key_takes_an_integer_scalar():
    with pytest.raises(ShapeError, match="scalar"):
        lookup("fold_key")(KEY, np.array([1, 2]))
    with pytest.raises(DTypeError):
        lookup("fold_key")(KEY, 1.5)
