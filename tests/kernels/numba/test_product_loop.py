"""Products with a loop behind them, beside the reference: sizes around tiles, panels and blocks."""

import numpy as np
import pytest

import noria.ops.activation
import noria.ops.compare
import noria.ops.fused_product
import noria.ops.linalg  # noqa: F401  (importing a family registers its ops)
from noria.core.flags import flags
from noria.ir.interpret import run_program
from noria.ir.text import parse_program
from noria.ir.verify import verify
from noria.kernels.numba import parallel
from noria.kernels.numba.row_product import BLOCK, DEPTH, LEAST_ROWS, STRIP
from noria.runtime.executor import Executor

pytestmark = pytest.mark.usefixtures("fast_kernels")

MASK = """
  matmul: float32[N, OUT] = matmul(g, w)
  where, gb: float32[N, OUT], float32[OUT] = fused(y, matmul) {
    body(y: float32[N, OUT], matmul: float32[N, OUT]) {
      fill: float32[] = fill(shape=(), value=0.0)
      greater: bool[N, OUT] = greater(y, fill)
      where: float32[N, OUT] = where(greater, matmul, fill)
      gb: float32[OUT] = reduce_sum(where, axis=(0,))
      return where, gb
    }
  }
  return where, gb"""
MEAN = MASK.replace("reduce_sum", "reduce_mean")
OTHER_SUM = MASK.replace("reduce_sum(where", "reduce_sum(matmul")
KEPT = MASK.removesuffix("return where, gb") + "return matmul, where, gb"
ONE = """
  matmul: float32[N, OUT] = matmul(g, w)
  where: float32[N, OUT] = mul(matmul, y)
  return where"""
TWO = "where, gb: float32[N, OUT], float32[OUT]"


def made(body, outs=TWO):
    names = [name.strip() for name in outs.partition(":")[0].split(",")]
    return f"""program p {{
      input g: float32[N, IN]
      input y: float32[N, OUT]
      state w: float32[IN, OUT] = uniform(low=-1.0, high=1.0) trainable
      {outs} = fused_product(g, w, y) {{
        body(g: float32[N, IN], w: float32[IN, OUT], y: float32[N, OUT]) {{ {body} }}
      }}
      n: float32[IN, OUT] = neg(w)
      {" ".join(f"output {name} = {name}" for name in names)}
      update w = n
    }}"""


def agree(rows, ins, outs, text, threads=2, special=False, turned=False):
    """The engine gives what the interpreter gives; what it ran."""
    program = parse_program(text.replace("IN", str(ins)).replace("OUT", str(outs)))
    verify(program)
    rng = np.random.default_rng(rows + ins + outs)
    w = rng.standard_normal((outs, ins) if turned else (ins, outs)).astype(np.float32)
    feeds = {
        "g": rng.standard_normal((rows, ins)).astype(np.float32),
        "y": rng.standard_normal((rows, outs)).astype(np.float32),
    }
    if "b" in program.inputs:
        feeds["b"] = rng.standard_normal(outs).astype(np.float32)
    if special:
        feeds["g"][[0, 7, rows - 1], [0, 3, ins - 1]] = np.nan, np.inf, -np.inf
        feeds["y"][5, :3] = np.nan, np.inf, -np.inf
    with flags.set(check_memory=True), parallel.always():
        executor = Executor(program, optimized=True, threads=threads)
        executor.scope["w"] = w
        with np.errstate(all="ignore"):
            want, _ = run_program(program, feeds, {"w": w})
        got = executor.run(feeds)
        executor.scope["w"] = w
        again = executor.run(feeds)
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=2e-4, atol=2e-4 * ins**0.5, err_msg=name)
        np.testing.assert_array_equal(got[name], again[name], err_msg=name)
    bound = executor.bound(feeds, list(want))
    (item,) = (i for i in bound.items if i.step.op.type == "fused_product" and i.pack is None)
    assert item.step.engine == "numba:product_loop"
    return "by the reference" if item.prepared is None else item.prepared.detail


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [LEAST_ROWS, LEAST_ROWS + STRIP + 1, 8 * BLOCK + 5])
@pytest.mark.parametrize("outs", [32, 64, 70, 112])
def test_masks_and_sums_on_panels_of_the_product(rows, outs, threads):
    assert agree(rows, 33, outs, made(MASK), threads, special=True) == ""


@pytest.mark.parametrize("ins", [DEPTH - 1, DEPTH, DEPTH + 40])
def test_any_number_of_inputs(ins):
    assert agree(LEAST_ROWS + 1, ins, 35, made(MASK)) == ""


def test_the_product_is_given_too():
    outs = "matmul, where, gb: float32[N, OUT], float32[N, OUT], float32[OUT]"
    assert agree(LEAST_ROWS, 40, 66, made(KEPT, outs)) == ""
    assert agree(20, 40, 66, made(KEPT, outs)) == "in turn"


def test_one_operator_behind_the_product():
    assert agree(LEAST_ROWS, 40, 66, made(ONE, "where: float32[N, OUT]")) == ""


def test_a_linear_and_its_bias():
    text = made(ONE, "where: float32[N, OUT]").replace("float32[IN, OUT]", "float32[OUT, IN]")
    text = text.replace("matmul(g, w)", "linear(g, w, b)").replace("(g, w, y)", "(g, w, y, b)")
    text = text.replace("y: float32[N, OUT]) {", "y: float32[N, OUT], b: float32[OUT]) {")
    text = text.replace("state w", "input b: float32[OUT]\n      state w")
    assert agree(LEAST_ROWS + 7, 40, 66, text, turned=True) == ""
    assert agree(30, 40, 66, text, turned=True) == "in turn"


@pytest.mark.parametrize("text", [MEAN, OTHER_SUM])
def test_other_reductions_run_in_turn(text):
    assert agree(LEAST_ROWS, 40, 66, made(text)) == "in turn"


@pytest.mark.parametrize("rows", [1, 20, LEAST_ROWS - 1])
def test_few_rows_run_in_turn(rows):
    assert agree(rows, 40, 66, made(MASK)) == "in turn"


def test_an_empty_batch():
    assert agree(0, 40, 66, made(MASK)) == "by the reference"


def test_sums_do_not_depend_on_who_took_which_block():
    text, rows = made(MASK), 40 * BLOCK
    assert agree(rows, 32, 32, text, threads=3) == ""
