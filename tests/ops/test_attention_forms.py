"""Attention with its extras against formulas in NumPy and PyTorch's own."""

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops import attention_forms as forms
from noria.ops.attention import scaled_dot_product_attention


def make(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


Q, K, V = make(2, 4, 3, 5), make(2, 4, 6, 5, seed=1), make(2, 4, 6, 2, seed=2)


def in_torch(q, k, v, mask=None, **how):
    torch = pytest.importorskip("torch")
    given = [torch.from_numpy(np.ascontiguousarray(x)) for x in (q, k, v)]
    how["attn_mask"] = None if mask is None else torch.from_numpy(mask)
    return torch.nn.functional.scaled_dot_product_attention(*given, **how).numpy()


def test_grouped_heads_are_those_of_torch():
    got = scaled_dot_product_attention(Q, K[:, :2], V[:, :2], enable_gqa=True)
    np.testing.assert_allclose(got, in_torch(Q, K[:, :2], V[:, :2], enable_gqa=True), atol=1e-12)
    with pytest.raises(ShapeError, match="multiple"):
        scaled_dot_product_attention(Q, K[:, :3], V[:, :3], enable_gqa=True)


@pytest.mark.parametrize("causal", [False, True])
def test_a_window_is_a_mask_by_position(causal):
    place, key = np.arange(3)[:, None], np.arange(6)
    mask = (key >= place - 1) & (key <= place + 2) & (not causal or key <= place)
    got = scaled_dot_product_attention(Q, K, V, causal=causal, window=(1, 2))
    np.testing.assert_allclose(got, in_torch(Q, K, V, mask), atol=1e-12)


def test_capped_scores():
    scores = 2 * np.tanh(Q @ K.swapaxes(2, 3) / np.sqrt(5) / 2)
    scores[:, :, np.arange(6) > np.arange(3)[:, None]] = -np.inf
    e = np.exp(scores)
    want = e / e.sum(-1, keepdims=True) @ V
    got = scaled_dot_product_attention(Q, K, V, causal=True, softcap=2.0)
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_a_query_that_sees_nothing_gives_zeros():
    mask = np.ones((3, 6), bool)
    mask[1] = False
    out, scores = forms.spelled_attention(Q, K, V, mask)
    assert (out[:, :, 1] == 0).all() and (scores.shares[:, :, 1] == 0).all()
    np.testing.assert_allclose(scores.shares[:, :, 0].sum(-1), 1)


def test_masks_are_added_or_combined():
    allowed, more = np.array([True, False]), np.array([1.0, 2.0])
    assert forms.both_masks(None, allowed) is allowed
    assert forms.both_masks(allowed, np.array([True, True])).tolist() == [True, False]
    assert forms.both_masks(more, allowed).tolist() == [1.0, -np.inf]
    assert forms.both_masks(more, more).tolist() == [2.0, 4.0]


def test_offsets_of_each_row_shift_what_is_seen():
    mask = forms.position_mask(2, 4, offset=np.array([0, 2]), causal=True)
    assert mask[0, 0].tolist() == [[True, False, False, False], [True, True, False, False]]
    assert mask[1, 0].tolist() == [[True, True, True, False], [True, True, True, True]]


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotation_multiplies_complex_numbers(interleaved):
    x, angle = make(2, 3, 4, 6), make(7, 2, seed=1)
    positions = np.array([[0, 1, 2], [4, 5, 6]])
    got = forms.rotary_embedding(
        x, np.cos(angle), np.sin(angle), positions, interleaved=interleaved, rotary_dim=4
    )
    parts = (np.s_[0:4:2], np.s_[1:4:2]) if interleaved else (np.s_[:2], np.s_[2:4])
    z = (x[..., parts[0]] + 1j * x[..., parts[1]]) * np.exp(1j * angle[positions])[:, :, None]
    np.testing.assert_allclose(got[..., parts[0]], z.real, atol=1e-12)
    np.testing.assert_allclose(got[..., parts[1]], z.imag, atol=1e-12)
    np.testing.assert_array_equal(got[..., 4:], x[..., 4:])


@pytest.mark.parametrize("rule", forms.RULES)
def test_linear_attention_is_its_recurrence(rule):
    q, k, v = make(2, 4, 5, 3), make(2, 2, 5, 3, seed=1), make(2, 2, 5, 2, seed=2)
    state, decay, beta = make(2, 2, 3, 2, seed=3), -abs(make(2, 2, 5, 3)), abs(make(2, 1, 5, 1))
    out, last = forms.linear_attention(q, k, v, state, decay, beta, rule=rule, scale=0.5)
    for n, h in np.ndindex(2, 4):
        g, s = h // 2, state[n, h // 2]
        for t in range(5):
            s = s * (np.exp(decay[n, g, t])[:, None] if "gated" in rule else 1)
            new = v[n, g, t]
            if "delta" in rule:
                new = beta[n, 0, t] * (new - s.T @ k[n, g, t])
            s = s + np.outer(k[n, g, t], new)
            np.testing.assert_allclose(out[n, h, t], 0.5 * q[n, h, t] @ s, atol=1e-12)
        np.testing.assert_allclose(last[n, g], s, atol=1e-12)


def test_a_rule_without_what_it_needs_is_told():
    with pytest.raises(ArgumentError, match="beta"):
        forms.linear_attention(Q, Q, Q, rule="delta")
    with pytest.raises(ArgumentError, match="no such rule"):
        forms.linear_attention(Q, Q, Q, rule="none")


def test_heads_are_split_and_merged():
    x = make(2, 3, 8)
    np.testing.assert_array_equal(forms.merge_heads(forms.split_heads(x, 4)), x)
    with pytest.raises(ShapeError, match="heads"):
        forms.split_heads(x, 3)
