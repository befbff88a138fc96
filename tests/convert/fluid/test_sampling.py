import numpy as np
import pytest

from noria.core.errors import ArgumentError

RNG = np.random.default_rng(0)
X, W = RNG.standard_normal((2, 3)).astype(np.float32), RNG.standard_normal((5, 3)).astype("f4")
LABEL = np.array([[1], [4]])


def costs(ids, likely, count, true=1):
    score = 1 / (1 + np.exp(-np.einsum("nd,njd->nj", X, W[ids])))
    noise = count * likely
    right = score / (score + noise)
    return -np.log(right[:, :true]).sum(1) - np.log(1 - right[:, true:]).sum(1)


def test_noise_that_is_told(run_op):
    attrs = {"num_total_classes": 5, "num_neg_samples": 2, "custom_neg_classes": [0, 3]}
    slots = ("Cost", "SampleLabels")
    got = run_op("nce", {"Input": X, "Weight": W, "Label": LABEL}, attrs, slots)
    assert got["SampleLabels"].tolist() == [[1, 0, 3], [4, 0, 3]]
    assert np.allclose(got["Cost"][:, 0], costs(got["SampleLabels"], 0.2, 2), atol=1e-5)


@pytest.mark.parametrize("sampler", [0, 1, 2])
def test_noise_that_is_drawn(run_op, sampler):
    given = {"Input": X, "Weight": W, "Label": LABEL}
    likely = np.full(5, 0.2)
    if sampler == 1:
        likely = np.log((np.arange(5) + 2) / (np.arange(5) + 1)) / np.log(5)
    if sampler == 2:
        likely = np.array([0.5, 0.5, 0, 0, 0], np.float32)
        given["CustomDistProbs"] = likely
        given["CustomDistAlias"] = np.array([0, 1, 0, 1, 0], np.int32)
        given["CustomDistAliasProbs"] = np.array([1, 1, 0, 0, 0], np.float32)
    attrs = {"num_total_classes": 5, "num_neg_samples": 200, "sampler": sampler}
    got = run_op("nce", given, attrs, ("Cost", "SampleLabels"))
    noise = got["SampleLabels"][:, 1:]
    drawn = np.bincount(noise.ravel(), minlength=5) / noise.size
    if sampler != 1:
        assert np.allclose(drawn, likely, atol=0.1)
    ids = got["SampleLabels"]
    with np.errstate(divide="ignore"):
        assert np.allclose(got["Cost"][:, 0], costs(ids, likely[ids], 200), rtol=1e-4)


def test_an_unknown_sampler_is_refused(run_op):
    attrs = {"num_total_classes": 5, "num_neg_samples": 2, "sampler": 7}
    with pytest.raises(ArgumentError, match="sampler"):
        run_op("nce", {"Input": X, "Weight": W, "Label": LABEL}, attrs, ("Cost",))


def test_logits_of_samples_that_are_given(run_op):
    logits = RNG.standard_normal((2, 6)).astype(np.float32)
    samples = np.array([[1, 0, 1], [4, 0, 1]])
    likely = np.full((2, 3), 0.25, np.float32)
    given = {"Logits": logits, "Labels": LABEL, "CustomizedSamples": samples}
    attrs = {"use_customized_samples": True, "remove_accidental_hits": False, "num_samples": 2}
    slots = ("SampledLogits", "SampledLabels")
    got = run_op("sample_logits", given | {"CustomizedProbabilities": likely}, attrs, slots)
    want = np.take_along_axis(logits, samples, 1) - np.log(0.25)
    assert np.allclose(got["SampledLogits"], want) and got["SampledLabels"].tolist() == [[0], [0]]


def test_logits_of_samples_that_are_drawn(run_op):
    logits = RNG.standard_normal((2, 6)).astype(np.float32)
    slots = ("Samples", "Probabilities", "SampledLogits")
    got = run_op("sample_logits", {"Logits": logits, "Labels": LABEL}, {"num_samples": 4}, slots)
    samples, likely = got["Samples"], got["Probabilities"]
    assert samples[:, 0].tolist() == [1, 4] and len(set(samples[0, 1:])) == 4
    assert (samples[0, 1:] == samples[1, 1:]).all() and (likely > 0).all() and (likely <= 1).all()
    hit = samples[0, 1:] == 1
    assert (got["SampledLogits"][0, 1:][hit] < -1e19).all()


def test_items_are_sampled_on_each_layer(run_op):
    given = {
        "X": np.array([[0], [1]]),
        "Travel": np.array([[1, 3], [2, 0]]),
        "Layer": np.array([[1], [2], [3], [4], [5]]),
    }
    attrs = {"neg_samples_num_list": [1, 2], "layer_offset_lod": [0, 2, 5], "dtype": 3}
    got = run_op("tdm_sampler", given, attrs, ("Out", "Labels", "Mask"))
    assert got["Out"][:, :2].tolist() == [[1, 2], [2, 1]] and sorted(got["Out"][0, 2:]) == [3, 4, 5]
    assert got["Labels"].tolist() == [[1, 0, 1, 0, 0], [1, 0, 0, 0, 0]]
    assert got["Mask"].tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
