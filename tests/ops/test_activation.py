import math

import numpy as np
import pytest
from scipy import special

import noria.ops.activation as activation
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

ROWS = {0: {0: "N"}}
FAR = np.array([-1e4, -100.0, -30.0, -1.0, 0.0, 1.0, 30.0, 100.0, 1e4], np.float32)
# 12 numbers, none of them at a kink of a piecewise function
WIDE = arr(3, 4, low=-4.75, high=4.75, distinct=True)


def each(fn):
    """A function of one number, applied one by one in double precision."""

    def apply(x):
        return np.array([fn(float(v)) for v in x.ravel()]).reshape(x.shape)

    return apply


def logistic(v):
    return special.expit(v)


def soft(v):
    return np.logaddexp(0, v)


def pointwise(name, fn, attrs=None, grad2=True, wide=WIDE):
    """The usual cases of a function of one array."""
    attrs, expect = attrs or {}, each(fn)
    return [
        Case(name, [wide], attrs, expect=expect, symbolic=ROWS, grad2=grad2),
        Case(name, [arr(2, 3, 2, low=0.1)], attrs, expect=expect, grad2=grad2),
        Case(name, [arr()], attrs, expect=expect),
        Case(name, [arr(0, 3)], attrs),
        Case(name, [arr(5, dtype="float64")], attrs, expect=expect),
        Case(name, [arr(9, dtype="bfloat16")], attrs, expect=expect),
        Case(name, [arr(9, dtype="float16")], attrs, expect=expect),
        Case(name, [FAR], attrs, expect=expect, grad=False, id="far"),  # kinks, and huge numbers
    ]


def phi(v):
    return v * 0.5 * special.erfc(-v / math.sqrt(2))


def phi_tanh(v):
    return 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))


def ramp(v, slope=1 / 6, offset=0.5):
    return min(max(slope * v + offset, 0), 1)


def prelu(x, weight):
    out = x.astype(np.float64)
    for at in np.ndindex(x.shape):
        channel = at[min(1, x.ndim - 1)] if len(weight) > 1 else 0
        out[at] *= 1 if x[at] > 0 else weight[channel]
    return out


PIECEWISE = [
    *pointwise("relu", lambda v: max(v, 0)),
    Case("relu", [ints(5, low=-4)], expect=lambda x: np.maximum(x, 0)),
    Case("relu", [np.array([math.nan, -math.inf, math.inf])], grad=False),  # not finite
    *pointwise("leaky_relu", lambda v: v if v > 0 else 0.01 * v),
    *pointwise("leaky_relu", lambda v: v if v > 0 else -0.5 * v, {"negative_slope": -0.5}),
    Case("prelu", [arr(3, 4), arr(4)], expect=prelu, symbolic=ROWS, grad2=True),
    Case("prelu", [arr(2, 4, 3, 5), arr(4)], expect=prelu, symbolic=ROWS),
    Case("prelu", [arr(2, 3, 2), arr(1)], expect=prelu),
    Case("prelu", [arr(5), arr(5)], expect=prelu),
    Case("prelu", [arr(0, 3, 2), arr(3)], expect=prelu),
    Case("prelu", [arr(2, 3, dtype="bfloat16"), arr(3, dtype="bfloat16")], expect=prelu),
    *pointwise("hard_sigmoid", ramp),
    *pointwise("hard_sigmoid", lambda v: ramp(v, 0.2, 0.4), {"slope": 0.2, "offset": 0.4}),
    *pointwise("hard_swish", lambda v: v * ramp(v)),
]

SMOOTH = [
    *pointwise("sigmoid", logistic),
    *pointwise("elu", lambda v: v if v > 0 else math.expm1(v)),
    *pointwise("elu", lambda v: v if v > 0 else -0.7 * math.expm1(v), {"alpha": -0.7}),
    *pointwise("gelu", phi),
    *pointwise("gelu", phi_tanh, {"approximate": "tanh"}),
    *pointwise("silu", lambda v: v * logistic(v)),
    *pointwise("softplus", soft),
    *pointwise("softplus", lambda v: soft(2.5 * v) / 2.5, {"beta": 2.5, "threshold": 50.0}),
    *pointwise("mish", lambda v: v * math.tanh(soft(v))),
    Case(
        "softplus",
        [arr(9, low=-3, high=3)],
        {"beta": 2.0, "threshold": 1.0},
        expect=each(lambda v: v if 2 * v > 1 else soft(2 * v) / 2),
        grad2=True,
    ),
]


def softmax(axis=-1):
    return lambda x: special.softmax(x.astype(np.float64), axis)


def log_softmax(axis=-1):
    return lambda x: special.log_softmax(x.astype(np.float64), axis)


def along(name, expect):
    return [
        Case(name, [arr(3, 5)], expect=expect(), symbolic=ROWS, grad2=True),
        Case(name, [arr(3, 5)], {"axis": 0}, expect=expect(0), symbolic=ROWS, grad2=True),
        Case(name, [arr(2, 3, 4)], {"axis": -2}, expect=expect(1), symbolic={0: {1: "T"}}),
        Case(name, [arr(4, 1)], expect=expect()),
        Case(name, [arr(0, 3)], expect=expect()),
        Case(name, [arr(3, 0)]),
        Case(name, [arr(3, 50, dtype="float16")], expect=expect()),
        Case(name, [arr(3, 50, dtype="bfloat16")], expect=expect()),
        Case(name, [np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4]])], expect=expect(), id="far"),
        Case(name, [np.array([[0.0, -math.inf]])], expect=expect(), grad=False),  # not finite
    ]


CASES = [
    *PIECEWISE,
    *SMOOTH,
    *along("softmax", softmax),
    *along("log_softmax", log_softmax),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    found = {d.name for d in vars(activation).values() if isinstance(d, OpDef)}
    assert found == {c.op for c in CASES}


def halves(x):
    a, b = np.split(x.astype(np.float64), 2, axis=1)
    return a * logistic(b)


COMPOSED = {
    "relu6": (activation.relu6, lambda v: min(max(v, 0), 6)),
    "hard_tanh": (activation.hard_tanh, lambda v: min(max(v, -1), 1)),
    "selu": (
        activation.selu,
        lambda v: 1.0507009873554805 * (v if v > 0 else 1.6732632423543772 * math.expm1(v)),
    ),
    "celu": (
        lambda x: activation.celu(x, alpha=2.0),
        lambda v: max(v, 0) + min(0, 2 * math.expm1(v / 2)),
    ),
    "swish": (lambda x: activation.swish(x, beta=1.5), lambda v: v * logistic(1.5 * v)),
    "swish 1": (activation.swish, lambda v: v * logistic(v)),
    "softsign": (activation.softsign, lambda v: v / (1 + abs(v))),
    "log_sigmoid": (activation.log_sigmoid, lambda v: -soft(-v)),
    "tanh_shrink": (activation.tanh_shrink, lambda v: v - math.tanh(v)),
    "soft_shrink": (
        activation.soft_shrink,
        lambda v: math.copysign(max(abs(v) - 0.5, 0), v),
    ),
    "hard_shrink": (activation.hard_shrink, lambda v: v if abs(v) > 0.5 else 0),
    "thresholded_relu": (activation.thresholded_relu, lambda v: v if v > 1 else 0),
}


@pytest.mark.parametrize("name", COMPOSED)
def test_composed(name):
    fn, expect = COMPOSED[name]
    wide = arr(3, 4, low=-9.5, high=9.5, distinct=True)
    check_case(Case(name, [wide], expect=each(expect), symbolic=ROWS), fn)


def test_glu_gates_one_half_by_the_other():
    case = Case("glu", [arr(3, 6, 2)], expect=halves, symbolic=ROWS)
    check_case(case, lambda x: activation.glu(x, axis=1))


def test_maxout_takes_the_largest_of_neighbours():
    def expect(x):
        return np.stack([x[:, 0:3].max(1), x[:, 3:6].max(1)], 1)

    case = Case("maxout", [arr(4, 6, 2, distinct=True)], expect=expect, symbolic=ROWS)
    check_case(case, lambda x: activation.maxout(x, 3))
    with pytest.raises(ShapeError, match="groups"):
        activation.maxout(np.ones((2, 5)), 2)


def test_log_sigmoid_is_accurate_where_sigmoid_is_zero():
    assert activation.log_sigmoid(np.float32(-200)) == -200


def gradient_at(fn, values):
    program = Program()
    with Builder(program) as builder:
        x = builder.input("x", (len(values),), "float64")
        (g,) = gradients(fn(x), [x])
        program.outputs = {"g": g}
    out, _ = run_program(program, {"x": np.array(values, np.float64)}, {})
    return program, out["g"].tolist()


def test_relu_keeps_only_its_output_for_the_gradient():
    program, slopes = gradient_at(o.relu, [-1, 0, 2, math.inf])
    assert slopes == [0, 0, 1, 1]
    (forward,) = (op for op in program.operators if op.type == "relu")
    readers = [op for op in program.operators if forward.inputs[0] in op.operands]
    assert readers == [forward]


def test_gradients_where_a_function_is_flat_are_zero_and_not_nan():
    assert gradient_at(o.hard_sigmoid, [-math.inf, -3, 0, 3, math.inf])[1] == [0, 0, 1 / 6, 0, 0]
    assert gradient_at(o.hard_swish, [-1e300, 1e300])[1] == [0, 1]
    assert gradient_at(activation.relu6, [-1, 3, 7])[1] == [0, 1, 0]


@pytest.mark.parametrize("name", ["sigmoid", "gelu", "softmax", "elu", "softplus", "prelu"])
def test_integers_are_refused(name):
    definition = getattr(o, name)
    with pytest.raises(DTypeError, match="cast"):
        definition(*[np.ones(3, int)] * len(definition.inputs))


def test_relu_of_booleans_is_refused():
    with pytest.raises(DTypeError, match="numbers"):
        o.relu(np.ones(2, bool))


def test_bad_attributes_are_refused():
    with pytest.raises(ArgumentError, match="tanh"):
        o.gelu(np.ones(2), approximate="sigmoid")
    with pytest.raises(ArgumentError, match="beta"):
        o.softplus(np.ones(2), beta=0.0)
    with pytest.raises(ArgumentError, match="alpha"):
        activation.celu(np.ones(2), alpha=0.0)
    with pytest.raises(ArgumentError, match="axis"):
        o.softmax(np.ones((2, 2)), axis=2)


@pytest.mark.parametrize("shapes", [((2, 3), (2,)), ((2, 3), (3, 1)), ((), (1,))])
def test_prelu_weights_are_one_or_one_per_channel(shapes):
    with pytest.raises(ShapeError):
        o.prelu(*(np.ones(s) for s in shapes))
