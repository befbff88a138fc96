"""Mixed precision as a pass. Its pictures are checked in `test_pictures`."""

import numpy as np
import pytest

import noria.ops.batch_norm
import noria.ops.pool  # noqa: F401  (importing a family registers its ops)
from noria.core.errors import ArgumentError
from noria.core.flags import flags
from noria.ir.emit import Builder, full_precision
from noria.ir.interpret import run_program
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.text import parse_program
from noria.passes.eliminate_common_ops import eliminate_common_ops
from noria.passes.fuse_linear import fuse_linear
from noria.passes.lower_precision import lower_precision
from noria.passes.pipeline import optimize
from noria.testing.rule import check_rule
from tests.passes.programs import apply, program, reasons, types

HEAD = """
  input x: float32[N, 4]
  state w: float32[4, 4] = fill(value=0.5) trainable
  state v: float32[4] = fill(value=0.3) trainable
  h: float32[N, 4] = linear(x, w)
"""
BIG = "float32[N, 4]"


def lowered(*lines, head=HEAD, returns=None):
    name = returns or lines[-1].split(":")[0].strip()
    before = program("\n  ".join([head, *lines, f"output y = {name}"]))
    with flags.set(precision="bf16"):
        after, report = apply(lower_precision, before)
    assert [v.dtype for v in after.outputs.values()] == [before.outputs["y"].dtype]
    return after, report


def dtypes(p):
    """op type -> dtypes of its results, in order."""
    found = {}
    for operator in p.operators:
        found.setdefault(operator.type, []).extend(v.dtype for v in operator.outputs)
    return found


def test_the_picture():
    with flags.set(precision="bf16"):
        check_rule(lower_precision, tol=2e-2)


def test_float32_is_left_alone():
    before = program(HEAD + "  output y = h")
    after, _ = apply(lower_precision, before)
    assert after is before


def test_what_lies_between_products_is_bfloat16():
    after, _ = lowered(f"a: {BIG} = relu(h)", f"b: {BIG} = tanh(a)", f"y: {BIG} = linear(b, w)")
    found = dtypes(after)
    assert found["relu"] == found["tanh"] == ["bfloat16"]
    assert found["cast"] == ["bfloat16"] * 2  # x and w, once each
    assert found["linear"] == ["bfloat16", "float32"]  # nobody wants halves of the last


def test_a_product_that_nobody_takes_as_half_gives_its_sums():
    after, _ = lowered(f"s: {BIG} = softmax(h)")
    assert dtypes(after) == {
        "cast": ["bfloat16", "bfloat16"],
        "linear": ["float32"],
        "softmax": ["float32"],
    }


def test_losses_and_reductions_stay_float32():
    after, report = lowered(
        f"a: {BIG} = relu(h)",
        f"z: {BIG} = linear(a, w)",
        f"e: {BIG} = exp(a)",
        "r: float32[N] = reduce_sum(e, axis=1)",
        "q: float32[4] = reduce_sum(z, axis=0)",
        "t: float32[] = reduce_sum(q)",
        "u: float32[N] = add(r, t)",
    )
    found = dtypes(after)
    assert found["exp"] == ["bfloat16"]
    assert found["reduce_sum"] == ["float32"] * 3
    assert reasons(report) == ["'reduce_sum' stays float32"]


def test_beside_something_as_large_of_float32_it_is_float32():
    after, report = lowered(
        f"a: {BIG} = relu(h)", f"b: {BIG} = linear(a, w)", f"y: {BIG} = add(a, x)"
    )
    assert dtypes(after)["add"] == ["float32"]
    assert reasons(report) == ["beside something as large that is float32"]


def test_small_operands_lose_nothing():
    """A vector stays float32, and so does a number that a half cannot hold."""
    after, _ = lowered(
        f"a: {BIG} = relu(h)",
        f"b: {BIG} = mul(a, v)",
        "c: float32[] = fill(shape=(), value=0.1)",
        f"d: {BIG} = mul(b, c)",
        "e: float32[] = fill(shape=(), value=0.5)",
        f"f: {BIG} = mul(d, e)",
        f"y: {BIG} = linear(f, w)",
    )
    found = dtypes(after)
    assert found["mul"] == ["float32", "float32", "bfloat16"]
    assert found["fill"] == ["float32", "bfloat16"]
    products = [op for op in after.operators if op.type in ("linear", "mul")]
    assert [op.operands[0].dtype for op in products][-1] == "bfloat16"


def test_a_mask_of_halves_chooses_halves():
    """The gradient of relu behind a mean: the mask comes from halves, the rest is repeated."""
    after, _ = lowered(
        f"a: {BIG} = relu(h)",
        f"b: {BIG} = linear(a, w)",
        "zero: float32[] = fill(shape=(), value=0.0)",
        "m: bool[N, 4] = greater(a, zero)",
        f"g: {BIG} = broadcast_to(v, shape=[N, 4])",
        f"k: {BIG} = where(m, g, zero)",
        f"y: {BIG} = linear(k, w)",
    )
    (last,) = [op for op in after.operators if op.outputs[0].name == "y"]
    assert last.operands[0].dtype == "bfloat16" and last.operands[0].name == "k.bf16"


def test_batch_norm_keeps_its_statistics():
    after, _ = lowered(
        "k: float32[N, 4, 4, 4] = conv2d(i, w)",
        "n, m, s, a, b: float32[N, 4, 4, 4], float32[4], float32[4], float32[4], float32[4]"
        " = batch_norm(k, v, v, v, v, training=true)",
        "p: float32[N, 4, 2, 2] = max_pool2d(n, kernel=2)",
        "y: float32[N, 4, 2, 2] = conv2d(p, w)",
        head="""
  input i: float32[N, 4, 4, 4]
  state w: float32[4, 4, 1, 1] = fill(value=0.5) trainable
  state v: float32[4] = fill(value=0.3) trainable
""",
    )
    found = dtypes(after)
    assert found["batch_norm"] == ["bfloat16", *["float32"] * 4]
    assert found["max_pool2d"] == ["bfloat16"]


def test_other_dtypes_are_not_touched():
    head = "\n  input x: float64[N, 4]\n  input w: float64[4, 4]\n  input i: int64[N]\n"
    after, report = lowered("h: float64[N, 4] = linear(x, w)", head=head)
    assert types(after) == ["linear"]
    assert reasons(report) == ["its operands are not float32"]


def test_what_is_marked_stays_float32():
    target = Program()
    with Builder(target) as builder:
        x, w = builder.input("x", (3, 4)), builder.state("w", (4, 4), trainable=True)
        with full_precision():
            y = o.linear(x, w)
            assert all(op.full_precision for op in target.operators)
        target.outputs["y"] = o.linear(o.relu(y), w)
        target.block.outputs = list(target.outputs.values())
    with flags.set(precision="bf16"):
        after, report = apply(lower_precision, target)
    assert [op.operands[0].dtype for op in after.operators if op.type == "linear"] == [
        "float32",
        "bfloat16",
    ]
    assert reasons(report) == ["marked to stay float32"]


def test_a_mark_survives_passes_and_does_not_spread():
    marked = "  a: float32[N, 4] = linear(x, w)    # stays float32\n"
    tail = f"  b: {BIG} = relu(a)\n  c: {BIG} = add(b, h)\n  output y = c"
    before = program(HEAD + marked + tail)
    assert [op.full_precision for op in before.operators] == [False, True, False, False]
    after, _ = apply(eliminate_common_ops, before)
    assert types(after).count("linear") == 2  # they are not the same
    after, _ = apply(fuse_linear, before)
    fused = {op.attrs["activation"]: op for op in after.operators if op.type == "fused_linear"}
    assert fused["relu"].full_precision and not fused[None].full_precision


def test_a_mark_outside_a_program_does_nothing():
    with full_precision():
        assert o.relu(np.ones(2, np.float32)).dtype == np.float32


def test_optimize_takes_the_precision():
    before = program(HEAD + f"  a: {BIG} = softmax(h)\n  output y = a")
    assert "bfloat16" in str(optimize(before, "bf16"))
    assert "bfloat16" not in str(optimize(before))
    with pytest.raises(ArgumentError, match="precision"):
        optimize(before, "bf17")


def test_it_is_the_same_function_within_rounding():
    text = HEAD + f"  a: {BIG} = tanh(h)\n  b: {BIG} = linear(a, w)\n  output y = b\n  output a = a"
    before = parse_program("program p {" + text + "\n}")
    with flags.set(precision="bf16"):
        after = lower_precision(before)
    rng = np.random.default_rng(0)
    feeds = {"x": rng.standard_normal((5, 4), np.float32)}
    state = {"w": rng.standard_normal((4, 4), np.float32), "v": np.ones(4, np.float32)}
    want, got = (run_program(p, feeds, state)[0] for p in (before, after))
    for name in want:
        assert got[name].dtype == np.float32
        assert 0 < np.abs(got[name] - want[name]).max() < 2e-2 * np.abs(want[name]).max()


def test_what_waits_keeps_the_form_it_has():
    """`later(x, after)` of the recomputation is x: neither of the two is cast for it."""
    after, _ = lowered(
        f"a: {BIG} = relu(h)",
        f"b: {BIG} = linear(a, w)",
        f"c: {BIG} = later(a, b)",
        f"d: {BIG} = later(x, b)",
        f"y: {BIG} = linear(c, w)",
        f"z: {BIG} = softmax(d)",
        f"s: {BIG} = add(y, z)",
    )
    waits = [op for op in after.operators if op.type == "later"]
    assert [[v.dtype for v in op.operands] for op in waits] == [
        ["bfloat16", "float32"],
        ["float32", "float32"],
    ]


def test_attention_takes_halves_beside_a_mask():
    head = """
  input x: float32[N, 6, 4]
  input mask: bool[6, 6]
  state w: float32[24, 4] = fill(value=0.5) trainable
  state v: float32[4, 8] = fill(value=0.5) trainable
  h: float32[N, 6, 24] = linear(x, w)
  r: float32[N, 6, 3, 2, 4] = reshape(h, shape=[N, 6, 3, 2, 4])
  a, s: float32[N, 6, 2, 4], float32[N, 2, 6] = self_attention(r, mask)
  b: float32[N, 6, 8] = reshape(a, shape=[N, 6, 8])
"""
    after, _ = lowered("y: float32[N, 6, 4] = linear(b, v)", head=head)
    assert dtypes(after)["self_attention"] == ["bfloat16", "float32"]
    assert dtypes(after)["linear"] == ["bfloat16", "float32"]
    assert types(after).count("cast") == 3  # of x and the two weights


def test_a_value_and_what_shows_it_are_cast_once():
    lines = [
        "e: float32[N, 4] = exp(x)",
        "f: float32[4, N] = reshape(e, shape=[4, N])",
        f"a: {BIG} = linear(e, w)",
        "b: float32[4, 4] = matmul(f, x)",
        f"y: {BIG} = matmul(a, b)",
    ]
    after, _ = lowered(*lines)
    casts = [op.operands[0].name for op in after.operators if op.type == "cast"]
    assert sorted(casts) == ["e", "w", "x"]


def test_layer_norm_and_residuals_behind_products_are_halves():
    lines = [
        f"a: {BIG} = fused_linear(x, w, v)",
        f"n, m, s: {BIG}, float32[N, 1], float32[N, 1] = layer_norm(a, v, v)",
        f"b: {BIG} = fused_linear(n, w, v, a)",
        f"y: {BIG} = linear(b, w)",
    ]
    after, _ = lowered(*lines)
    assert dtypes(after)["layer_norm"] == ["bfloat16", "float32", "float32"]
    assert types(after).count("cast") == 2  # of x and the weight


def test_a_residual_of_float32_stays_so():
    lines = [f"b: {BIG} = fused_linear(h, w, v, x)", f"y: {BIG} = linear(b, w)"]
    after, _ = lowered(*lines)
    (fused,) = (op for op in after.operators if op.type == "fused_linear")
    assert [v.dtype for v in fused.operands] == ["bfloat16", "bfloat16", "float32", "float32"]
