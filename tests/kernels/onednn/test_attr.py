import numpy as np
import pytest

from noria.core.errors import ArgumentError, EngineError
from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.kernels.onednn import lib
from noria.kernels.onednn.attr import PLAIN, Attr, Binary, Eltwise, Sum
from noria.kernels.onednn.build_dense import matmul
from noria.kernels.onednn.enums import ARG
from noria.kernels.onednn.memory import MemDesc
from noria.runtime.executor import Executor

rng = np.random.default_rng(0)
A = rng.standard_normal((9, 17)).astype("f")
B = rng.standard_normal((17, 21)).astype("f")


def product(arrays, attr, dst=None, **extra):
    out = np.zeros((9, 21), "f") if dst is None else dst.copy()
    p = matmul(arrays.desc(A), arrays.desc(B), arrays.desc(out), None, attr)
    given = {ARG.SRC: A, ARG.WEIGHTS: B, ARG.DST: out}
    arrays.execute(p, given | {ARG.post_op(int(k[1:])): v for k, v in extra.items()})
    return out


def gelu(x):
    erf = np.vectorize(__import__("math").erf)
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


@pytest.mark.parametrize(
    ("op", "function"),
    [
        (Eltwise("relu"), lambda x: np.maximum(x, 0)),
        (Eltwise("relu", 0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
        (Eltwise("gelu_erf"), gelu),
        (Eltwise("tanh"), np.tanh),
        (Eltwise("logistic"), lambda x: 1 / (1 + np.exp(-x))),
        (Eltwise("linear", 2.0, 3.0), lambda x: 2 * x + 3),
        (Eltwise("clip_v2", -1.0, 0.5), lambda x: np.clip(x, -1, 0.5)),
    ],
)
def test_an_eltwise_post_op_is_applied_to_the_result(arrays, op, function):
    got = product(arrays, Attr(post_ops=(op,)))
    np.testing.assert_allclose(got, function(A.astype("d") @ B), rtol=1e-4, atol=1e-5)


def test_a_sum_adds_what_dst_held_before(arrays):
    before = rng.standard_normal((9, 21)).astype("f")
    got = product(arrays, Attr(post_ops=(Sum(0.5),)), before)
    np.testing.assert_allclose(got, A @ B + 0.5 * before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 21), (1, 21), (9, 1), (1, 1)])
def test_a_binary_post_op_broadcasts(arrays, shape):
    other = rng.standard_normal(shape).astype("f")
    got = product(arrays, Attr(post_ops=(Binary("add", arrays.desc(other)),)), p0=other)
    np.testing.assert_allclose(got, A @ B + other, rtol=1e-5, atol=1e-5)


def test_post_ops_run_in_their_order(arrays):
    before = rng.standard_normal((9, 21)).astype("f")
    scale = rng.standard_normal((1, 21)).astype("f")
    ops = (Sum(2.0), Eltwise("relu"), Binary("mul", arrays.desc(scale)))
    got = product(arrays, Attr(post_ops=ops), before, p2=scale)
    want = np.maximum(A @ B + 2 * before, 0) * scale
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_bf16_arithmetic_is_close_but_only_where_allowed(arrays):
    exact, rounded = product(arrays, PLAIN), product(arrays, Attr(fpmath="bf16"))
    np.testing.assert_allclose(exact, A.astype("d") @ B, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(rounded, exact, rtol=0.1, atol=0.1)


def test_attributes_are_keys():
    assert Attr(post_ops=(Eltwise("relu"),)) == Attr(post_ops=(Eltwise("relu"),))
    assert hash(Attr("bf16")) == hash(Attr("bf16"))
    assert Attr("bf16") != PLAIN
    assert Attr(post_ops=(Eltwise("add", 1.0),)) != Attr(post_ops=(Sum(1.0),))


def test_unknown_names_are_refused_with_a_hint(arrays):
    d = MemDesc((9, 21), "float32")
    for attr in (
        Attr(post_ops=(Eltwise("reluu"),)),
        Attr(post_ops=(Binary("ad", d),)),
        Attr(fpmath="strikt"),
    ):
        with pytest.raises(ArgumentError, match="did you mean"):
            product(arrays, attr)


def test_what_the_library_cannot_fuse_is_an_error_not_a_crash(arrays):
    too_many = Attr(post_ops=(Eltwise("relu"),) * 100)
    with pytest.raises(EngineError, match="post-op"):
        product(arrays, too_many)


def test_extra_arguments_are_those_of_the_binary_post_ops():
    d = MemDesc((1, 4), "float32")
    attr = Attr(post_ops=(Sum(), Binary("add", d), Eltwise("relu"), Binary("mul", d)))
    assert attr.extra_args == (ARG.post_op(1), ARG.post_op(3))


def test_the_native_attributes_are_destroyed_on_leaving(monkeypatch):
    made, destroyed = [], []

    class Recorded(lib.Handle):
        def __init__(self, value, destroy):
            made.append(value)
            super().__init__(value, lambda v: (destroyed.append(v), destroy(v)))

    monkeypatch.setattr("noria.kernels.onednn.attr.Handle", Recorded)
    with Attr(post_ops=(Eltwise("relu"),)).native(lib.library()) as address:
        assert address == made[0]
    assert sorted(destroyed) == sorted(made) and len(made) == 2


@pytest.mark.parametrize("mode", ["tf32", "bf16", "any"])
def test_a_flag_allows_lower_precision_inside_float32_products(mode):
    def product_of(x, w):
        program = trace(lambda x, w: {"y": o.linear(x, w)}, x=spec("N", 64), w=spec(48, 64))
        return Executor(program).run({"x": x, "w": w})["y"]

    x, w = (rng.standard_normal(s).astype("f") for s in ((40, 64), (48, 64)))
    exact = product_of(x, w)
    with flags.set(fpmath=mode):
        np.testing.assert_allclose(product_of(x, w), exact, rtol=0.1, atol=0.2)
    assert Attr(mode) != PLAIN
