import numpy as np
import pytest

import noria
from noria.core.errors import ArgumentError, ShapeError
from noria.ops.einsum import einsum

RNG = np.random.default_rng(3)


def made(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("formula", "shapes"),
    [
        ("ij->ji", [(2, 3)]),
        ("ij->", [(2, 3)]),
        ("ij", [(2, 3)]),
        ("ba", [(2, 3)]),
        ("i,i", [(4,), (4,)]),
        ("i,j->ji", [(2,), (3,)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("bij, bjk -> bik", [(5, 2, 3), (5, 3, 4)]),
        ("bhid,bjhd->bhij", [(2, 3, 4, 5), (2, 6, 3, 5)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("ij,ij,ij->j", [(2, 3)] * 3),
        ("ii->i", [(3, 3)]),
        ("ii", [(3, 3)]),
        ("aibi->ab", [(2, 4, 3, 4)]),
        ("iii->i", [(3, 3, 3)]),
        ("...ii->...i", [(2, 4, 3, 3)]),
        ("...ij,...jk->...ik", [(5, 1, 2, 3), (4, 3, 2)]),
        ("...i,i...->...", [(2, 3), (3, 2)]),
        ("i...->...", [(3, 2)]),
        ("ab,cd->abcd", [(2, 3), (4, 2)]),
        ("ab,b->a", [(0, 3), (3,)]),
        ("abc,b->ac", [(2, 3, 4), (3,)]),
    ],
)
def test_sums_of_products_are_those_of_numpy(formula, shapes):
    arrays = [made(*s) for s in shapes]
    got = einsum(formula, *arrays)
    want = np.einsum(formula.replace(" ", ""), *arrays)
    assert got.shape == want.shape
    assert got.dtype == np.float32
    assert np.allclose(got, want, atol=1e-5)


def test_sizes_may_be_symbolic_and_gradients_follow():
    x, y = made(3, 2, 4), made(3, 4, 5)

    def step(x, y):
        return {"loss": noria.ops.reduce_sum(einsum("bij,bjk->ik", x, y))}

    program = noria.trace(step, x=noria.spec("N", 2, 4), y=noria.spec("N", 4, 5))
    program, gradients = noria.append_backward(program, "loss", ["x", "y"])
    program.outputs |= {"gx": gradients["x"], "gy": gradients["y"]}
    got = noria.Executor(program).run({"x": x, "y": y})
    assert np.allclose(got["loss"], np.einsum("bij,bjk->", x, y), atol=1e-4)
    assert np.allclose(got["gx"], np.broadcast_to(y.sum(2)[:, None], x.shape), atol=1e-5)
    assert np.allclose(got["gy"], np.broadcast_to(x.sum(1)[:, :, None], y.shape), atol=1e-5)


def test_integers_stay_integers():
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    got = einsum("ij,kj->ik", x, x)
    assert got.dtype == np.int32
    assert got.tolist() == (x @ x.T).tolist()


@pytest.mark.parametrize(
    ("formula", "shapes"),
    [
        ("ij,jk", [(2, 3)]),
        ("ijk", [(2, 3)]),
        ("i", [(2, 3)]),
        ("ij->k", [(2, 3)]),
        ("ij->ii", [(2, 3)]),
        ("i1->i", [(2, 3)]),
    ],
)
def test_a_formula_that_makes_no_sense_is_an_error(formula, shapes):
    with pytest.raises(ArgumentError):
        einsum(formula, *(made(*s) for s in shapes))


def test_sizes_of_a_letter_are_equal():
    with pytest.raises(ShapeError, match="'j' has two sizes"):
        einsum("ij,jk->ik", made(2, 3), made(4, 2))
