import pytest

from noria.kernels.onednn.common import ACTIVATIONS, BEHIND
from noria.kernels.onednn.linalg import PACK_ROWS
from noria.testing.case import arr
from noria.testing.kernel import SITUATIONS, check_kernel

MATMUL, LINEAR = "onednn:matmul", "onednn:linear"
ROWS = {0: {0: "N"}}
FIXED = [s for s in SITUATIONS if s.fixed]


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 7, 5), (3, 1, 2), (17, 33, 9), (64, 16, 32)])
@pytest.mark.parametrize("transpose_x", [False, True])
@pytest.mark.parametrize("transpose_y", [False, True])
def test_plain_products(sizes, transpose_x, transpose_y):
    m, k, n = sizes
    x = arr(k, m) if transpose_x else arr(m, k)
    y = arr(n, k) if transpose_y else arr(k, n)
    attrs = {"transpose_x": transpose_x, "transpose_y": transpose_y}
    symbolic = None if transpose_x else ROWS
    check_kernel("matmul", [x, y], attrs, kernel=MATMUL, symbolic=symbolic)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((4, 3, 5), (5, 2)),
        ((4, 3, 5), (4, 5, 2)),
        ((2, 4, 3, 5), (2, 4, 5, 2)),
        ((2, 1, 3, 5), (1, 4, 5, 2)),
        ((3, 5), (4, 5, 2)),
        ((1, 3, 5), (6, 5, 1)),
    ],
)
def test_batches_of_products_broadcast(x, y):
    check_kernel("matmul", [arr(*x), arr(*y)], kernel=MATMUL)


@pytest.mark.parametrize("transpose_x", [False, True])
def test_batches_of_transposed_products(transpose_x):
    x = arr(4, 5, 3) if transpose_x else arr(4, 3, 5)
    attrs = {"transpose_x": transpose_x, "transpose_y": True}
    symbolic = {0: {0: "N"}, 1: {0: "N"}}
    check_kernel("matmul", [x, arr(4, 2, 5)], attrs, kernel=MATMUL, symbolic=symbolic)


@pytest.mark.parametrize("op", ["linear", "fused_linear"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(6,), (1, 6), (33, 6), (2, 3, 6)])
def test_linear_takes_any_rank_with_and_without_bias(op, bias, shape):
    inputs = [arr(*shape), arr(5, 6), *([arr(5)] if bias else [])]
    symbolic = ROWS if len(shape) > 1 else None
    check_kernel(op, inputs, kernel=LINEAR, symbolic=symbolic)


@pytest.mark.parametrize("rows", [PACK_ROWS - 1, PACK_ROWS])
def test_a_weight_is_packed_for_many_rows_or_when_it_never_changes(rows):
    check_kernel("linear", [arr(rows, 20), arr(30, 20), arr(30)], kernel=LINEAR)
    check_kernel("linear", [arr(rows, 20), arr(30, 20)], kernel=LINEAR, situations=FIXED)
    check_kernel("matmul", [arr(rows, 20), arr(20, 30)], kernel=MATMUL)


@pytest.mark.parametrize("activation", sorted({*ACTIVATIONS, *BEHIND}))
def test_activations_behind_the_product(activation):
    inputs = [arr(9, 6), arr(5, 6), arr(5, low=-6, high=9)]
    how = {"kernel": LINEAR, "tol": 3e-5, "special": True}
    check_kernel("fused_linear", inputs, {"activation": activation}, **how)


@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.usefixtures("halves")
def test_bfloat16_is_rounded_once(rows):
    x, w = arr(rows, 64, dtype="bfloat16"), arr(16, 64, dtype="bfloat16")
    check_kernel("linear", [x, w, arr(16, dtype="bfloat16")], kernel=LINEAR)
    check_kernel("matmul", [x, w], {"transpose_y": True}, kernel=MATMUL)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "reason"),
    [
        ("matmul", [arr(3), arr(3, 2)], {}, "an operand is a vector"),
        ("matmul", [arr(2, 3, dtype="float64"), arr(3, 2, dtype="float64")], {}, "is float64"),
        ("linear", [arr(2, 3, dtype="float16"), arr(2, 3, dtype="float16")], {}, "is float16"),
    ],
)
def test_what_is_left_to_others(op, inputs, attrs, reason):
    with pytest.raises(AssertionError, match=reason):
        check_kernel(op, inputs, attrs, kernel=MATMUL if op == "matmul" else LINEAR)


@pytest.mark.parametrize("rows", [3, 800])
@pytest.mark.usefixtures("halves")
def test_sums_over_bfloat16_come_out_as_float32(rows):
    x, w = arr(rows, 64, dtype="bfloat16"), arr(16, 64, dtype="bfloat16")
    wide = {"dtype": "float32"}
    check_kernel("linear", [x, w, arr(16)], wide, kernel=LINEAR, tol=1e-5)
    check_kernel("linear", [x, w, arr(16)], kernel=LINEAR)
    transposed = {"transpose_x": True, **wide}
    check_kernel("matmul", [x, arr(rows, 9, dtype="bfloat16")], transposed, kernel=MATMUL, tol=1e-5)


@pytest.mark.parametrize("rows", [3, 40, PACK_ROWS])
@pytest.mark.usefixtures("halves")
def test_a_residual_of_float32_is_added_to_halves(rows):
    x, w = (arr(*shape, dtype="bfloat16") for shape in ((rows, 33), (17, 33)))
    inputs = [x, w, arr(17), arr(rows, 17, low=-3, high=3)]
    check_kernel("fused_linear", inputs, kernel="onednn:linear", tol=2e-2, special=True)
    inputs[3] = arr(rows, 17, dtype="bfloat16")
    check_kernel("fused_linear", inputs, kernel="onednn:linear", tol=2e-2)
