import numpy as np
import pytest

R = np.random.default_rng(0)


def normal(*shape):
    return R.normal(size=shape)


def test_axes_in_front_of_a_position_are_rows(run_op):
    x, y = normal(2, 3, 4, 5), normal(20, 6)
    attrs = {"x_num_col_dims": 2, "y_num_col_dims": 1}
    got = run_op("mul", {"X": x, "Y": y}, attrs)["Out"]
    np.testing.assert_allclose(got, (x.reshape(6, 20) @ y).reshape(2, 3, 6))


@pytest.mark.parametrize(
    ("x", "y", "shape"), [((4,), (4,), (1,)), ((2, 3, 4), (4,), (2, 3)), ((4,), (2, 4, 3), (2, 3))]
)
def test_products_with_vectors(run_op, x, y, shape):
    x, y = normal(*x), normal(*y)
    got = run_op("matmul", {"X": x, "Y": y}, {"alpha": 2.0})["Out"]
    np.testing.assert_allclose(got, (2 * (x @ y)).reshape(shape))


def test_a_circular_correlation(run_op):
    x, y = normal(2, 7), normal(2, 3)
    want = [
        [sum(x[n, (i + k - 1) % 7] * y[n, k] for k in range(3)) for i in range(7)] for n in range(2)
    ]
    np.testing.assert_allclose(run_op("conv_shift", {"X": x, "Y": y})["Out"], want)


def test_a_bilinear_product(run_op):
    x, y, w, b = normal(3, 4), normal(3, 5), normal(2, 4, 5), normal(1, 2)
    got = run_op("bilinear_tensor_product", {"X": x, "Y": y, "Weight": w, "Bias": b})["Out"]
    np.testing.assert_allclose(got, np.einsum("nm,kmj,nj->nk", x, w, y) + b)


@pytest.mark.parametrize("offset", [-1, 0, 2])
def test_traces_and_diagonals(run_op, offset):
    x = normal(2, 3, 4)
    got = run_op("trace", {"Input": x}, {"offset": offset, "dim1": 1, "dim2": 2})["Out"]
    np.testing.assert_allclose(got, np.trace(x, offset, 1, 2))
    attrs = {"offset": offset, "dim1": 0, "dim2": 2}
    got = run_op("diag_embed", {"Input": x[0]}, attrs)["Out"]
    for i in range(3):
        np.testing.assert_allclose(got[:, i, :], np.diag(x[0, i], offset))
