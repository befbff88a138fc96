import itertools

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.opdef import OpDef
from noria.ops import sampling as family
from noria.ops.sampling import affine_grid, grid_sample
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

H = symbol("H")


def reflected(at, low, high):
    """Folded back at both borders until it is inside."""
    if low == high:
        return 0
    while not low <= at <= high:
        at = 2 * low - at if at < low else 2 * high - at
    return at


def moved(at, n, padding_mode, align_corners):
    if padding_mode == "reflection":
        at = reflected(at, *((0, n - 1) if align_corners else (-0.5, n - 0.5)))
    return at if padding_mode == "zeros" else min(max(at, 0), n - 1)


def keys(d, a=-0.75):
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0


def line(at, n, mode, padding_mode, align_corners):
    """{position: weight} along one axis; a position outside [0, n) is zero."""
    inside = moved(at, n, padding_mode, align_corners)
    if mode == "nearest":
        return {int(np.rint(inside)): 1.0}
    if mode == "bilinear":
        low = int(np.floor(inside))
        return {low: 1 - (inside - low), low + 1: inside - low}
    found = {}
    for i in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
        k = int(moved(i, n, padding_mode, align_corners))
        found[k] = found.get(k, 0) + keys(at - i)
    return found


def weights(sizes, place, mode, padding_mode, align_corners, pixels):
    """{position: weight} of one place."""
    place = place if pixels else place[::-1]
    lines = []
    for n, at in zip(sizes, place, strict=True):
        if not pixels:
            at = (at + 1) / 2 * (n - 1) if align_corners else ((at + 1) * n - 1) / 2
        lines.append(line(at, n, mode, padding_mode, align_corners))
    out = {}
    for ids in itertools.product(*lines):
        if all(0 <= i < n for i, n in zip(ids, sizes, strict=True)):
            out[ids] = np.prod([w[i] for w, i in zip(lines, ids, strict=True)])
    return out


def loops(mode="bilinear", padding_mode="zeros", align_corners=False, pixels=False):
    def apply(x, grid):
        out = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
        for at in itertools.product(*(range(n) for n in grid.shape[:-1])):
            how = (mode, padding_mode, align_corners, pixels)
            for ids, w in weights(x.shape[2:], grid[at].astype(float), *how).items():
                out[(at[0], slice(None), *at[1:])] += w * x[(at[0], slice(None), *ids)]
        return out

    return apply


def spread(sizes, **attrs):
    """The transpose of sampling."""

    def apply(grad, grid):
        out = np.zeros((*grad.shape[:2], *sizes))
        full = {"mode": "bilinear", "padding_mode": "zeros", "align_corners": False}
        how = tuple((full | {"pixels": False} | attrs).values())
        for at in itertools.product(*(range(n) for n in grid.shape[:-1])):
            for ids, w in weights(sizes, grid[at].astype(float), *how).items():
                out[(at[0], slice(None), *ids)] += w * grad[(at[0], slice(None), *at[1:])]
        return out

    return apply


def sample(x, grid, symbolic=None, reach=1.6, **attrs):
    inputs = [arr(*x), arr(*grid, low=-reach, high=reach)]
    return Case("grid_sample", inputs, attrs, expect=loops(**attrs), symbolic=symbolic, grad=True)


CASES = [
    sample((2, 3, 4, 5), (2, 3, 4, 2), symbolic={0: {0: "N"}, 1: {0: "N"}}),
    sample((1, 2, 4, 5), (1, 3, 2, 2), padding_mode="border", align_corners=True),
    sample((1, 2, 3, 4), (1, 4, 3, 2), padding_mode="reflection", reach=3.5),
    sample((1, 1, 3, 4), (1, 4, 3, 2), padding_mode="reflection", align_corners=True, reach=3.5),
    sample((1, 2, 4, 5), (1, 3, 4, 2), mode="bicubic"),
    sample((1, 1, 4, 5), (1, 4, 4, 2), mode="bicubic", padding_mode="border"),
    sample((1, 1, 4, 3), (1, 4, 4, 2), mode="bicubic", padding_mode="reflection"),
    sample((1, 2, 4, 5), (1, 3, 4, 2), mode="nearest", align_corners=True),
    sample((1, 1, 4, 5), (1, 3, 4, 2), mode="nearest", padding_mode="reflection"),
    sample((1, 2, 3, 4, 2), (1, 2, 3, 2, 3), padding_mode="border"),
    sample((2, 1, 5), (2, 4, 1), align_corners=True),
    sample((1, 2, 5, 4), (1, 3, 2), pixels=True, reach=5.5),
    sample((1, 1, 1, 1), (1, 7, 5, 2), padding_mode="reflection", align_corners=True),
    sample((1, 1, 2, 3), (1, 1, 2, 2), reach=0.9),
    Case("grid_sample", [ints(1, 1, 3, 3), arr(1, 2, 2, 2)], {"mode": "nearest"}, grad=False),
    Case("grid_sample", [arr(0, 1, 3, 3), arr(0, 2, 2, 2)], id="empty batch"),
    Case(
        "grid_sample",
        [arr(1, 1, 3, 4), arr(1, 2, 3, 2, low=-1.2, high=1.2)],
        symbolic={0: {2: "H"}},
        expect=loops(),
        id="open size",
    ),
    Case(
        "grid_sample_input_grad",
        [arr(2, 3, 3, 2), arr(2, 3, 2, 2, low=-1.3, high=1.3)],
        {"sizes": (4, 3)},
        expect=spread((4, 3)),
        symbolic={0: {0: "N"}, 1: {0: "N"}},
    ),
    Case(
        "grid_sample_input_grad",
        [arr(1, 1, 3, 2), arr(1, 3, 2, 2, low=-1.3, high=1.3)],
        {"sizes": (4, 3), "mode": "bicubic", "padding_mode": "border"},
        expect=spread((4, 3), mode="bicubic", padding_mode="border"),
    ),
    Case(
        "grid_sample_grid_grad",
        [arr(2, 3, 4, 5), arr(2, 3, 2, 2, low=-1.3, high=1.3), arr(2, 3, 3, 2)],
        symbolic={0: {0: "N"}, 1: {0: "N"}, 2: {0: "N"}},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(family).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


TORCH = [
    ((2, 3, 4, 5), (2, 6, 7, 2), {"mode": mode, "padding_mode": padding, "align_corners": align})
    for mode in ("bilinear", "nearest", "bicubic")
    for padding in ("zeros", "border", "reflection")
    for align in (False, True)
]
TORCH += [
    ((1, 2, 3, 4, 5), (1, 2, 6, 3, 3), {"mode": mode, "padding_mode": "reflection"})
    for mode in ("bilinear", "nearest")
]


@pytest.mark.parametrize(("shape", "places", "how"), TORCH, ids=str)
def test_sampling_and_its_gradients_are_those_of_pytorch(shape, places, how):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    x, grid = rng.normal(size=shape), rng.uniform(-2.5, 2.5, places)
    tx, tg = (torch.asarray(a).requires_grad_() for a in (x, grid))
    align = how.get("align_corners", False)
    want = torch.nn.functional.grid_sample(tx, tg, **how | {"align_corners": align})
    np.testing.assert_allclose(grid_sample(x, grid, **how), want.detach().numpy(), atol=1e-9)
    g = rng.normal(size=tuple(want.shape))
    want.backward(torch.asarray(g))
    gx = family.grid_sample_input_grad(g, grid, sizes=shape[2:], **how)
    np.testing.assert_allclose(gx, tx.grad.numpy(), atol=1e-9)
    slope = family.grid_sample_grid_grad(x, grid, g, **how)
    np.testing.assert_allclose(slope, tg.grad.numpy(), atol=1e-8)


def test_places_that_are_no_numbers_or_far_away_are_harmless():
    x = np.arange(1.0, 5.0).reshape(1, 1, 2, 2)
    grid = np.array([[np.nan, np.nan], [np.inf, 0.0], [-np.inf, 1e30]]).reshape(1, 1, 3, 2)
    out = grid_sample(x, grid, align_corners=True)
    assert out.ravel().tolist() == [1, 0, 0]
    assert np.isfinite(grid_sample(x, grid, padding_mode="reflection")).all()


@pytest.mark.parametrize(
    ("x", "grid", "attrs", "error", "match"),
    [
        ((1, 1, 3, 3), (1, 2, 2, 3), {}, ShapeError, "spatial axes"),
        ((2, 1, 3, 3), (1, 2, 2, 2), {}, ShapeError, "batch"),
        ((1, 1, 0, 3), (1, 2, 2, 2), {}, ShapeError, "nothing"),
        ((1, 3), (1, 2, 2), {}, ShapeError, "sizes"),
        ((1, 1, 3, 3), (1, 2, 2, 2), {"mode": "linear"}, ArgumentError, "mode"),
        ((1, 1, 3, 3), (1, 2, 2, 2), {"padding_mode": "wrap"}, ArgumentError, "padding_mode"),
    ],
)
def test_what_does_not_fit_is_refused(x, grid, attrs, error, match):
    with pytest.raises(error, match=match):
        grid_sample(np.ones(x), np.ones(grid), **attrs)


def test_integers_are_not_interpolated():
    with pytest.raises(DTypeError, match="floats"):
        grid_sample(np.ones((1, 1, 2, 2), int), np.ones((1, 2, 2, 2)))


# ---- affine grids ------------------------------------------------------------------------------


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("sizes", [(3, 4), (2, 3, 5), (2, 2)], ids=str)
def test_affine_grids_are_those_of_pytorch(sizes, align_corners):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    n = len(sizes)
    theta = np.random.default_rng(0).normal(size=(2, n, n + 1))
    want = torch.nn.functional.affine_grid(
        torch.asarray(theta), [2, 1, *sizes], align_corners=align_corners
    )
    got = affine_grid(theta, sizes=sizes, align_corners=align_corners)
    np.testing.assert_allclose(got, want.numpy(), atol=1e-12)


def test_an_affine_grid_has_gradients_and_may_have_open_sizes():
    case = Case(
        "affine_grid",
        [arr(2, 2, 3)],
        symbolic={0: {0: "N"}},
        grad=True,
    )
    check_case(case, lambda theta: affine_grid(theta, sizes=(3, 4)))
    image = Case("affine_grid", [arr(2, 2, 3), arr(2, 1, 3, 4)], symbolic={1: {2: "H", 3: "W"}})
    check_case(image, lambda theta, x: affine_grid(theta, sizes=x.shape[2:], align_corners=True))


def test_a_matrix_must_fit_the_sizes():
    with pytest.raises(ShapeError, match="matrix"):
        affine_grid(np.ones((2, 2, 3)), sizes=(2, 3, 4))
