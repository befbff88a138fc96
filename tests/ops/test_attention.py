import importlib

import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.emit import Builder
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

attn = importlib.import_module("noria.ops.attention")


def attend(causal=False, scale=None, layout="nhtd"):
    """One query at a time, in float64."""

    def apply(q, k, v, mask=None):
        q, k, v = (a.astype(np.float64) for a in (q, k, v))
        if layout == "nthd":
            q, k, v = (a.transpose(0, 2, 1, 3) for a in (q, k, v))
        n, h, t, d = q.shape
        keys = k.shape[2]
        full = None if mask is None else np.broadcast_to(mask, (n, h, t, keys))
        out, log_sum = np.zeros((n, h, t, v.shape[3])), np.full((n, h, t), -np.inf)
        for at in np.ndindex(n, h, t):
            score = k[at[:2]] @ q[at] * (1 / np.sqrt(d) if scale is None else scale)
            sees = np.arange(keys) <= at[2] if causal else np.ones(keys, bool)
            if full is not None and full.dtype == bool:
                sees = sees & full[at]
            elif full is not None:
                score = score + full[at]
                sees = sees & (full[at] > -np.inf)
            if sees.any():
                e = np.exp(score[sees])
                out[at] = e @ v[at[:2]][sees] / e.sum()
                log_sum[at] = np.log(e.sum())
        return (out.transpose(0, 2, 1, 3) if layout == "nthd" else out), log_sum

    return apply


def packed(**how):
    def apply(qkv, mask=None):
        return attend(**how, layout="nthd")(*(qkv[:, :, i] for i in range(3)), mask)

    return apply


TIME = {0: {2: "T"}, 1: {2: "S"}, 2: {2: "S"}}
TRIPLE = [arr(2, 2, 4, 3), arr(2, 2, 5, 3), arr(2, 2, 5, 3)]
PACKED = {0: {0: "N", 1: "T"}}
CASES = [
    Case("attention", TRIPLE, expect=attend(), symbolic=TIME, grad2=True),
    Case("attention", TRIPLE, {"causal": True}, expect=attend(True), symbolic=TIME, id="causal"),
    Case("attention", TRIPLE, {"scale": 2.0}, expect=attend(scale=2.0), id="scale"),
    Case(
        "attention",
        [arr(2, 4, 2, 3), arr(2, 5, 2, 3), arr(2, 5, 2, 7)],
        {"layout": "nthd"},
        expect=attend(layout="nthd"),
        symbolic={0: {1: "T"}, 1: {1: "S"}, 2: {1: "S"}},
        id="nthd, wider values",
    ),
    Case("attention", [*TRIPLE, arr(4, 5)], expect=attend(), id="float mask"),
    Case("attention", [*TRIPLE, arr(2, 1, 1, 5)], {"causal": True}, expect=attend(True), id="both"),
    Case("attention", [*TRIPLE, ints(2, 2, 4, 5, dtype="bool")], expect=attend(), id="bool mask"),
    Case("attention", [*TRIPLE, ints(2, 1, 1, 5, dtype="bool")], expect=attend(), id="key mask"),
    Case("attention", [arr(1, 1, 1, 1), arr(1, 1, 1, 1), arr(1, 1, 1, 1)], expect=attend()),
    # log_sum is -inf there, which has no finite differences
    Case("attention", [arr(1, 2, 3, 4), *[arr(1, 2, 0, 4)] * 2], grad=False, id="no keys"),
    Case("attention", [arr(1, 2, 0, 4), arr(1, 2, 3, 4), arr(1, 2, 3, 4)], id="no queries"),
    Case("attention", [arr(1, 2, 3, 4, dtype="bfloat16")] * 3, expect=attend(), tol=2e-2),
    Case("attention", [arr(1, 2, 3, 4, dtype="float64")] * 3, expect=attend()),
    Case("self_attention", [arr(2, 4, 3, 2, 5)], expect=packed(), symbolic=PACKED, grad2=True),
    Case("self_attention", [arr(2, 4, 3, 2, 5)], {"causal": True}, expect=packed(causal=True)),
    Case("self_attention", [arr(2, 4, 3, 2, 3), np.tri(4, dtype=bool)], expect=packed()),
    Case("self_attention", [arr(2, 4, 3, 2, 3), arr(4, 4)], expect=packed(), id="float mask, one"),
    Case("self_attention", [arr(1, 3, 3, 1, 4, dtype="float16")], expect=packed(), tol=1e-2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def gradient_case(op, inputs, attrs):
    """The case of the gradient op of `op`, with what `op` gives for the inputs."""
    arrays = [a.make((i,)) for i, a in enumerate(inputs)]
    name = {"attention": attn.attention, "self_attention": attn.self_attention}[op]
    out, log_sum = name(*arrays, **attrs)
    return Case(f"{op}_grad", [*arrays, out, log_sum, arr(*out.shape)], attrs)


@pytest.mark.parametrize("causal", [False, True])
def test_gradient_ops_agree_with_their_decomposition(causal):
    how = {"causal": causal}
    check_case(gradient_case("attention", TRIPLE, how))
    apart = [arr(2, 4, 2, 3), arr(2, 5, 2, 3), arr(2, 5, 2, 3)]
    check_case(gradient_case("attention", apart, {**how, "layout": "nthd", "scale": 0.3}))
    check_case(gradient_case("self_attention", [arr(2, 3, 3, 2, 4)], how))


def test_a_query_that_sees_no_key_gives_zeros_and_has_no_gradient():
    q, k, v, g = (arr(1, 1, 3, 4).make((i,)) for i in range(4))
    mask = np.array([[True, False, True], [False, False, False], [True, True, True]])
    for m in (mask, np.where(mask, 0, -np.inf).astype(np.float32)):
        with np.errstate(all="ignore"):
            out, log_sum = attn.attention(q, k, v, m)
            grads = attn.attention_grad(q, k, v, out, log_sum, g, m)
        assert (out[0, 0, 1] == 0).all() and log_sum[0, 0, 1] == -np.inf
        assert (grads[0][0, 0, 1] == 0).all()
        assert all(np.isfinite(a).all() for a in (out, *grads))


def test_nan_reaches_only_the_queries_that_see_it():
    q, k, v = (arr(1, 1, 3, 4).make((i,)) for i in range(3))
    q[0, 0, 1, 2] = np.nan
    out, _ = attn.attention(q, k, v)
    assert np.isnan(out[0, 0, 1]).all() and np.isfinite(out[0, 0, [0, 2]]).all()


def test_the_composed_function_gives_the_output_alone():
    q, k, v = (arr(1, 2, 3, 4).make((i,)) for i in range(3))
    out = attn.scaled_dot_product_attention(q, k, v, causal=True)
    np.testing.assert_array_equal(out, attn.attention(q, k, v, causal=True)[0])


@pytest.mark.parametrize(
    ("shapes", "attrs", "error"),
    [
        (([1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 3, 4]), {}, ShapeError),
        (([1, 2, 3, 4], [1, 3, 3, 4], [1, 2, 3, 4]), {}, ShapeError),
        (([2, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]), {}, ShapeError),
        (([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 5, 4]), {}, ShapeError),
        (([2, 3, 4], [2, 3, 4], [2, 3, 4]), {}, ShapeError),
        (([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [2, 5]), {}, ShapeError),
        (([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [1, 1, 1, 3, 3]), {}, ShapeError),
        (([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]), {"layout": "tnhd"}, ArgumentError),
    ],
)
def test_what_does_not_fit_is_told(shapes, attrs, error):
    with Builder(Program("p")) as b, pytest.raises(error):
        attn.attention(*(b.input(f"x{i}", s) for i, s in enumerate(shapes)), **attrs)


def test_only_floats_are_attended_and_the_packed_axis_is_three():
    with Builder(Program("p")) as b:
        whole = b.input("x", (1, 2, 3, 4), "int64")
        with pytest.raises(DTypeError):
            attn.attention(whole, whole, whole)
        with pytest.raises(ShapeError):
            attn.self_attention(b.input("y", (1, 2, 4, 1, 4)))


def test_a_module_of_ops_defines_what_it_says():
    assert isinstance(attn.attention, OpDef)
