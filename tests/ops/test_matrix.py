import itertools

import numpy as np
import pytest

import noria.ops.matrix as matrix
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import OpDef
from noria.testing.case import Case, arr
from noria.testing.check import check_case

RNG = np.random.default_rng(7)
BLOCKS = RNG.normal(size=(2, 3, 3, 3)) + 2 * np.eye(3)


def leibniz(x):
    """The determinant as the signed sum over permutations."""
    n, total = x.shape[-1], 0.0
    for p in itertools.permutations(range(n)):
        sign = (-1) ** sum(p[i] > p[j] for i in range(n) for j in range(i + 1, n))
        total = total + sign * np.prod([x[..., i, p[i]] for i in range(n)], axis=0)
    return total


def adjugate(x):
    """The inverse by Cramer's rule."""
    n, out = x.shape[-1], np.empty_like(x)
    for i, j in itertools.product(range(n), repeat=2):
        minor = np.delete(np.delete(x, i, -2), j, -1)
        out[..., j, i] = (-1) ** (i + j) * leibniz(minor)
    return out / leibniz(x)[..., None, None]


CASES = [
    Case("det", [BLOCKS[0, 0].astype("f4")], expect=leibniz),
    Case("det", [BLOCKS], expect=leibniz, symbolic={0: {0: "N"}}, grad2=True),
    Case("det", [arr(0, 2, 2)]),
    Case("inverse", [BLOCKS[0, 0].astype("f4")], expect=adjugate, tol=1e-4),
    Case("inverse", [BLOCKS], expect=adjugate, symbolic={0: {0: "N"}}, grad2=True),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(matrix).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


def test_matrices_are_square_and_an_inverse_exists():
    with pytest.raises(ShapeError, match="square"):
        matrix.det(np.ones((2, 3)))
    with pytest.raises(ShapeError, match="two axes"):
        matrix.det(np.ones(3))
    with pytest.raises(ArgumentError, match="no inverse"):
        matrix.inverse(np.zeros((2, 2)))
    assert matrix.det(np.ones((0, 0))) == 1
