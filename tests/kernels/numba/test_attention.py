"""Attention, forward and backward, at all sizes around those of a block."""

import numpy as np
import pytest

from noria.ir.opdef import vocabulary as o
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:attention"
SIZES = [(1, 1), (2, 3), (47, 49), (48, 128), (49, 129), (97, 257), (130, 60), (60, 130)]


def check(op, inputs, attrs=None, **options):
    """The op and its gradient op."""
    attrs = attrs or {}
    arrays = [a.make((i,)) if hasattr(a, "make") else a for i, a in enumerate(inputs)]
    count = 3 if op == "attention" else 1
    check_kernel(op, arrays, attrs, kernel=NAME, wide=True, tol=2e-5, **options)
    with np.errstate(all="ignore"):
        out, log_sum = getattr(o, op)(*arrays, **attrs)
    grad = arr(*out.shape).make((9,))
    inputs = [*arrays[:count], out, log_sum, grad, *arrays[count:]]
    check_kernel(f"{op}_grad", inputs, attrs, kernel=NAME, wide=True, tol=1e-4, **options)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_any_number_of_queries_and_keys(sizes, causal):
    t, s = sizes
    check("attention", [arr(1, 2, t, 8), arr(1, 2, s, 8), arr(1, 2, s, 8)], {"causal": causal})


@pytest.mark.parametrize("d", [1, 3, 7, 16, 17, 64, 65, 130])
def test_any_size_of_a_head(d):
    check("attention", [arr(2, 1, 5, d), arr(2, 1, 6, d), arr(2, 1, 6, d)])
    check("attention", [arr(2, 1, 5, d), arr(2, 1, 6, d), arr(2, 1, 6, 5)], special=True)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 2, 5])
def test_packed_heads(heads, causal):
    check("self_attention", [arr(2, 50, 3, heads, 17)], {"causal": causal, "scale": 0.5})
    check("self_attention", [arr(3, 140, 3, heads, 4)], {"causal": causal})


def test_heads_behind_positions():
    inputs = [arr(2, 50, 3, 5), arr(2, 131, 3, 5), arr(2, 131, 3, 7)]
    check("attention", inputs, {"layout": "nthd"})


def masks():
    rng = np.random.default_rng(0)
    seen = rng.random((2, 2, 9, 131)) < 0.5
    seen[1, 0, 3] = False  # this query sees nothing
    yield seen
    yield np.where(seen, rng.standard_normal(seen.shape), -np.inf).astype(np.float32)
    yield seen[:, :1, :1]
    yield seen[0, 0]
    yield rng.random((9, 1)) < 0.5
    yield rng.standard_normal(131).astype(np.float32)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", list(masks()), ids=lambda m: f"{m.dtype}{m.shape}")
def test_masks_of_any_shape(mask, causal):
    inputs = [arr(2, 2, 9, 5), arr(2, 2, 131, 5), arr(2, 2, 131, 5), mask]
    check("attention", inputs, {"causal": causal})


def test_open_sizes_and_no_positions_at_all():
    open_ = {0: {0: "N", 2: "T"}, 1: {0: "N", 2: "S"}, 2: {0: "N", 2: "S"}}
    inputs = [arr(1, 2, 50, 4), arr(1, 2, 129, 4), arr(1, 2, 129, 4)]
    check_kernel("attention", inputs, kernel=NAME, wide=True, tol=2e-5, symbolic=open_)


def test_large_scores_do_not_overflow():
    big = [arr(1, 1, 50, 8, low=-40, high=40) for _ in range(3)]
    check("attention", big)


def test_other_halves_are_left_to_the_reference():
    half = [arr(1, 1, 5, 8, dtype="float16") for _ in range(3)]
    with pytest.raises(AssertionError, match="not float32"):
        check_kernel("attention", half, kernel=NAME)


def halves(x):
    return x.astype("bfloat16")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("queries", "keys", "inner", "width"),
    [(50, 130, 8, 5), (50, 130, 8, 6), (97, 257, 66, 70), (1, 3, 2, 2), (5, 1, 4, 130)],
)
def test_halves(queries, keys, inner, width, causal):
    """Odd sizes of heads in float32, even ones as pairs of halves where the CPU has such."""
    rng = np.random.default_rng(3)
    q, k, v = (
        halves(rng.standard_normal((1, 2, *s)))
        for s in ((queries, inner), (keys, inner), (keys, width))
    )
    mask = rng.random((queries, keys)) < 0.7
    attrs = {"causal": causal}
    check_kernel("attention", [q, k, v, mask], attrs, kernel=NAME, tol=1e-2)
    out, log_sum = o.attention(q, k, v, mask, **attrs)
    assert (out.dtype, log_sum.dtype) == (q.dtype, np.float32)
    grad = halves(rng.standard_normal(out.shape))
    check_kernel(
        "attention_grad", [q, k, v, out, log_sum, grad, mask], attrs, kernel=NAME, tol=2e-2
    )


@pytest.mark.parametrize("size", [17, 18, 64])
def test_packed_halves(size):
    rng = np.random.default_rng(4)
    qkv = halves(rng.standard_normal((2, 60, 3, 3, size)))
    check_kernel("self_attention", [qkv], {"causal": True}, kernel=NAME, tol=1e-2)
    out, log_sum = o.self_attention(qkv, causal=True)
    grad = halves(rng.standard_normal(out.shape))
    inputs = [qkv, out, log_sum, grad]
    check_kernel("self_attention_grad", inputs, {"causal": True}, kernel=NAME, tol=2e-2)
