import pytest

import noria.ops.fused_product  # noqa: F401  (importing a family registers its ops)
from noria.passes.fuse_product import fuse_product
from tests.passes.programs import apply, assert_same_numbers, program, reasons, types

HEAD = """
  input x: float32[N, 5]
  input y: float32[N, 4]
  state w: float32[5, 4] = uniform(low=-1.0, high=1.0) trainable
"""
PRODUCT = "h: float32[N, 4] = matmul(x, w)"
CHANGES = "n: float32[5, 4] = neg(w)\nupdate w = n"


def fused(*lines, head=HEAD, changes=CHANGES):
    """(types of the operators after, report)"""
    before = program("\n".join([head, *lines, changes]))
    after, report = apply(fuse_product, before)
    assert_same_numbers(before, after)
    return [t for t in types(after) if t != "neg"], report, after


def test_a_product_and_one_operator_behind_it():
    kinds, _, _ = fused(PRODUCT, "m: float32[N, 4] = mul(h, y)", "output m = m")
    assert kinds == ["fused_product"]


def test_a_product_that_something_else_needs_is_given_too():
    lines = (PRODUCT, "m: float32[N, 4] = mul(h, y)", "s: float32[N, 4] = softmax(h)")
    kinds, _, after = fused(*lines, "output m = m", "output s = s")
    assert kinds == ["fused_product", "softmax"]
    assert [v.name for v in after.operators[0].outputs] == ["h", "m"]


def test_a_product_is_taken_by_one_loop_only():
    lines = (PRODUCT, "m: float32[N, 4] = mul(h, y)", "s: float32[N, 4] = add(h, y)")
    kinds, _, _ = fused(*lines, "output m = m", "output s = s")
    assert kinds == ["fused_product", "add"]


def test_it_takes_a_product_twice():
    kinds, _, _ = fused(PRODUCT, "m: float32[N, 4] = mul(h, h)", "output m = m")
    assert kinds == ["fused_product"]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ((PRODUCT, "m: float32[N, 4] = sigmoid(h)"), "sigmoid takes longer"),
        (("h: float32[5, 4] = matmul(x, y, transpose_x=true)", "m: float32[5, 4] = mul(h, w)"), ""),
        ((PRODUCT, "c: float32[4] = reduce_sum(y, axis=0)", "m: float32[N, 4] = mul(h, c)"),
         "repeats an operand"),
        (("h: float32[N, 4] = matmul(x, w)", "s: float32[N, 4] = softmax(h)",
          "m: float32[N, 4] = mul(h, s)"), "used before the loop"),
    ],
)  # fmt: skip
def test_others_stay_apart(lines, why):
    kinds, report, _ = fused(*lines, "output m = m")
    assert "fused_product" not in kinds
    assert any(why in reason for reason in reasons(report)) or not why


def test_a_matrix_that_never_changes_stays_for_kernels_that_pack_it_once():
    lines = (PRODUCT, "m: float32[N, 4] = mul(h, y)", "output m = m")
    kinds, report, _ = fused(*lines, changes="")
    assert kinds == ["matmul", "mul"] and reasons(report) == [
        "apart from matmul: its matrix never changes"
    ]


def test_sums_along_other_axes_stay_apart():
    loop = """
      l, s: float32[N, 4], float32[N] = fused(h, y) {
        body(h: float32[N, 4], y: float32[N, 4]) {
          l: float32[N, 4] = mul(h, y)
          s: float32[N] = reduce_sum(l, axis=1)
          return l, s
        }
      }"""
    kinds, report, _ = fused(PRODUCT, loop, "output l = l", "output s = s")
    assert kinds == ["matmul", "fused"]
    assert "sums along other axes" in reasons(report)[0]


def test_other_dtypes_stay_apart():
    head = HEAD.replace("float32", "float64")
    lines = ("h: float64[N, 4] = matmul(x, w)", "m: float64[N, 4] = mul(h, y)", "output m = m")
    kinds, report, _ = fused(*lines, head=head, changes=CHANGES.replace("float32", "float64"))
    assert kinds == ["matmul", "mul"] and "not all is float32" in reasons(report)[0]
