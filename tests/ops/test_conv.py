import itertools

import numpy as np
import pytest

import noria.ops.conv as conv
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr
from noria.testing.check import check_case

N, H, W = symbol("N"), symbol("H"), symbol("W")
ROWS = {0: {0: "N"}}
BOTH_ROWS = {0: {0: "N"}, 1: {0: "N"}}


def geometry(n, stride=1, padding=0, dilation=1, **_):
    """stride, dilation, (front, behind) for each axis; explicit padding only."""
    listed = [v if isinstance(v, tuple) else (v,) * n for v in (stride, dilation, padding)]
    stride, dilation, padding = listed
    return stride, dilation, list(zip(padding[:n], padding[-n:], strict=True))


def uses(sizes, kernel, counts, attrs):
    """Every (window, element of the kernel, element of x) that a convolution multiplies."""
    stride, dilation, pads = geometry(len(sizes), **attrs)
    for window in np.ndindex(*counts):
        for k in np.ndindex(*kernel):
            at = tuple(
                w * s + i * d - p[0]
                for w, s, i, d, p in zip(window, stride, k, dilation, pads, strict=True)
            )
            if all(0 <= a < n for a, n in zip(at, sizes, strict=True)):
                yield window, k, at


def counts_of(sizes, kernel, attrs):
    stride, dilation, pads = geometry(len(sizes), **attrs)
    return tuple(
        (n + sum(p) - (k - 1) * d - 1) // s + 1
        for n, k, s, d, p in zip(sizes, kernel, stride, dilation, pads, strict=True)
    )


def blocks(groups, outputs, inputs):
    """(group's slice of outputs, group's slice of inputs)."""
    for i in range(groups):
        yield (
            slice(i * outputs // groups, (i + 1) * outputs // groups),
            slice(i * inputs // groups, (i + 1) * inputs // groups),
        )


def loops(**attrs):
    """The convolution as loops over windows and elements."""
    groups = attrs.get("groups", 1)

    def apply(x, weight, bias=None):
        x, weight = x.astype(np.float64), weight.astype(np.float64)
        counts = counts_of(x.shape[2:], weight.shape[2:], attrs)
        out = np.zeros((x.shape[0], weight.shape[0], *counts))
        for window, k, at in uses(x.shape[2:], weight.shape[2:], counts, attrs):
            for o, c in blocks(groups, weight.shape[0], x.shape[1]):
                out[(slice(None), o, *window)] += x[(slice(None), c, *at)] @ weight[(o, ..., *k)].T
        return out if bias is None else out + bias.reshape(-1, *(1,) * len(counts))

    return apply


def scattered(sizes=None, output_padding=0, **attrs):
    """The transpose of the convolution as loops: each window adds to the elements it sees."""
    groups = attrs.get("groups", 1)

    def apply(grad, weight, bias=None):
        grad, weight = grad.astype(np.float64), weight.astype(np.float64)
        n = grad.ndim - 2
        stride, dilation, pads = geometry(n, **attrs)
        extra = output_padding if isinstance(output_padding, tuple) else (output_padding,) * n
        parts = zip(grad.shape[2:], weight.shape[2:], stride, dilation, pads, extra, strict=True)
        sizes_ = sizes or tuple(
            (m - 1) * s + (k - 1) * d + 1 - sum(p) + e for m, k, s, d, p, e in parts
        )
        out = np.zeros((grad.shape[0], weight.shape[1] * groups, *sizes_))
        for window, k, at in uses(sizes_, weight.shape[2:], grad.shape[2:], attrs):
            for o, c in blocks(groups, weight.shape[0], out.shape[1]):
                row = grad[(slice(None), o, *window)] @ weight[(o, ..., *k)]
                out[(slice(None), c, *at)] += row
        return out if bias is None else out + bias.reshape(-1, *(1,) * n)

    return apply


def correlated(kernel, **attrs):
    """The gradient in weight as loops."""
    groups = attrs.get("groups", 1)

    def apply(x, grad):
        x, grad = x.astype(np.float64), grad.astype(np.float64)
        out = np.zeros((grad.shape[1], x.shape[1] // groups, *kernel))
        for window, k, at in uses(x.shape[2:], kernel, grad.shape[2:], attrs):
            for o, c in blocks(groups, grad.shape[1], x.shape[1]):
                out[(o, ..., *k)] += grad[(slice(None), o, *window)].T @ x[(slice(None), c, *at)]
        return out

    return apply


def trio(n, x, weight, attrs, **more):
    """The convolution and its two gradients, of one geometry."""
    counts = counts_of(x[2:], weight[2:], attrs)
    grad = (x[0], weight[0], *counts)
    sizes, kernel = {"sizes": x[2:]}, {"kernel": weight[2:]}
    return [
        Case(f"conv{n}d", [arr(*x), arr(*weight)], attrs, expect=loops(**attrs), **more),
        Case(
            f"conv{n}d_input_grad",
            [arr(*grad), arr(*weight)],
            attrs | sizes,
            expect=scattered(**sizes, **attrs),
            **more,
        ),
        Case(
            f"conv{n}d_weight_grad",
            [arr(*x), arr(*grad)],
            attrs | kernel,
            expect=correlated(**kernel, **attrs),
            **more,
        ),
    ]


GEOMETRIES = [
    *trio(2, (2, 3, 5, 6), (4, 3, 3, 2), {}, grad2=True),
    *trio(2, (2, 3, 7, 6), (2, 3, 3, 3), {"stride": 2, "padding": 1}, grad2=True),
    *trio(2, (1, 2, 7, 8), (2, 2, 2, 3), {"stride": (3, 2), "padding": (1, 0)}),
    *trio(2, (1, 2, 6, 5), (2, 2, 3, 2), {"padding": (0, 2, 1, 3), "stride": 2}, id="four pads"),
    *trio(2, (1, 2, 7, 7), (2, 2, 3, 2), {"dilation": (2, 3), "padding": 2}, grad2=True),
    *trio(2, (2, 4, 5, 5), (6, 2, 3, 3), {"groups": 2, "padding": 1}, grad2=True, id="groups"),
    *trio(2, (2, 4, 5, 5), (4, 1, 3, 3), {"groups": 4}, id="depthwise"),
    *trio(2, (2, 3, 4, 4), (5, 3, 1, 1), {}, id="pointwise"),
    *trio(2, (1, 1, 1, 1), (1, 1, 3, 3), {"padding": 1}, id="one element"),
    *trio(2, (0, 2, 4, 4), (3, 2, 3, 3), {}, id="empty batch"),
    *trio(1, (2, 3, 8), (4, 3, 3), {"stride": 2, "padding": (1, 2)}, grad2=True),
    *trio(1, (2, 4, 9), (4, 2, 2), {"dilation": 3, "groups": 2}),
    *trio(3, (2, 2, 4, 3, 5), (3, 2, 2, 3, 2), {"padding": (1, 0, 1)}),
    *trio(3, (1, 2, 5, 4, 4), (2, 1, 2, 2, 3), {"stride": (2, 1, 1), "groups": 2}, grad2=True),
]

OPEN = [
    Case("conv2d", [arr(2, 3, 5, 6), arr(4, 3, 3, 2), arr(4)], expect=loops(), symbolic=ROWS),
    Case(
        "conv2d",
        [arr(2, 3, 7, 6), arr(4, 3, 3, 2), arr(4)],
        {"stride": 2, "padding": 1},
        expect=loops(stride=2, padding=1),
        symbolic={0: {0: "N", 2: "H", 3: "W"}},
        grad2=True,
    ),
    Case(
        "conv2d_input_grad",
        [arr(2, 3, 2, 2), arr(3, 2, 3, 3)],
        {"sizes": (4, 4)},
        expect=scattered(sizes=(4, 4)),
        symbolic=ROWS,
    ),
    Case(
        "conv2d_weight_grad",
        [arr(2, 3, 4, 4), arr(2, 2, 2, 2)],
        {"kernel": (3, 3)},
        expect=correlated((3, 3)),
        symbolic=BOTH_ROWS,
    ),
    Case("conv1d", [arr(2, 3, 5), arr(4, 3, 3), arr(4)], expect=loops(), symbolic={0: {2: "T"}}),
    Case("conv3d", [arr(1, 1, 3, 4, 3), arr(2, 1, 2, 2, 2), arr(2)], expect=loops(), symbolic=ROWS),
]


def transposed(n, x, weight, bias=False, symbolic=None, grad2=False, id="", **attrs):
    inputs = [arr(*x), arr(*weight)]
    inputs += [arr(weight[1] * attrs.get("groups", 1))] if bias else []
    return Case(
        f"conv_transpose{n}d",
        inputs,
        attrs,
        expect=scattered(**attrs),
        symbolic=symbolic,
        grad2=grad2,
        id=id,
    )


TRANSPOSED = [
    transposed(2, (2, 3, 3, 4), (3, 2, 3, 2), bias=True, symbolic=ROWS),
    transposed(2, (2, 3, 3, 4), (3, 2, 3, 2), stride=2, padding=1, grad2=True),
    transposed(
        2, (1, 2, 3, 2), (2, 2, 3, 3), stride=(2, 3), output_padding=(1, 2), symbolic={0: {2: "H"}}
    ),
    transposed(2, (1, 4, 3, 3), (4, 3, 2, 2), groups=2, bias=True, dilation=2, grad2=True),
    transposed(2, (1, 2, 4, 4), (2, 1, 3, 3), padding=(1, 0, 2, 1), id="four pads"),
    transposed(
        2,
        (2, 2, 3, 4),
        (2, 3, 2, 3),
        dilation=(3, 2),
        stride=(1, 2),
        output_padding=(2, 1),
        bias=True,
        symbolic=ROWS,
        grad2=True,
        id="beyond all windows",
    ),
    transposed(2, (0, 2, 4, 4), (2, 1, 3, 3), id="empty batch"),
    transposed(1, (2, 3, 4), (3, 2, 4), stride=3, padding=1, output_padding=2, symbolic=ROWS),
    transposed(3, (1, 2, 2, 3, 2), (2, 2, 2, 2, 3), stride=2, padding=1, bias=True),
]

HALVES = [
    Case(
        f"conv{n}d",
        [arr(1, 16, *(4,) * n, dtype=dtype), arr(2, 16, *(3,) * n, dtype=dtype)],
        expect=loops(),
    )
    for n, dtype in itertools.product((1, 2), ("bfloat16", "float16"))
]
HALVES += [
    Case(
        "conv2d",
        [arr(1, 3, 4, 4, dtype="bfloat16"), arr(2, 3, 3, 3, dtype="bfloat16"), arr(2)],
        expect=loops(),
        id="bias of float32",
    ),
    Case(
        "conv2d_weight_grad",
        [arr(2, 3, 4, 4, dtype="bfloat16"), arr(2, 2, 2, 2, dtype="bfloat16")],
        {"kernel": (3, 3), "dtype": "float32"},
        id="wide",
        tol=1e-6,
    ),
]

SAME = [
    Case(
        "conv2d",
        [arr(1, 1, 5, 6), arr(1, 1, 2, 3)],
        {"padding": "same"},
        expect=loops(padding=(0, 1, 1, 1)),
    ),
    Case(
        "conv2d",
        [arr(1, 1, 5, 6), arr(1, 1, 2, 3)],
        {"padding": "same_lower", "stride": 2},
        expect=loops(padding=(1, 1, 0, 0), stride=2),
        grad2=True,
    ),
    Case(
        "conv2d",
        [arr(1, 1, 5, 6), arr(1, 1, 2, 3)],
        {"padding": "valid"},
        expect=loops(),
    ),
]

CASES = [*GEOMETRIES, *OPEN, *TRANSPOSED, *HALVES, *SAME]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(conv).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


def test_gradients_with_open_image_sizes_have_the_shapes_of_the_inputs():
    with Builder(Program()) as builder:
        x, w = builder.input("x", (N, 3, H, W)), builder.input("w", (4, 3, 3, 3))
        out = conv.conv2d(x, w, stride=2, padding="same")
        gx, gw = gradients(out, [x, w])
    assert (gx.shape, gw.shape) == (x.shape, w.shape)
    assert str(out.shape[2]) == "(H+1)//2"


@pytest.mark.parametrize(
    ("x", "weight", "bias", "attrs", "match"),
    [
        ((1, 3, 5, 5), (2, 4, 3, 3), None, {}, "channels"),
        ((1, 4, 5, 5), (3, 2, 3, 3), None, {"groups": 2}, "groups"),
        ((1, 3, 5, 5), (2, 3, 3, 3), (3,), {}, "bias"),
        ((1, 3, 5, 5), (2, 3, 3, 3), (2, 1), {}, "bias"),
        ((1, 3, 5), (2, 3, 3, 3), None, {}, "rank"),
        ((1, 3, 5, 5), (2, 3, 3), None, {}, "rank"),
        ((1, 3, 2, 5), (2, 3, 3, 3), None, {}, "no window fits"),
        ((1, 3, 5, 5), (2, 3, 0, 3), None, {}, "kernel"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(x, weight, bias, attrs, match):
    arrays = [np.ones(s) for s in (x, weight, bias) if s is not None]
    with pytest.raises(ShapeError, match=match):
        conv.conv2d(*arrays, **attrs)


@pytest.mark.parametrize(
    "attrs", [{"groups": 0}, {"groups": True}, {"stride": 0}, {"padding": (1, 2, 3)}]
)
def test_bad_attributes_are_refused(attrs):
    with pytest.raises(ArgumentError, match=next(iter(attrs))):
        conv.conv2d(np.ones((1, 2, 4, 4)), np.ones((2, 2, 3, 3)), **attrs)


def test_kernel_sizes_must_be_known_when_the_program_is_built():
    with Builder(Program()) as builder, pytest.raises(ShapeError, match="kernel sizes"):
        x, w = builder.input("x", (N, 3, 8, 8)), builder.input("w", (4, 3, H, 3))
        conv.conv2d(x, w)


def test_integers_are_refused():
    with pytest.raises(DTypeError, match="float"):
        conv.conv2d(np.ones((1, 1, 3, 3), int), np.ones((1, 1, 3, 3), int))


def test_gradients_check_the_shape_of_the_output_gradient():
    weight = np.ones((2, 3, 3, 3))
    with pytest.raises(ShapeError, match="windows"):
        conv.conv2d_input_grad(np.ones((1, 2, 4, 3)), weight, sizes=(5, 5))
    with pytest.raises(ShapeError, match="channels of grad"):
        conv.conv2d_input_grad(np.ones((1, 3, 3, 3)), weight, sizes=(5, 5))
    with pytest.raises(ShapeError, match="batch"):
        conv.conv2d_weight_grad(np.ones((1, 3, 3, 3)), np.ones((2, 2, 1, 1)), kernel=(3, 3))


@pytest.mark.parametrize(
    ("attrs", "error", "match"),
    [
        ({"output_padding": 1}, ArgumentError, "output_padding"),
        ({"output_padding": -1}, ArgumentError, "output_padding"),
        ({"padding": "same"}, ArgumentError, "padding"),
        ({"padding": 3}, ShapeError, "nothing"),
    ],
)
def test_transposes_refuse_what_no_convolution_undoes(attrs, error, match):
    with pytest.raises(error, match=match):
        conv.conv_transpose2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), **attrs)


def test_a_transposed_convolution_weight_has_its_inputs_first():
    with pytest.raises(ShapeError, match="channels of x and of weight"):
        conv.conv_transpose2d(np.ones((1, 3, 2, 2)), np.ones((2, 3, 2, 2)))
