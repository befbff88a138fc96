import numpy as np
import pytest
from scipy import special, stats

from noria.ops import philox

KEY = np.array([7, 3])

# From the generator's own suite, Random123 (kat_vectors): counter, key, what comes out.
KNOWN = [
    ("00000000 " * 4, "00000000 " * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff " * 4, "ffffffff " * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text):
    return [int(w, 16) for w in text.split()]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
@pytest.mark.parametrize("module", ["numpy", "jax.numpy"])
def test_the_known_answers_come_out(module, counter, key, expected):
    xp = pytest.importorskip(module)
    lanes = [xp.full(2, xp.uint32(w)) for w in words(counter)]
    got = philox.philox(xp, lanes, [xp.uint32(w) for w in words(key)])
    assert [int(a[1]) for a in got] == words(expected)


def test_products_are_exact_in_both_languages():
    jnp = pytest.importorskip("jax.numpy")
    a = np.array([0, 1, 0xFFFF, 0x10000, 0x80000001, 0xFFFFFFFF], np.uint32)
    for b in (1, 3, 0xFFFF, 0x10001, 0xD2511F53, 0xFFFFFFFF):
        exact = [int(x) * b for x in a]
        for xp in (np, jnp):
            high, low = philox.multiply(xp, xp.asarray(a), b)
            assert [int(h) << 32 | int(w) for h, w in zip(high, low, strict=True)] == exact


@pytest.mark.parametrize("key", [[7, 3], [-5, 2**31 - 1], [2**31 - 1, 0]])
@pytest.mark.parametrize("stream", [0, 3_000_000_000, 2**33 + 5])
def test_jax_draws_the_same_words(key, stream):
    jnp = pytest.importorskip("jax.numpy")
    want = philox.words(np, np.array(key), stream, 37)
    assert np.array_equal(philox.words(jnp, jnp.array(key), stream, 37), want)
    wrapped = np.array(key) + 2**32  # only the lower 32 bits count
    assert np.array_equal(philox.words(np, wrapped, stream, 37), want)


def test_a_word_depends_on_its_place_alone():
    long = philox.words(np, KEY, 5, 1001)
    assert len(set(long.tolist())) > 999
    for count in (0, 1, 2, 3, 4, 5, 999):
        assert np.array_equal(philox.words(np, KEY, 5, count), long[:count])
        assert np.array_equal(
            philox.gauss(np, KEY, 5, count), philox.gauss(np, KEY, 5, 1001)[:count]
        )


def test_keys_streams_and_steps_give_other_words():
    draws = [
        philox.words(np, np.array(k), s, 8) for k in ([0, 0], [0, 1], [1, 0]) for s in (0, 1, 2**32)
    ]
    assert len({d.tobytes() for d in draws}) == 9


def test_folded_keys_differ_from_each_other_and_agree_with_jax():
    jnp = pytest.importorskip("jax.numpy")
    folded = [philox.fold(np, KEY, np.int64(i)) for i in range(100)]
    assert len({tuple(k) for k in folded}) == 100
    assert all(k.dtype == np.int64 and (k >= 0).all() and (k < 2**31).all() for k in folded)
    assert np.array_equal(philox.fold(jnp, jnp.array(KEY), jnp.array(42)), folded[42])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_units_are_uniform_and_below_one(dtype):
    u = philox.unit(np, KEY, 0, 50_000, dtype)
    assert u.dtype == dtype and 0 <= u.min() < 1e-3 and 1 - 1e-3 < u.max() < 1
    assert stats.kstest(u.astype(np.float64), "uniform").pvalue > 0.01


def test_the_largest_word_gives_a_unit_below_one(monkeypatch):
    monkeypatch.setattr(
        philox, "words", lambda xp, key, stream, n: np.full(n, 2**32 - 1, np.uint32)
    )
    assert philox.unit(np, KEY, 0, 1)[0] == np.float32(1 - 2**-24)
    assert philox.unit(np, KEY, 0, 1, "float64")[0] == 1 - 2**-53
    assert np.isfinite(philox.gauss(np, KEY, 0, 2)).all()


def test_the_smallest_word_gives_the_farthest_gaussian(monkeypatch):
    monkeypatch.setattr(philox, "words", lambda xp, key, stream, n: np.zeros(n, np.uint32))
    assert 6.7 < philox.gauss(np, KEY, 0, 2)[0] < 6.8


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gaussians_are_gaussian_and_independent(dtype):
    z = philox.gauss(np, KEY, 1, 50_000, dtype).astype(np.float64)
    assert stats.kstest(z, "norm").pvalue > 0.01
    assert abs(np.corrcoef(z[0::2], z[1::2])[0, 1]) < 0.02
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.02


def test_erfinv_is_the_inverse_of_erf():
    x = np.linspace(-0.996, 0.996, 1001)
    assert np.allclose(philox.erfinv(np, x), special.erfinv(x), rtol=1e-6, atol=1e-6)
