import numpy as np
import pytest

from noria.core.errors import EngineError, NoriaError
from noria.ops import patches
from noria.testing.case import Case, arr
from noria.testing.check import check_case

#        1
#     2  3  4      5 is under 2, 6 and 7 are under 4
EDGES = np.zeros((2, 6, 2), np.int64)
EDGES[0] = [[1, 2], [1, 3], [1, 4], [2, 5], [4, 6], [4, 7]]
EDGES[1, :2] = [[1, 2], [2, 3]]


def walked(depth, nodes=8):
    """Down from each node."""

    def apply(edges):
        out = np.zeros((len(edges), nodes, nodes, 3))
        for b, pairs in enumerate(edges):
            real = [tuple(p) for p in pairs if p.all()]

            def visit(root, node, place, count, level, b=b, real=real):
                top = 1 - level / depth
                left = (1 - top) * (0.5 if count == 1 else (place - 1) / (count - 1))
                out[b, root - 1, node - 1] = left, (1 - top) * (1 - left), top
                below = [v for u, v in real if u == node]
                for k, v in enumerate(below, 1):
                    if level + 1 < depth:
                        visit(root, v, k, len(below), level + 1)

            for root in range(1, len(real) + 2):
                visit(root, root, 1, 1, 0)
        return out

    return apply


CASES = [
    Case("tree_patches", [EDGES], {"nodes": 8, "depth": d}, expect=walked(d), jax=False)
    for d in (1, 2, 3)
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_patches_are_weighed():
    def fn(x, weight):
        return patches.tree_conv(x, EDGES, weight, depth=2)

    def expect(x, weight):
        return np.einsum("buve,bvf,feok->buok", walked(2)(EDGES), x, weight)

    inputs = [arr(2, 8, 4), arr(4, 3, 2, 5)]
    check_case(Case("conv", inputs, expect=expect, grad=[0, 1], jax=False, tol=1e-5), fn)


def test_a_circle_ends():
    edges = np.array([[[1, 2], [2, 1]]])
    seen = patches.tree_patches(edges, nodes=2, depth=9)
    assert (seen[0, 0, :, 2] > 0).all()


X, W = np.ones((2, 8, 4)), np.ones((4, 3, 2, 5))
WRONG = {
    "a node that is not there": lambda: patches.tree_patches(EDGES, nodes=6, depth=2),
    "no level": lambda: patches.tree_patches(EDGES, nodes=8, depth=0),
    "edges of three nodes": lambda: patches.tree_patches(np.ones((1, 2, 3), int), nodes=8, depth=1),
    "a weight of two parts": lambda: patches.tree_conv(X, EDGES, W[:, :2], depth=2),
    "a weight of other features": lambda: patches.tree_conv(X, EDGES, W[:2], depth=2),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(NoriaError):
        call()


def test_xla_cannot_compile_it():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(EngineError, match="XLA"):
        patches.tree_patches.run(jnp, [EDGES], {"nodes": 8, "depth": 1, "dtype": "float32"})


def test_every_op_has_a_case():
    assert {c.op for c in CASES} == {"tree_patches"}
