import ml_dtypes
import numpy as np
import pytest

from noria.kernels.numba.loader import cpu
from noria.kernels.onednn.build_dense import (
    matmul,
)
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc

rng = np.random.default_rng(0)


def normal(*shape):
    return rng.standard_normal(shape).astype("f")


def product(arrays, a, b, out, bias=None, *, open_weights=False):
    weights = MemDesc.any(b.shape, arrays.desc(b).dtype) if open_weights else arrays.desc(b)
    given = {ARG.SRC: a, ARG.WEIGHTS: b, ARG.DST: out}
    given |= {} if bias is None else {ARG.BIAS: bias}
    p = matmul(
        arrays.desc(a), weights, arrays.desc(out), None if bias is None else arrays.desc(bias)
    )
    arrays.execute(p, given)
    return out


@pytest.mark.parametrize("open_weights", [False, True])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(1, 1, 1), (1, 64, 64), (3, 7, 17), (17, 3, 1), (65, 33, 130)]
)
def test_matmul_of_odd_sizes(arrays, m, k, n, open_weights):
    a, b, bias = normal(m, k), normal(k, n), normal(1, n)
    got = product(arrays, a, b, np.zeros((m, n), "f"), bias, open_weights=open_weights)
    np.testing.assert_allclose(got, a.astype("d") @ b + bias, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("order_out", [(0, 1), (1, 0)])
@pytest.mark.parametrize("order_b", [(0, 1), (1, 0)])
@pytest.mark.parametrize("order_a", [(0, 1), (1, 0)])
@pytest.mark.parametrize("m", [1, 9])
def test_matmul_of_transposed_and_padded_operands(arrays, m, order_a, order_b, order_out, gap):
    a, b = normal(m, 7), normal(7, 17)
    got = product(
        arrays,
        arrays.lay(a, order_a, gap),
        arrays.lay(b, order_b, gap),
        arrays.lay(np.zeros((m, 17), "f"), order_out, gap),
    )
    np.testing.assert_allclose(got, a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((4, 5, 7), (4, 7, 3)),
        ((4, 5, 7), (1, 7, 3)),
        ((1, 5, 7), (4, 7, 3)),
        ((2, 1, 5, 7), (1, 3, 7, 3)),
        ((2, 1, 2, 1, 5, 7), (2, 3, 1, 2, 7, 3)),
    ],
)
def test_batches_broadcast(arrays, left, right):
    a, b = normal(*left), normal(*right)
    want = np.matmul(a, b)
    got = product(arrays, a, b, np.zeros(want.shape, "f"))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_attention_reads_heads_in_place(arrays):
    batch, time, heads, width = 2, 5, 3, 8
    q, k = normal(batch, time, heads, width), normal(batch, time, heads, width)
    got = product(
        arrays,
        q.transpose(0, 2, 1, 3),
        k.transpose(0, 2, 3, 1),
        np.zeros((batch, heads, time, time), "f"),
    )
    np.testing.assert_allclose(got, np.einsum("bthw,bshw->bhts", q, k), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("halves")
def test_bfloat16_accumulates_in_float32(arrays):
    a, b = normal(33, 65).astype(ml_dtypes.bfloat16), normal(65, 17).astype(ml_dtypes.bfloat16)
    got = product(arrays, a, b, np.zeros((33, 17), "f"))
    np.testing.assert_allclose(got, a.astype("f") @ b.astype("f"), rtol=1e-5, atol=1e-4)


@pytest.mark.skipif(
    "+avx512vnni" not in cpu()[1].split(","), reason="oneDNN adds pairs of int8 in 16 bits here"
)
def test_int8_is_exact(arrays):
    a = rng.integers(0, 256, (9, 33)).astype(np.uint8)
    b = rng.integers(-128, 128, (33, 17)).astype(np.int8)
    got = product(arrays, a, b, np.zeros((9, 17), np.int32))
    np.testing.assert_array_equal(got, a.astype(int) @ b.astype(int))
