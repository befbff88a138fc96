"""Updates that tune themselves, in Caffe2."""

from typing import Any

import numpy as np

RNG = np.random.default_rng(5)
W, M, G = RNG.uniform(0.5, 1, size=(3, 4, 2)).astype(np.float32)
LR = np.array([-0.1], np.float32)


def test_storm_corrects_its_mean_by_the_old_gradient(run: Any) -> None:
    total = np.array([2.0], np.float32)
    w, m, s = run("Storm", W, M, total, G, LR, momentum=5.0, beta=0.5, outputs=3)
    rate = -0.1 * (0.5 + 2 + (G**2).sum()) ** (-1 / 3)
    mean = G + (1 - 5 * rate**2) * (M - G)
    assert np.isclose(s[0], 2 + (G**2).sum()) and np.allclose(m, mean, atol=1e-5)
    assert np.allclose(w, W + rate * mean, atol=1e-5)
    w2, m2, _ = run(
        "SparseStorm", W, M, total, G, np.arange(4), LR, momentum=5.0, beta=0.5, outputs=3
    )
    assert np.allclose(w2, w, atol=1e-6) and np.allclose(m2, m, atol=1e-6)


def test_whole_columns_are_set_to_zero(run: Any) -> None:
    nz = np.zeros((4, 2, 2), np.float32)
    w, state = run("GFtrl", W, nz, G, alpha=0.5, lambda1=0.3, lambda2=0.1, outputs=2)
    z = G - np.abs(G) / 0.5 * W
    length = np.sqrt((z**2).sum(0))
    want = z * (0.3 * 2 / length - 1) / ((1 + np.abs(G)) / 0.5 + 0.1)
    assert np.allclose(w, np.where(length > 0.6, want, 0), atol=1e-5)
    assert np.allclose(state[..., 1], z, atol=1e-5)


def test_yellow_fin_tunes_rate_and_momentum(run: Any) -> None:
    window, memory = np.zeros(3, np.float32), np.zeros(5, np.float32)
    rate, mu = np.array([0.1], np.float32), np.array([0.5], np.float32)
    g_avg = g2_avg = np.zeros_like(W)
    w, m, beta = W.astype(float), M.astype(float), 0.9
    state = [W, M, rate, mu, window, g_avg, g2_avg, memory]
    low = high = gn = gn2 = dist = 0.0
    mean, curves = np.zeros(W.shape), []
    for step, g in enumerate((G, G * 2, G - 0.5), start=1):
        old_rate, old_mu = float(state[2][0]), float(state[3][0])
        state = list(
            run("YellowFin", *state, g, np.array([step]), beta=beta, curv_win_width=3, outputs=8)
        )
        m = old_mu * m + old_rate * g
        w = w - m
        assert np.allclose(state[0], w, atol=1e-4) and np.allclose(state[1], m, atol=1e-4)
        fix, square = 1 / (1 - beta**step), float((g**2).sum())
        curves.append(np.log(square))
        mean = beta * mean + (1 - beta) * g
        gn2, gn = beta * gn2 + 0.1 * square, beta * gn + 0.1 * np.sqrt(square)
        low, high = beta * low + 0.1 * min(curves), beta * high + 0.1 * max(curves)
        dist = beta * dist + 0.1 * gn / gn2
        assert np.allclose(state[7], [gn, gn2, low, high, dist], rtol=1e-3, atol=1e-4)
        if step == 1:
            assert (state[2][0], state[3][0]) == (rate[0], mu[0])
            continue
        least, most = np.exp(low * fix), np.exp(high * fix)
        variance = max(gn2 * fix - ((mean * fix) ** 2).sum(), 1e-6)
        p = (dist * fix * least) ** 2 / (2 * variance)
        cube = (-np.sqrt(p**2 + 4 / 27 * p**3) - p) / 2
        root = np.cbrt(cube) - p / 3 / np.cbrt(cube) + 1
        ratio = np.sqrt(most / least)
        target = max(root**2, ((ratio - 1) / (ratio + 1)) ** 2)
        assert np.isclose(state[3][0], beta * old_mu + 0.1 * target, atol=1e-4)
        assert np.isclose(
            state[2][0], beta * old_rate + 0.1 * (1 - np.sqrt(target)) ** 2 / least, atol=1e-4
        )
