import ast

import pytest

from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator
from noria.kernels.numba import lower, norm_pair, tile_sizes
from noria.kernels.numba.norm_pair import source
from noria.kernels.registry import Array, BoundOp
from noria.testing.case import arr
from noria.testing.kernel import check_kernel
from tests.ops.test_norm_pair import pair

OP, NAME = "batch_norm_pair_grad", "numba:batch_norm_pair"
SHAPES = [(1, 3), (5, 7), (65, 3), (70, 300), (4, 3, 5, 7), (2, 64, 9, 9), (1, 17, 1, 1)]
WORDS = [(5, 16), (1, 48), (523, 64), (4, 32, 5, 7), (2, 512, 3, 1), (133, 2048)]


@pytest.mark.parametrize("shape", SHAPES + WORDS)
def test_of_one_gradient(shape):
    check_kernel(OP, pair(shape), kernel=NAME, wide=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("more", [False, True])
def test_masked_on_the_way(shape, more):
    check_kernel(OP, pair(shape, "out", more), kernel=NAME, wide=True)


@pytest.mark.parametrize("shape", WORDS)
@pytest.mark.parametrize("more", [False, True])
def test_masked_by_bits_and_with_nan_and_infinities(shape, more):
    check_kernel(OP, pair(shape, "bits", more), kernel=NAME, wide=True, special=True)


# Of one row nothing would be left to compare: the gradient, rounded to bfloat16, cancels itself.
@pytest.mark.parametrize("shape", [(65, 17), (65, 48), (4, 32, 5, 7), (9, 2048)])
@pytest.mark.parametrize("mask", [None, "out"])
def test_bfloat16_beside_float32_statistics(shape, mask):
    inputs = pair(shape, mask, mask == "out", dtype="bfloat16")
    check_kernel(OP, inputs, kernel=NAME, wide=True, tol=1e-2)


def test_an_empty_batch_and_open_sizes():
    inputs = pair((3, 16, 2, 2), "bits", True)
    symbolic = {i: {0: "N"} for i in (0, 4, 8, 9, 10)}
    check_kernel(OP, inputs, kernel=NAME, wide=True, symbolic=symbolic)


@pytest.mark.parametrize("mean", [1e4, -3e5])
def test_a_large_mean_of_either_cancels_nothing(mean):
    scale, bias, zero = (arr(5, low=0.5).make((i,)) for i in range(3))
    x, other = arr(300, 5, low=mean - 1, high=mean + 1).make((5,)), arr(300, 5).make((6,))
    found = []
    for a in (x, other):
        _, batch_mean, inv_std, _, _ = o.batch_norm(a, scale, bias, zero, scale, training=True)
        found.append([a, scale, batch_mean, inv_std])
    for pairs in (found, found[::-1]):
        check_kernel(OP, [*pairs[0], *pairs[1], arr(300, 5)], kernel=NAME, wide=True)


def test_what_it_declines():
    with pytest.raises(AssertionError, match="channels are not axis 1"):
        check_kernel(OP, pair((4, 5, 3), axis=2), {"axis": 2}, kernel=NAME)
    with pytest.raises(AssertionError, match="different dtypes"):
        halves = [arr(4, 3, dtype="bfloat16"), *pair((4, 3))[5:]]
        check_kernel(OP, [*pair((4, 3))[:4], *halves], kernel=NAME)
    with pytest.raises(AssertionError, match="not a multiple of 16"):
        check_kernel(OP, pair((4, 8), "bits"), kernel=NAME)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits", [False, True])
def test_each_text_is_one_function_of_a_table(dtype, bits):
    (function,) = ast.parse(source(dtype, bits)).body
    assert isinstance(function, ast.FunctionDef) and function.name == OP


def test_with_and_without_a_mask_it_is_the_same_code(monkeypatch):
    found = []
    monkeypatch.setattr(norm_pair, "launch", lambda name, text, *_, **__: found.append(text))
    x, c = Array((4, 16), "float32", (16, 1)), Array((16,), "float32", (1,))
    mask = Array((4, 2), "uint8", (2, 1))
    for rest in ([None, None], [mask, None], [mask, x], [None, x]):
        inputs = [x, c, c, c, x, c, c, c, x, *rest]
        op = Operator(OP, (), (), {"axis": 1}, {}, None, None)
        bound = BoundOp(op, op.attrs, inputs, [x, c, c] * 2, 1, [False] * len(inputs))
        norm_pair.BatchNormPair().bind(bound).emit([8] * len(inputs), [8] * 6, [], 8)
    assert len(found) == 4 and len(set(found)) == 1


def test_bits_are_the_masks_of_vectors():
    if tile_sizes.WIDTH < 16:
        pytest.skip("vectors of this CPU have no mask registers")
    code = lower.assembly(source("bfloat16", True), OP)
    assert "kmov" in code and "vpgather" not in code
