import numpy as np
import pytest

import noria
from noria import ops
from noria.core.flags import flags
from noria.kernels.onednn import gemm
from noria.testing.case import arr
from noria.testing.kernel import SITUATIONS, check_kernel

GEMM = "onednn:gemm"
CHANGING = [s for s in SITUATIONS if not s.fixed]


@pytest.fixture
def always(monkeypatch):
    monkeypatch.setattr(gemm, "pays", lambda *sizes: True)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 7, 5), (3, 1, 2), (17, 33, 9), (70, 130, 65)])
@pytest.mark.parametrize("transpose_x", [False, True])
@pytest.mark.parametrize("transpose_y", [False, True])
def test_products_of_any_sizes(always, sizes, transpose_x, transpose_y):
    m, k, n = sizes
    x = arr(k, m) if transpose_x else arr(m, k)
    y = arr(n, k) if transpose_y else arr(k, n)
    attrs = {"transpose_x": transpose_x, "transpose_y": transpose_y}
    symbolic = {0: {0: "N"}, 1: {0: "N"}} if transpose_x and not transpose_y else {0: {0: "N"}}
    if transpose_x and transpose_y:
        symbolic = None
    how = {"kernel": GEMM, "special": True, "situations": CHANGING}
    check_kernel("matmul", [x, y], attrs, symbolic=symbolic, **how)


@pytest.mark.parametrize("transpose_y", [False, True])
def test_more_axes_in_front_are_rows(always, transpose_y):
    y = arr(2, 5) if transpose_y else arr(5, 2)
    attrs = {"transpose_y": transpose_y}
    check_kernel("matmul", [arr(4, 3, 5), y], attrs, kernel=GEMM, situations=CHANGING)


def test_a_long_sum_is_as_exact_as_the_reference(always):
    attrs = {"transpose_x": True}
    inputs = [arr(3000, 40), arr(3000, 65)]
    check_kernel("matmul", inputs, attrs, kernel=GEMM, situations=CHANGING, tol=1e-3)


def plan_of(x, y, **how):
    program = noria.trace(lambda x, y: {"z": ops.matmul(x, y, transpose_y=True)}, x=x, y=y)
    executor = noria.Executor(program, **how)
    feeds = {"x": np.ones((300, 512), "f4"), "y": np.ones((256, 512), "f4")}
    return executor.bound(feeds)


@pytest.mark.parametrize(
    ("flag", "reason"),
    [({"fpmath": "bf16"}, "its arithmetic is float32"), ({}, "a primitive is faster")],
)
def test_what_it_leaves_to_others(fast_kernels, flag, reason, monkeypatch):
    if flag:
        monkeypatch.setattr(gemm, "pays", lambda *sizes: True)
    with flags.set(**flag):
        bound = plan_of(noria.spec("N", 512), noria.spec(256, 512))
        (step,) = bound.plan.steps
        assert bound.kernels[step].name != GEMM
        assert any(name == GEMM and reason in why for name, why in step.refused)


def test_few_rows_long_sums_and_ragged_columns_pay():
    assert gemm.pays(512, 3971, 128, True) and gemm.pays(3971, 512, 128, False)
    assert gemm.pays(2600, 700, 650, True) and gemm.pays(700, 10000, 650, False)
    assert gemm.pays(512, 128, 512, True) and gemm.pays(128, 512, 512, False)
    assert not gemm.pays(512, 600, 512, True) and not gemm.pays(600, 512, 512, False)
    assert not gemm.pays(128, 512, 512, False, True)  # would be turned first
    assert not gemm.pays(512, 3971, 10, True)
