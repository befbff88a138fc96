import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import noria.passes
from noria.core.errors import MissingError, ProgramError
from noria.core.flags import flags
from noria.ir.compare import difference
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator
from noria.ir.text import parse_program
from noria.ir.trace import spec, trace
from noria.ir.verify import verify
from noria.nn.layers import BatchNorm1d, Linear, ReLU, Tanh
from noria.nn.module import Sequential
from noria.optim.optimizer import SGD, Adagrad, Adam, AdamW, Momentum, RMSProp
from noria.passes import pipeline
from noria.passes.for_test import for_test
from noria.passes.fuse_masked_grads import fuse_masked_grads
from noria.passes.lower_precision import lower_precision
from noria.passes.recompute import recompute
from noria.passes.rule import Rule
from noria.zoo.digits import DigitsNet, classify
from tests.passes.programs import assert_same_numbers, program, types

# ---- the pictures ------------------------------------------------------------------------------


def passes():
    """Every pass: the function named as its module."""
    for info in pkgutil.iter_modules(noria.passes.__path__):
        module = importlib.import_module(f"noria.passes.{info.name}")
        if callable(getattr(module, info.name, None)):
            yield getattr(module, info.name)


def pictures(fn):
    """(Given, Result) pairs of a pass's docstring."""
    lines = inspect.cleandoc(fn.__doc__).splitlines()
    blocks = {"Given:": [], "Result:": []}
    for at, line in enumerate(lines):
        if line in blocks:
            rest = lines[at + 1 :]
            size = next((i for i, r in enumerate(rest) if not r.startswith("    ")), len(rest))
            blocks[line].append("\n".join(rest[:size]))
    return list(zip(blocks["Given:"], blocks["Result:"], strict=True))


PICTURES = [(fn, *pair) for fn in passes() for pair in pictures(fn)]
ALONE = [p for p in PICTURES if p[0] is not recompute]  # which takes more: see test_recompute


def test_every_pass_has_a_picture():
    assert {fn.__name__ for fn, *_ in PICTURES} == {fn.__name__ for fn in passes()}
    assert {line.name for line in pipeline.OPTIMIZE} <= {fn.__name__ for fn in passes()}


@pytest.mark.parametrize(("fn", "given", "result"), ALONE, ids=[fn.__name__ for fn, *_ in ALONE])
def test_the_picture_in_a_docstring_is_what_the_pass_does(fn, given, result):
    before, wanted = parse_program(given), parse_program(result)
    for p in (before, wanted):
        verify(p)
    with flags.set(precision="bf16"):
        after = fn(before)
    verify(after)
    assert difference(after, wanted) is None, difference(after, wanted)
    if fn not in (for_test, fuse_masked_grads, lower_precision):  # other numbers, or roundings
        assert_same_numbers(before, after, exact=False)


# ---- whole networks ----------------------------------------------------------------------------


def mlp():
    layers = Sequential(Linear(6, 8), ReLU(), Linear(8, 8), Tanh(), BatchNorm1d(8), Linear(8, 3))
    return trace(_loss(layers), x=spec("N", 6), label=spec("N", dtype="int64"))


def _loss(model):
    def step(x, label):
        logits = model(x)
        losses, _ = o.softmax_cross_entropy(logits, label)
        return {"loss": o.reduce_mean(losses), "logits": logits}

    return step


OPTIMIZERS = [
    SGD(0.1),
    Momentum(0.1, nesterov=True, weight_decay=0.01),
    Adagrad(0.1),
    Adam(1e-2, clip_norm=0.5),
    AdamW(1e-2, weight_decay=0.1),
    RMSProp(1e-2, momentum=0.9, centered=True),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: type(o).__name__)
def test_training_programs_compute_the_same(optimizer):
    before = optimizer.minimize(mlp())
    with flags.set(validate=True):
        after = pipeline.optimize(before)
    assert_same_numbers(before, after, exact=False)
    assert "fused" in types(after) and "fused_linear" in types(after)
    assert "momentum_update" not in types(after)  # its decay is in the same loop


def test_a_convolutional_network_computes_the_same_in_training_and_at_test_time():
    inputs = {"image": spec("N", 1, 8, 8), "label": spec("N", dtype="int64")}
    training = Adam(1e-3).minimize(trace(classify(DigitsNet()), **inputs))
    served = for_test(training, ["logits"])
    for before in (training, served):
        with flags.set(validate=True):
            after = pipeline.optimize(before)
        assert_same_numbers(before, after, exact=False)
    kept = [t for t in types(after) if t not in ("fused", "mul", "reshape")]
    assert kept == ["fused_conv2d", "fused_conv2d", "max_pool2d", "fused_linear", "linear"]


def test_optimising_twice_changes_nothing_more():
    once = pipeline.optimize(Momentum(0.1, weight_decay=0.01).minimize(mlp()))
    twice = pipeline.optimize(once)
    assert not pipeline.changed(once, twice)


# ---- running, telling, explaining --------------------------------------------------------------

TEXT = """
  input x: float32[N]
  a: float32[N] = neg(x)    # model.py:1
  b: float32[N] = neg(a)    # model.py:2
  c: float32[N] = exp(b)    # model.py:3
  zero: float32[] = fill(shape=(), value=0.0)
  d: float32[N] = add(c, zero)    # model.py:4
  output y = d
"""


def test_a_rule_is_a_pass_and_so_is_a_function():
    rule = Rule(lambda x: o.neg(o.neg(x)), None, lambda x: x, "neg_neg")
    p = program(TEXT)
    assert types(pipeline.run(p, [rule])) == ["exp", "fill", "add"]
    assert types(pipeline.run(p, [lambda q: q, rule])) == ["exp", "fill", "add"]


def test_changed_compares_operators_by_identity():
    p = program(TEXT)
    assert not pipeline.changed(p, p.copy())
    other = p.copy()
    other.outputs = {"y": other.operators[0].outputs[0]}
    assert pipeline.changed(p, other)


def test_passes_that_changed_something_are_printed_at_debug_level_three(capsys):
    with flags.set(debug=3):
        pipeline.run(program(TEXT), pipeline.OPTIMIZE)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pass simplify: 5 -> 3 operators"
    assert not any("fuse_linear" in line for line in lines)
    with flags.set(debug=4):
        pipeline.run(program(TEXT), pipeline.OPTIMIZE)
    assert "exp: float32[N] = exp(x)" not in lines
    assert "c: float32[N] = exp(x)" in capsys.readouterr().err


def test_a_pass_that_breaks_a_rule_of_the_ir_is_named():
    def break_it(p):
        out = p.copy()
        last = out.operators[-1]
        wrong = Operator("relu", (), last.outputs, {})
        out.block.operators = [*out.operators[:-1], wrong]
        return out

    pipeline.run(program(TEXT), [break_it])
    with flags.set(validate=True), pytest.raises(ProgramError) as caught:
        pipeline.run(program(TEXT), [break_it])
    assert "the result of pass 'break_it'" in str(caught.value)


def test_every_pass_has_a_reason_for_its_place():
    assert pipeline.OPTIMIZE[0].name == "eliminate_dead_ops"
    assert all(len(line.reason.split()) > 4 for line in pipeline.OPTIMIZE)


def test_explain_tells_what_each_pass_did_and_why_one_declined():
    p = program(TEXT)
    names = [r.name for r in pipeline.report(p)]
    assert names == [line.name for line in pipeline.OPTIMIZE]
    assert "simplify: fired 1, declined 1" in pipeline.explain(p).splitlines()
    assert pipeline.explain(p, "simplify").splitlines() == [
        "simplify: fired 1, declined 1",
        "  fired     neg at model.py:2 (- -x)",
        "  declined  add at model.py:4: c + 0.0 is 0.0 where it is -0.0",
    ]
    with pytest.raises(MissingError, match="did you mean 'simplify'"):
        pipeline.explain(p, "simplfy")


def test_the_program_given_is_not_changed():
    p = program(TEXT)
    before = list(p.operators)
    pipeline.optimize(p)
    assert p.operators == before and np.all([v.name for v in p.outputs.values()] == ["d"])
