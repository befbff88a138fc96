import pytest

import noria.ops.weight_grads  # noqa: F401  (importing a family registers its ops)
from noria.passes.fuse_weight_grads import INS, OUTS, fuse_weight_grads
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types

FIRST = "a: float32[{m}, {k}] = matmul(g, x, transpose_x=true)"
SECOND = "b: float32[{m}, 70] = matmul(g, h, transpose_x=true)"
SUM = "s: float32[{m}] = reduce_sum(g, axis=0)"


def made(*lines, m=OUTS, k=INS, outputs="ab"):
    text = [f"input g: float32[N, {m}]", f"input x: float32[N, {k}]", "input h: float32[N, 70]"]
    text += [line.format(m=m, k=k) for line in lines]
    return program("\n".join([*text, *(f"output {v} = {v}" for v in outputs)]))


def fused(before):
    after, report = apply(fuse_weight_grads, before)
    assert_same_numbers(before, after)
    return types(after), report


def test_two_products_and_a_sum_are_one():
    before = made(FIRST, SECOND, SUM, outputs="abs")
    assert fused(before)[0] == ["weight_grads"]


def test_a_product_and_the_sum_of_its_gradient_are_one():
    assert fused(made(SUM, FIRST, outputs="as"))[0] == ["weight_grads"]


def test_what_is_made_between_is_waited_for():
    late = "h1: float32[N, 70] = tanh(h)"
    before = made(FIRST, late, SECOND.replace("h,", "h1,"))
    assert fused(before)[0] == ["tanh", "weight_grads"]


def test_what_is_used_early_is_not_made_late():
    used = "t: float32[{m}, {k}] = tanh(a)"
    late = "h1: float32[N, 70] = tanh(h)"
    before = made(FIRST, used, late, SECOND.replace("h,", "h1,"), outputs="tb")
    found, report = fused(before)
    assert "weight_grads" not in found
    assert reasons(report) == ["one is used before another can be made"]


def test_a_user_between_comes_after():
    used = "t: float32[{m}, {k}] = tanh(a)"
    assert fused(made(FIRST, used, SECOND, outputs="tb"))[0] == ["weight_grads", "tanh"]


def test_one_product_stays_alone():
    assert fused(made(FIRST, outputs="a"))[0] == ["matmul"]


@pytest.mark.parametrize("sizes", [{"m": OUTS - 1}, {"k": INS - 1}, {"m": 2049, "k": 1024}])
def test_products_that_fill_no_tile_or_cache_are_left(sizes):
    found, _ = fused(made(FIRST, SUM, outputs="as", **sizes))
    assert "weight_grads" not in found


def test_other_sums_are_left():
    along = "s: float32[N] = reduce_sum(g, axis=1)"
    kept = "s: float32[1, {m}] = reduce_sum(g, axis=0, keepdims=true)"
    for line in (along, kept):
        assert "weight_grads" not in fused(made(FIRST, line, outputs="as"))[0]
