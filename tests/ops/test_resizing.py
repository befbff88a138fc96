import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.emit import Builder
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.ops import resizing as family
from noria.ops.resizing import interpolate, resize
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

N, H = symbol("N"), symbol("H")


def position(y, n, m, coordinates, scale, crop):
    """Where element y of m lies among n, written out as in the standard."""
    length = n * scale
    if coordinates == "half_pixel":
        return (y + 0.5) / scale - 0.5
    if coordinates == "pytorch_half_pixel":
        return (y + 0.5) / scale - 0.5 if m > 1 else 0
    if coordinates == "half_pixel_symmetric":
        return n / 2 * (1 - m / length) + (y + 0.5) / scale - 0.5
    if coordinates == "asymmetric":
        return y / scale
    if coordinates == "align_corners":
        return 0 if length == 1 else y * (n - 1) / (length - 1)
    start, end = crop
    if length == 1:
        return 0.5 * (start + end) * (n - 1)
    return start * (n - 1) + y * (end - start) * (n - 1) / (length - 1)


def weigh(d, mode, a):
    d = abs(d)
    if mode == "linear":
        return max(0, 1 - d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0


def row(x, m, mode, coordinates, scale, crop, rounding, a, antialias, exclude_outside, beyond):
    """One axis of a vector, element by element."""
    n, out = len(x), []
    scale = m / n if scale is None else scale
    for y in range(m):
        at = position(y, n, m, coordinates, scale, crop)
        if coordinates == "tf_crop_and_resize" and not 0 <= at <= n - 1:
            out.append(beyond)
            continue
        if mode == "nearest":
            low = int(np.floor(at))
            rest = at - low
            up = {
                "round_prefer_floor": rest > 0.5,
                "round_prefer_ceil": rest >= 0.5,
                "floor": False,
                "ceil": rest > 0,
            }
            out.append(x[min(max(low + up[rounding], 0), n - 1)])
            continue
        wide = min(scale, 1) if antialias else 1
        total = weights = 0.0
        for i in range(int(at) - 12, int(at) + 13):
            w = weigh((i - at) * wide, mode, a)
            if not exclude_outside or 0 <= i < n:
                total += w * x[min(max(i, 0), n - 1)]
                weights += w
        out.append(total / weights)
    return out


def rows(
    sizes,
    axes=(2, 3),
    scales=None,
    mode="linear",
    coordinates="half_pixel",
    crop=None,
    rounding="round_prefer_floor",
    cubic_a=-0.75,
    antialias=False,
    exclude_outside=False,
    single=False,
    beyond=0.0,
):
    """The definition, axis after axis."""

    def apply(x):
        for i, (axis, m) in enumerate(zip(axes, sizes, strict=True)):
            scale = None if scales is None else scales[i]
            part = (crop[i], crop[i + len(axes)]) if crop else None
            how = (m, mode, coordinates, scale, part, rounding, cubic_a, antialias)
            x = np.apply_along_axis(row, axis, x, *how, exclude_outside, beyond)
        return x

    return apply


def case(shape, grad2=False, symbolic=None, id="", **attrs):
    how = dict(attrs)
    if "axes" not in how and len(shape) == 3:
        how["axes"] = (2,)
    return Case(
        "resize",
        [arr(*shape)],
        attrs,
        expect=rows(**how),
        grad2=grad2,
        symbolic=symbolic,
        id=id,
    )


def transposed(sizes, new, **attrs):
    """The transpose of the map, found by resizing each unit vector."""

    def apply(grad):
        units = np.eye(int(np.prod(sizes))).reshape(-1, 1, *sizes)
        columns = rows(new, **attrs)(units).reshape(len(units), -1)
        flat = grad.reshape(-1, columns.shape[1]) @ columns.T
        return flat.reshape(*grad.shape[:2], *sizes)

    return apply


CASES = [
    case((2, 3, 4, 5), sizes=(7, 3), symbolic={0: {0: "N"}}, grad2=True),
    case((1, 2, 4, 5), sizes=(8, 10), coordinates="align_corners"),
    case((1, 2, 3, 3), sizes=(1, 1), coordinates="align_corners", id="one corner"),
    case((1, 2, 5, 4), sizes=(1, 6), coordinates="pytorch_half_pixel"),
    case((1, 1, 4, 4), sizes=(9, 2), scales=(2.3, 0.6), coordinates="half_pixel_symmetric"),
    case((2, 1, 5), sizes=(9,), scales=(1.9,), coordinates="asymmetric", symbolic={0: {0: "N"}}),
    case((1, 2, 4, 5), sizes=(7, 9), mode="cubic", grad2=True),
    case((1, 1, 5, 4), sizes=(3, 8), mode="cubic", cubic_a=-0.5, exclude_outside=True),
    case((1, 2, 9, 8), sizes=(4, 3), antialias=True),
    case((1, 1, 9, 8), sizes=(5, 5), scales=(0.6, 0.7), mode="cubic", antialias=True),
    case((1, 1, 9, 7), sizes=(4, 5), antialias=True, exclude_outside=True, id="like Pillow"),
    case((2, 3, 4, 2), sizes=(5, 3), axes=(2, 1), mode="cubic", id="other axes"),
    case((1, 1, 4, 5), sizes=(7, 3), mode="nearest", single=True),
    *(
        case((1, 1, 4, 5), sizes=(7, 3), mode="nearest", rounding=r, coordinates=c)
        for r, c in [
            ("round_prefer_floor", "half_pixel"),
            ("round_prefer_ceil", "align_corners"),
            ("floor", "asymmetric"),
            ("ceil", "half_pixel"),
        ]
    ),
    case(
        (1, 2, 4, 4),
        sizes=(3, 3),
        coordinates="tf_crop_and_resize",
        crop=(0.4, 0.6, 0.6, 0.8),
    ),
    case(
        (1, 1, 4, 4),
        sizes=(3, 1),
        coordinates="tf_crop_and_resize",
        crop=(-0.3, 0.2, 1.2, 0.7),
        beyond=10.0,
        mode="cubic",
    ),
    Case("resize", [ints(1, 2, 3, 4)], {"sizes": (5, 2), "mode": "nearest"}, grad=False),
    Case("resize", [arr(0, 2, 3, 4)], {"sizes": (5, 2)}, id="empty batch"),
    Case("resize", [arr(1, 2, 0, 4)], {"sizes": (0, 2), "mode": "nearest", "single": True}),
    Case(
        "resize",
        [arr(1, 2, 3, 4, dtype="bfloat16")],
        {"sizes": (5, 2)},
        expect=rows((5, 2)),
    ),
    Case(
        "resize",
        [arr(1, 2, 3, 4)],
        {"sizes": (2 * H, 6), "coordinates": "asymmetric", "scales": (2.0, 1.5)},
        symbolic={0: {0: "N", 2: "H"}},
        id="open sizes",
    ),
    Case(
        "resize_grad",
        [arr(2, 2, 5, 3)],
        {"sizes": (3, 4), "mode": "cubic"},
        expect=transposed((3, 4), (5, 3), mode="cubic"),
        symbolic={0: {0: "N"}},
    ),
    Case(
        "resize_grad",
        [arr(1, 2, 4, 4)],
        {"sizes": (3, 2), "coordinates": "tf_crop_and_resize", "crop": (0.0, -0.5, 1.5, 1.0)},
        expect=transposed(
            (3, 2), (4, 4), coordinates="tf_crop_and_resize", crop=(0.0, -0.5, 1.5, 1.0)
        ),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(family).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


@pytest.mark.parametrize(
    ("x", "attrs", "error", "match"),
    [
        (np.ones((1, 1, 2, 2)), {"sizes": (3,)}, ArgumentError, "one size"),
        (np.ones((1, 1, 2, 2)), {"sizes": (3, 3), "axes": (2, 2)}, ArgumentError, "one size"),
        (np.ones((1, 1, 2, 2)), {"sizes": (3, 3), "mode": "best"}, ArgumentError, "mode"),
        (np.ones((1, 1, 2, 2)), {"sizes": (3, 3), "scales": (1.0,)}, ArgumentError, "scales"),
        (np.ones((1, 1, 2, 2)), {"sizes": (3, 3), "scales": (0.0, 1.0)}, ArgumentError, "scales"),
        (np.ones((1, 1, 2, 2)), {"sizes": (3, 3), "crop": (0.0,) * 4}, ArgumentError, "crop"),
        (np.ones((1, 1, 0, 2)), {"sizes": (3, 3)}, ShapeError, "nothing"),
        (
            np.ones((1, 1, 2, 2)),
            {"sizes": (3, 3), "single": True, "coordinates": "pytorch_half_pixel"},
            ArgumentError,
            "float32",
        ),
        (np.ones((1, 1, 2, 2), int), {"sizes": (3, 3)}, DTypeError, "floats"),
        (
            np.ones((1, 1, 2, 2)),
            {"sizes": (3, 3), "mode": "nearest", "antialias": True},
            ArgumentError,
            "antialias",
        ),
    ],
)
def test_bad_attributes_are_refused(x, attrs, error, match):
    with pytest.raises(error, match=match):
        resize(x, **attrs)


TORCH = [
    ((2, 3, 5), {"mode": "linear", "size": 8}),
    ((2, 3, 5), {"mode": "nearest", "scale_factor": 1.7}),
    ((1, 2, 5, 6), {"mode": "nearest", "size": (3, 11)}),
    ((1, 2, 5, 6), {"mode": "nearest-exact", "size": (3, 11)}),
    ((1, 1, 14, 4), {"mode": "nearest", "size": (46, 61)}),
    ((1, 1, 14, 4), {"mode": "nearest-exact", "size": (23, 47)}),
    ((1, 2, 5, 6), {"mode": "bilinear", "scale_factor": (1.6, 0.7)}),
    ((1, 2, 5, 6), {"mode": "bilinear", "size": (9, 4), "align_corners": True}),
    ((1, 2, 5, 6), {"mode": "bilinear", "scale_factor": 1.3, "align_corners": True}),
    ((1, 2, 5, 6), {"mode": "bicubic", "size": (7, 4)}),
    ((1, 2, 5, 6), {"mode": "bicubic", "scale_factor": 2.5, "align_corners": True}),
    ((1, 2, 9, 8), {"mode": "bilinear", "size": (4, 3), "antialias": True}),
    ((1, 2, 9, 8), {"mode": "bicubic", "size": (4, 13), "antialias": True}),
    ((1, 2, 5, 6), {"mode": "area", "size": (2, 4)}),
    ((1, 2, 3, 4, 5), {"mode": "trilinear", "size": (4, 3, 7)}),
    ((1, 2, 3, 4, 5), {"mode": "nearest", "scale_factor": 2.0}),
]


@pytest.mark.parametrize(("shape", "how"), TORCH, ids=str)
def test_interpolate_computes_what_pytorch_computes(shape, how):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.default_rng(0).normal(size=shape)
    want = torch.nn.functional.interpolate(torch.asarray(x), **how).numpy()
    np.testing.assert_allclose(interpolate(x, **how), want, atol=1e-6)


def test_sizes_that_are_open_are_scaled_by_simple_fractions():
    with Builder(Program()) as builder:
        x = builder.input("x", (N, 3, H, 8))
        assert str(interpolate(x, scale_factor=1.5).shape[2]) == "H+H//2"
        with pytest.raises(ArgumentError, match="simple fractions"):
            interpolate(x, scale_factor=1.2345)


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        ({}, ArgumentError, "either size"),
        ({"size": 2, "scale_factor": 2.0}, ArgumentError, "either size"),
        ({"size": (2, 2, 2)}, ArgumentError, "one size"),
        ({"size": 0}, ArgumentError, "size"),
        ({"scale_factor": -1.0}, ArgumentError, "positive"),
        ({"size": 2, "mode": "linear"}, ShapeError, "rank"),
        ({"size": 2, "align_corners": True}, ArgumentError, "align_corners"),
        ({"size": 2, "antialias": True}, ArgumentError, "antialias"),
        ({"size": 2, "mode": "lanczos"}, ArgumentError, "mode"),
    ],
)
def test_interpolate_refuses_what_does_not_fit(how, error, match):
    with pytest.raises(error, match=match):
        interpolate(np.ones((1, 1, 3, 3)), **how)
