"""Strassen's products against float64, and what he leaves to direct sums."""

import threading

import numpy as np
import pytest

from noria.core.flags import flags
from noria.ir.opdef import vocabulary as o
from noria.ir.save import save
from noria.kernels.numba.strassen import MOST_ROWS, pack, worth
from noria.kernels.numba.strassen_source import APART, DEPTH
from noria.kernels.numba.tile_sizes import PANEL, WIDTH
from noria.kernels.registry import Array
from noria.runtime.predictor import Predictor
from noria.testing.case import arr
from noria.testing.compare import assert_same
from noria.testing.kernel import SITUATIONS, Situation, check_kernel
from tests.runtime.programs import N, build, floats, value

NAME = "numba:strassen"
FIXED = [s for s in SITUATIONS if s.fixed]
FIXED += [Situation(f"fixed inputs, {n} threads", n, fixed=True) for n in (1, 2)]
INS, OUTS = 4 * WIDTH, 4 * PANEL


@pytest.fixture(autouse=True)
def everywhere():
    """However small the sizes are."""
    with flags.set(strassen="1"):
        yield


def check(op, *inputs, **attrs):
    options = {"tol": 1e-4, "special": True, "situations": FIXED}
    check_kernel(op, [*inputs], attrs, kernel=NAME, **options)


@pytest.mark.parametrize("rows", [4, 5, 13, 24, 31, 64, 127, 128, MOST_ROWS + 1, 2 * MOST_ROWS + 7])
def test_any_number_of_rows(rows):
    check("linear", arr(rows, INS), arr(OUTS, INS), arr(OUTS))


@pytest.mark.parametrize("pairs", [1, 2, 3, 5])
@pytest.mark.parametrize("ins", [2 * WIDTH, 2 * DEPTH, 2 * DEPTH + 2 * WIDTH])
def test_any_number_of_panels_and_inputs(pairs, ins):
    check("linear", arr(13, ins), arr(2 * pairs * PANEL, ins))


@pytest.mark.parametrize("activation", [None, "relu", "gelu", "gelu_tanh", "tanh", "sigmoid"])
def test_what_follows_the_product(activation):
    x, weight, bias, residual = arr(2, 7, INS), arr(OUTS, INS), arr(OUTS), arr(2, 7, OUTS)
    check("fused_linear", x, weight, bias, activation=activation)
    check("fused_linear", x, weight, bias, residual, activation=activation)
    check("fused_linear", x, weight, None, residual, activation=activation)


# ---- what is computed, and how -------------------------------------------------------------------


def made(weight, **options):
    """A Predictor of x @ weight.T."""
    x = (N, weight.shape[1])
    program = build(lambda b: {"y": o.linear(b.input("x", x), value(b, "w"))}, w=weight)
    return Predictor(program, {"w": weight}, **options)


def product(x, weight, way="1", **options):
    with flags.set(strassen=way):
        return made(weight, **options)(x=x)


def errors(x, weight, way):
    """Of each row: the root of the mean square, and the largest."""
    away = product(x, weight, way).astype(np.float64) - x.astype(np.float64) @ weight.T.astype(
        float
    )
    return np.sqrt((away**2).mean(1)), np.abs(away).max(1)


def normalized(rows, ins):
    """What a layer norm gives, with a few inputs far larger than the others."""
    x = floats(rows, ins) * np.where(np.arange(ins) % 29 == 3, 12, 1)
    return ((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)).astype(np.float32)


def is_direct(x, weight):
    """Whether no sum of rows is in the left half of the result: B11 and B21 are held as they are.
    In the right half B12 comes from a sum and a difference, rounded."""
    got, want = (product(x, weight, way) for way in "10")
    assert_same(got, want, "direct sums", tol=1e-5)
    return np.array_equal(got[:, : OUTS // 2], want[:, : OUTS // 2], equal_nan=True)


@pytest.mark.parametrize("rows", [floats, normalized])
def test_the_error_is_near_that_of_direct_sums(rows, fast_kernels):
    x, weight = rows(64, 768), floats(OUTS, 768, seed=1)
    usual, largest = errors(x, weight, "1")
    direct, most = errors(x, weight, "0")
    assert not is_direct(x, weight)
    assert usual.mean() < 3 * direct.mean() and largest.max() < 4 * most.max()


def test_a_shorter_row_loses_no_more_than_it_may(fast_kernels):
    x, weight = floats(64, INS), floats(OUTS, INS, seed=1)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[32:] *= APART * 0.99
    usual, direct = errors(x, weight, "1")[0][:32], errors(x, weight, "0")[0][:32]
    assert not is_direct(x, weight)
    assert usual.mean() < 3 * APART * direct.mean()


@pytest.mark.parametrize("number", [0, np.nan, np.inf, -np.inf, 1e-40, 1e-30, 1e17, 1e30])
@pytest.mark.parametrize("row", [0, 31, 63])
def test_a_row_unlike_the_others_is_not_mixed(number, row, fast_kernels):
    x, weight = floats(64, INS), floats(OUTS, INS, seed=1)
    assert not is_direct(x, weight)
    x[row] = number
    with np.errstate(all="ignore"):
        assert is_direct(x, weight)
    if number == 0:
        assert not product(x, weight)[row].any()


def test_rows_that_are_not_mixed_among_many_that_are(fast_kernels):
    """The second block of rows alone is direct; no block disturbs another."""
    x, weight = floats(3 * MOST_ROWS, INS), floats(OUTS, INS, seed=1)
    x[MOST_ROWS + 5] = 0
    got, want = (product(x, weight, way, threads=2) for way in "10")
    assert_same(got, want, "some direct", tol=1e-5)
    same = (got == want).reshape(3, MOST_ROWS, OUTS)[:, :, : OUTS // 2].all((1, 2))
    np.testing.assert_array_equal(same, [False, True, False])


@pytest.mark.parametrize("number", [0, np.nan, np.inf, 1e-40, 1e-30, 1e17, 1e30])
def test_an_output_unlike_the_others_is_not_mixed(number, fast_kernels):
    """Nor are those in its panels and in the panels beside them; all are direct to the last bit."""
    x, weight = floats(64, INS), floats(OUTS, INS, seed=1)
    weight[OUTS // 2 + 3] = number
    with np.errstate(all="ignore"):
        same = product(x, weight) == product(x, weight, "0")
        nan = np.isnan(product(x, weight))
    halves = (same | nan).reshape(64, 2, 2, PANEL).all((0, 1, 3))
    np.testing.assert_array_equal(halves, [True, False])
    assert nan.any() == (not np.isfinite(number))


def test_restored_weights_keep_their_signs_and_zeros(fast_kernels):
    """An infinite input times a weight that is lost beside its partner is still infinite."""
    x, weight = floats(64, INS), floats(OUTS, INS, seed=1)
    weight[OUTS // 2 :, 0] = np.resize([1e-12, -1e-12, 0], OUTS // 2)
    x[7, 0] = np.inf
    with np.errstate(all="ignore"):
        got, want = product(x, weight)[7], product(x, weight, "0")[7]
    np.testing.assert_array_equal(got, want)
    assert np.isnan(got).any() and np.isinf(got[OUTS // 2 :]).any()


def test_special_numbers_in_weights():
    weight = np.random.default_rng(0).standard_normal((OUTS, INS), np.float32)
    weight[3, 5], weight[OUTS - 1, 2] = np.nan, np.inf
    check("linear", arr(13, INS), weight, arr(OUTS))


# ---- around it -----------------------------------------------------------------------------------


def test_threads_share_a_predictor(fast_kernels, monkeypatch):
    monkeypatch.setenv("NORIA_STRASSEN", "1")  # `flags.set` is for this thread
    predictor = made(floats(OUTS, INS, seed=1))
    feeds = [floats(40 + 9 * i, INS, seed=i) for i in range(4)]
    feeds[2][5] = 0
    wanted = [predictor(x=x) for x in feeds]
    wrong: list[int] = []

    def work(i):
        for k in range(20):
            j = (i + k) % 4
            if not np.array_equal(predictor(x=feeds[j]), wanted[j]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join(120)
    assert not wrong and not any(w.is_alive() for w in workers)


def test_a_saved_model(tmp_path, fast_kernels):
    weight, x = floats(OUTS, INS, seed=1), floats(64, INS)
    program = build(lambda b: {"y": o.linear(b.input("x", (N, INS)), value(b, "w"))}, w=weight)
    save(program, tmp_path / "folder", {"w": weight})
    loaded = Predictor.load(tmp_path / "folder")
    np.testing.assert_array_equal(loaded(x=x), product(x, weight))
    few = loaded(x=x[:2])  # another kernel, which wants the plain weight
    np.testing.assert_allclose(few, x[:2] @ weight.T, rtol=1e-4, atol=1e-4)


def test_a_weight_takes_seven_quarters_of_its_memory():
    weight = Array((768, 768), "float32", (768, 1))
    assert weight.nbytes * 7 // 4 < pack(weight, 2).nbytes < weight.nbytes * 1.76


def test_where_it_pays():
    assert worth(128, 768, 768, 2 if PANEL == 64 else 1)
    assert worth(128, 768, 3072, 1) and worth(1000, 3072, 3072, 2)
    assert not worth(64, 768, 768, 1) and not worth(128, 256, 768, 1)
    assert not worth(128, 768, 768, 16) and not worth(128, 768, 7 * 2 * PANEL, 6)


def test_what_it_leaves_to_others():
    weight = arr(OUTS, INS)
    for inputs, situations, why in (
        ([arr(3, INS), weight], FIXED, "few rows"),
        ([arr(9, INS), weight], SITUATIONS, "changes"),
        ([arr(9, INS), arr(OUTS + PANEL, INS)], FIXED, "no quarters"),
        ([arr(9, INS + WIDTH), arr(OUTS, INS + WIDTH)], FIXED, "no quarters"),
    ):
        with pytest.raises(AssertionError, match=why):
            check_kernel("linear", inputs, kernel=NAME, situations=situations)
    for way, why in (("0", "NORIA_STRASSEN is 0"), ("auto", "expected to be faster")):
        with flags.set(strassen=way), pytest.raises(AssertionError, match=why):
            check_kernel("linear", [arr(9, INS), weight], kernel=NAME, situations=FIXED)
