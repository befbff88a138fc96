import numpy as np
import pytest

from bench import data, sizes


def test_the_same_numbers_every_time():
    for make in (data.click_batches, data.ragged_batches):
        for one, other in zip(make(), make(), strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(data.images(1, 3, 8), data.images(1, 3, 8))


def test_clicks_repeat_as_often_as_the_workload_says():
    clicks = data.click_batches()
    assert len(clicks) == sizes.TURNS
    for c in clicks:
        assert c.ids.shape == (4096, 26) and c.dense.shape == (4096, 13)
        assert c.ids.min() >= 0 and c.ids.max() < sizes.DEEPFM.rows
        assert abs(len(np.unique(c.ids)) - 53_000) < 500
        assert set(np.unique(c.label)) == {0, 1}


def test_the_most_frequent_rank_of_each_field_has_a_row_of_its_own():
    rows = data.hashed(np.zeros(26, np.uint64), np.arange(26, dtype=np.uint64))
    assert len(np.unique(rows)) == 26


def test_ragged_lengths_are_those_of_the_workload():
    batches = data.ragged_batches()
    lengths = np.concatenate([b.lengths for b in batches])
    assert len(lengths) == 8 * 64
    assert lengths.min() >= 5 and lengths.max() <= 200
    assert lengths.mean() == pytest.approx(62.3, abs=0.1)
    assert all(len(b.ids) == b.lengths.sum() for b in batches)


@pytest.mark.parametrize("multiple", [1, 40])
def test_padding_keeps_every_text(multiple):
    text = data.ragged_batches(5)[0]
    padded = text.padded(multiple)
    assert padded.shape[1] % multiple == 0
    assert 0 <= padded.shape[1] - text.lengths.max() < multiple
    kept = [row[:n] for row, n in zip(padded, text.lengths, strict=True)]
    np.testing.assert_array_equal(np.concatenate(kept), text.ids)
    assert not any(row[n:].any() for row, n in zip(padded, text.lengths, strict=True))


def test_speech_labels_are_never_the_blank():
    s = data.speech(16)
    assert s.features.shape == (16, 160, 96) and s.features.dtype == np.float32
    assert s.labels.min() >= 1 and s.labels.max() <= 96
    assert s.lengths.min() >= 5 and s.lengths.max() <= 20
    assert s.padded().shape == (16, s.lengths.max())


def test_batches_have_the_workloads_sizes():
    for name in ("mlp_train", "lenet_train"):
        x, y = data.classified(name)
        assert len(x) == len(y) == sizes.BATCH[name]
    lm = data.tokens(20, 35, 10_000)
    assert lm.ids.shape == lm.targets.shape == (20, 35)
    assert not np.array_equal(lm.ids, lm.targets)
