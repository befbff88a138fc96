import numpy as np
import pytest

import noria
from noria import nn, ops, optim
from noria.ir.interpret import run_program
from noria.passes.keep_places import keep_places
from noria.passes.pipeline import optimize
from noria.testing.rule import check_rule
from tests.passes.programs import apply, program, reasons, types

HOW = "kernel=(3, 2), stride=(2, 2), padding=(1, 0, 1, 0)"
SIZES = "float32[N, 3, 4, 3]"


def pooled(how=HOW, back=HOW, of="x, p", tail="", sizes=SIZES):
    return program(f"""
      input x: float32[N, 3, 7, 6]
      input y: float32[N, 3, 7, 6]
      input g: {sizes}
      p: {sizes} = max_pool2d(x, {how})
      q: {sizes} = max_pool2d(y, {how})
      gx: float32[N, 3, 7, 6] = max_pool2d_grad({of}, g, {back})
      {tail}
      output p = p
      output q = q
      output gx = gx
    """)


def run(p):
    rng = np.random.default_rng(0)
    feeds = {}
    for name, value in p.inputs.items():
        shape = [2, *(int(n) for n in value.shape[1:])]
        feeds[name] = rng.integers(-2, 3, shape).astype(np.float32)
    return run_program(p, feeds, {})[0]


def same(before, after):
    want, got = run(before), run(after)
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_the_pictures_are_true():
    check_rule(keep_places)


def test_a_pooling_with_a_gradient_keeps_places_and_another_does_not():
    before = pooled()
    after, report = apply(keep_places, before)
    assert types(after) == ["max_pool2d_places", "max_pool2d", "max_pool2d_spread"]
    assert len(report.fired) == 1
    same(before, after)


def test_two_gradients_read_the_same_places():
    tail = f"gy: float32[N, 3, 7, 6] = max_pool2d_grad(x, p, q, {HOW})\noutput gy = gy"
    before = pooled(tail=tail)
    after, _ = apply(keep_places, before)
    assert types(after).count("max_pool2d_spread") == 2
    assert types(after).count("max_pool2d_places") == 1
    same(before, after)


@pytest.mark.parametrize(
    "changes", [{"of": "y, p"}, {"back": "kernel=(3, 2), stride=(2, 2), padding=(0, 0, 2, 0)"}]
)
def test_a_gradient_of_something_else_stays(changes):
    before = pooled(**changes)
    after, _ = apply(keep_places, before)
    assert types(after) == types(before)


def test_windows_of_more_elements_than_a_byte_counts_stay():
    how = "kernel=(20, 20), padding=(10, 10)"
    before = pooled(how, how, sizes="float32[N, 3, 1, 1]")
    after, report = apply(keep_places, before)
    assert types(after) == types(before)
    assert reasons(report) == ["a byte counts no windows so large"]


def training(precision):
    body = nn.Sequential(
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(4, 8, 3),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Flatten(),
    )
    model = nn.Sequential(body, nn.Linear(8 * 4 * 4, 2))
    forward = noria.trace(
        lambda x: {"loss": ops.reduce_mean(ops.square(model(x)))}, x=noria.spec("N", 3, 9, 9)
    )
    return optimize(optim.SGD(0.1).minimize(forward), precision)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_reads_nothing_larger_than_what_came_of_the_pooling(precision):
    after = training(precision)
    assert "max_pool2d_grad" not in types(after)
    (spread,) = (op for op in after.operators if op.type == "max_pool2d_spread")
    assert {v.shape[2:] for v in spread.operands} == {(4, 4)}
    assert spread.operands[1].dtype == "uint8"
    assert spread.operands[0].dtype == ("bfloat16" if precision == "bf16" else "float32")
    (kept,) = (op for op in after.operators if op.type == "max_pool2d_places")
    users = [op for op in after.operators if kept.operands[0] in op.operands]
    assert users == [kept]  # the pooled picture does not live until the backward part
