import ml_dtypes
import numpy as np
import pytest

from noria.core.errors import DTypeError, ShapeError
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ops.library import FAMILIES  # noqa: F401  (registers every op)
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

ROWS = {i: {0: "N"} for i in (0, 2, 3)}


def case(n, outs, ins, sizes, groups=1, kernel=(1, 1), out=None, **how):
    """Of a gradient of `sizes`, that of an input of sizes `out`."""
    out = out or sizes
    attrs = {"sizes": out, "groups": groups, **how}

    def expect(grad, weight, more, mask):
        bits = np.unpackbits(mask, 1, ins, "little")
        through = np.asarray(lookup("conv2d_input_grad")(grad, weight, **attrs))
        return np.where(bits, through + more, 0)

    weight = arr(outs, ins // groups, *kernel)
    mask = ints(n, -(-ins // 8), *out, high=256, dtype="uint8")
    inputs = [arr(n, outs, *sizes), weight, arr(n, ins, *out), mask]
    return Case("masked_input_grad", inputs, attrs, expect=expect, symbolic=ROWS)


@pytest.mark.parametrize(
    "case",
    [
        case(2, 3, 5, (4, 3)),
        case(3, 4, 16, (2, 2), groups=2),
        case(2, 3, 17, (2, 3), out=(4, 6), kernel=(3, 2), stride=(2, 2), padding=(1, 0)),
        case(1, 2, 8, (2, 2), out=(4, 4), kernel=(2, 2), dilation=2),
    ],
    ids=str,
)
def test_case(case):
    check_case(case)


def test_what_does_not_fit_is_told():
    g, w, more = (np.ones(s, np.float32) for s in ((2, 4, 3, 3), (4, 9, 1, 1), (2, 9, 3, 3)))
    mask = np.ones((2, 2, 3, 3), np.uint8)
    with pytest.raises(ShapeError, match="more"):
        o.masked_input_grad(g, w, more[:, 1:], mask, sizes=(3, 3))
    with pytest.raises(ShapeError):
        o.masked_input_grad(g, w, more, mask[:, 1:], sizes=(3, 3))
    with pytest.raises(ShapeError):
        o.masked_input_grad(g, w, more, mask[..., 1:], sizes=(3, 3))
    with pytest.raises(DTypeError, match="uint8"):
        o.masked_input_grad(g, w, more, mask.astype(np.int32), sizes=(3, 3))


def test_halves_are_rounded_once():
    half = ml_dtypes.bfloat16
    g = np.array([1, 3 * 2**-9], half).reshape(1, 2, 1, 1)
    w, more = np.ones((2, 1, 1, 1), half), np.full((1, 1, 1, 1), 2**-8, half)
    out = o.masked_input_grad(g, w, more, np.ones((1, 1, 1, 1), np.uint8), sizes=(1, 1))
    assert out.dtype == half and out.item() == 1 + 2**-7


def test_nothing_comes_through_where_the_mask_has_no_bit():
    g, w = np.full((1, 1, 1, 1), np.nan, np.float32), np.ones((1, 2, 1, 1), np.float32)
    more, mask = np.full((1, 2, 1, 1), np.inf, np.float32), np.full((1, 1, 1, 1), 2, np.uint8)
    out = np.asarray(o.masked_input_grad(g, w, more, mask, sizes=(1, 1))).ravel()
    assert out[0] == 0 and np.isnan(out[1])
