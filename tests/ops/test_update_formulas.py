"""Steps that differ from those of `update.py` in where epsilon and the corrections stand."""

import numpy as np

from noria.ops import update_formulas as formulas

RNG = np.random.default_rng(0)
P, G, M = (RNG.normal(size=(3, 2)).astype(np.float32) for _ in range(3))
V = np.square(RNG.normal(size=(3, 2))).astype(np.float32) + 1
LR = np.float32(0.1)


def test_adam_with_epsilon_outside_the_corrections() -> None:
    b1, b2 = 0.9**3, 0.999**3
    got = formulas.adam_outside(
        P, G, M, V, lr=LR, beta1_power=np.float32(b1), beta2_power=np.float32(b2), epsilon=0.01
    )
    m, v = 0.9 * M + 0.1 * G, 0.999 * V + 0.001 * G * G
    wanted = P - 0.1 * np.sqrt(1 - b2) / (1 - b1) * m / (np.sqrt(v) + 0.01)
    for have, want in zip(got, (wanted, m, v), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-6)


def test_rmsprop_with_epsilon_inside_the_root() -> None:
    got = formulas.rmsprop_inside(
        P, G, V, M * 0.1, M, lr=LR, rho=0.9, epsilon=0.01, momentum=0.5, centered=True
    )
    square, mean = 0.9 * V + 0.1 * G * G, 0.09 * M + 0.1 * G
    velocity = 0.5 * M + 0.1 * G / np.sqrt(square - mean * mean + 0.01)
    for have, want in zip(got, (P - velocity, square, mean, velocity), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)


def test_a_window_of_sums_starts_anew_when_it_is_full() -> None:
    zero, state = np.zeros(2, np.float32), [np.int64(0)] * 3
    sums = [zero, zero, zero]
    for step in range(1, 6):
        got = formulas.average_accumulates(
            np.full(2, step, np.float32), *sums, *state, rate=1.0, low=2, high=2
        )
        sums, state = list(got[:3]), list(got[3:])
    assert [int(n) for n in state] == [1, 2, 5]
    np.testing.assert_array_equal(sums[0], [5, 5])
    np.testing.assert_array_equal(sums[2], [7, 7])


def test_clipping_leaves_short_gradients_alone() -> None:
    np.testing.assert_allclose(formulas.clip_by_norm(G, 100.0), G, rtol=1e-6)
    assert abs(np.linalg.norm(formulas.clip_by_norm(G, 0.5)) - 0.5) < 1e-5
