import ml_dtypes
import numpy as np
import pytest

from noria.ir.emit import Builder
from noria.ir.program import Program
from noria.ops.numeric import (
    add_at,
    cast_like,
    in_float32,
    products_in_float32,
    single,
    spec_of,
    wide_dtype,
    widen,
)
from noria.testing.check import load_ops

load_ops()

BF16 = ml_dtypes.bfloat16


@in_float32
def total(xp, x, weight=None, *, scale=1):
    assert x.dtype == np.float32 or x.dtype == np.float64
    out = xp.sum(x, keepdims=True) * scale
    return (out, x > 0) if weight is None else out * weight


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_halves_are_summed_in_float32_and_rounded_once(dtype):
    out, mask = total(np, np.full(512, 3, dtype), scale=2)
    assert out.dtype == dtype and out[0] == 3072
    assert mask.dtype == bool


def test_products_of_halves_are_widened_for_numpy_only():
    jnp = pytest.importorskip("jax.numpy")
    seen = []

    @products_in_float32
    def product(xp, x):
        seen.append(str(x.dtype))
        return x * x

    assert product(np, np.ones(2, BF16)).dtype == BF16
    assert product(jnp, jnp.ones(2, "bfloat16")).dtype == "bfloat16"
    assert seen == ["float32", "bfloat16"]


def test_the_first_input_decides_the_dtype_of_results():
    assert total(np, np.ones(3, np.float32), np.ones(1, np.float16)).dtype == np.float32
    assert total(np, np.ones(3, np.float16), np.ones(1, np.float32)).dtype == np.float16
    assert total(np, np.ones(3), np.ones(1)).dtype == np.float64


def test_widening_leaves_other_dtypes_and_none_alone():
    doubles = np.ones(2)
    assert widen(doubles) is doubles and widen(None) is None
    assert widen(np.ones(2, BF16)).dtype == np.float32
    assert [wide_dtype(d) for d in ("float16", "bfloat16", "float64")] == [
        "float32",
        "float32",
        "float64",
    ]


def test_casts_are_emitted_only_where_the_dtype_differs():
    with Builder(Program()) as builder:
        half, full = builder.input("half", (2,), "bfloat16"), builder.input("full", (2,))
        assert single(full) is full and cast_like(full, full) is full
        assert single(half).dtype == "float32" and cast_like(full, half).dtype == "bfloat16"
        assert [op.type for op in builder.block.operators] == ["cast", "cast"]
    assert single(np.ones(2, BF16)).dtype == np.float32
    assert cast_like(np.ones(2), np.ones(1, np.float16)).dtype == np.float16


def test_adding_at_an_index_given_twice_counts_twice_unless_told_otherwise():
    index, ones = np.array([1, 1, 0]), np.ones(3)
    assert add_at(np, np.zeros(3), index, ones, unique=False).tolist() == [1, 2, 0]
    assert add_at(np, np.zeros(3), np.array([2, 0, 1]), ones).tolist() == [1, 1, 1]


def test_adding_for_jax_gives_a_new_array():
    jnp = pytest.importorskip("jax.numpy")
    zeros = jnp.zeros(3)
    assert add_at(jnp, zeros, np.array([1, 1, 0]), 1.0).tolist() == [1, 2, 0]
    assert zeros.tolist() == [0, 0, 0]


def test_the_spec_of_an_array_is_its_dtype_and_shape():
    assert str(spec_of(np.ones((2, 3), np.float32))) == "float32[2, 3]"
