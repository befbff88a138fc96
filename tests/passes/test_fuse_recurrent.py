import numpy as np
import pytest

from noria.ir.interpret import run_program
from noria.ir.trace import spec, trace
from noria.nn.recurrent import LSTM
from noria.optim.optimizer import SGD
from noria.passes.fuse_recurrent import fuse_recurrent
from tests.passes.programs import apply, program, reasons, types

TEXT = """
  input x: float32[5, 8]
  input n: int64[3]
  input h: float32[2, 2]
  state v: float32[8, 2] = uniform(low=-0.5, high=0.5)
  state u: float32[8, 2] = uniform(low=-0.5, high=0.5)
  lstm, c0, g0: float32[5, 2], float32[5, 2], float32[5, 8] = lstm(x, u, n)
  {between}
  top, c1, g1: float32[5, 2], float32[5, 2], float32[5, 8] = lstm(m, u, n{more})
  output y = top
  {outputs}
"""
LINEAR = "m: float32[5, 8] = linear(lstm, v)"


def fused(between=LINEAR, more="", outputs=""):
    """(types left, report)"""
    before = program(TEXT.format(between=between, more=more, outputs=outputs))
    after, report = apply(fuse_recurrent, before)
    return types(after), report


def test_two_layers_become_one_operator():
    left, report = fused()
    assert left == ["fused_recurrent"] and "2 layers" in report.fired[0]


def test_what_others_need_of_a_layer_is_still_there():
    left, _ = fused(outputs="output c = c0\n  output g = g1")
    assert left == ["fused_recurrent"]


def test_what_needs_the_lower_layer_comes_after_the_stack():
    end = f"e: float32[2, 2] = sequence_end(lstm, n)\n  {LINEAR}"
    left, _ = fused(end, outputs="output e = e")
    assert left == ["fused_recurrent", "sequence_end"]


@pytest.mark.parametrize(
    ("between", "more", "outputs", "reason"),
    [
        (LINEAR, "", "output m = m", "has another use"),
        (LINEAR, ", h, h, reverse=true", "", "runs backwards"),
        (f"e: float32[2, 2] = sequence_end(lstm, n)\n  {LINEAR}", ", e", "", "must run between"),
    ],
)
def test_layers_that_must_stay_apart_do(between, more, outputs, reason):
    left, report = fused(between, more, outputs)
    assert left.count("fused_recurrent") == 2
    assert any(reason in r for r in reasons(report))


def test_layers_over_other_rows_stay_apart():
    text = TEXT.format(between=f"k: int64[3] = add(n, 0)\n  {LINEAR}", more="", outputs="")
    before = program(
        text.replace("lstm(m, u, n)", "lstm(m, u, k)").replace("add(n, 0)", "add(n, n)")
    )
    after, report = apply(fuse_recurrent, before)
    assert types(after).count("fused_recurrent") == 2
    assert any("different rows" in r for r in reasons(report))


@pytest.mark.parametrize(("read", "left"), [("g", "lstm"), ("c", "fused_recurrent")])
def test_a_layer_alone_is_taken_where_nobody_reads_its_gates(read, left):
    text = f"""
  input x: float32[5, 8]
  input n: int64[3]
  state u: float32[8, 2] = uniform(low=-0.5, high=0.5)
  h, c, g: float32[5, 2], float32[5, 2], float32[5, 8] = lstm(x, u, n)
  output h = h
  output more = {read}
"""
    after, _ = apply(fuse_recurrent, program(text))
    assert types(after) == [left]


def test_a_training_program_computes_the_same():
    layer = LSTM(3, 4, num_layers=3, batch_first=True)

    def step(x):
        out, (h, c) = layer(x)
        return {"loss": (out * out).mean() + (h * c).mean(), "out": out}

    before = SGD(0.1).minimize(trace(step, x=spec("N", "T", 3)))
    after = fuse_recurrent(before)
    assert [o.type for o in after.operators].count("fused_recurrent") == 1
    assert not any(o.type == "lstm" for o in after.operators)
    state = {**layer.state(), "optimizer.step": np.int64(0), "optimizer.rate": np.float32(0.1)}
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)}
    (got, new), (want, old) = (run_program(p, feeds, state) for p in (after, before))
    for n in want:
        assert np.allclose(got[n], want[n], atol=1e-6)
    for n in old:
        assert np.allclose(new[n], old[n], atol=1e-6)
