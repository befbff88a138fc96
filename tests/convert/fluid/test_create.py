import numpy as np
import pytest

X = np.ones((5, 3), np.float32)


def test_numbers_of_an_attribute(run_op):
    got = run_op("fill_constant", {}, {"shape": [2, 2], "value": 3.0, "dtype": 3})["Out"]
    assert got.dtype == np.int64 and got.tolist() == [[3, 3], [3, 3]]
    attrs = {"shape": [-1, 2], "value": 1.0, "dtype": 5}
    assert run_op("fill_constant_batch_size_like", {"Input": X}, attrs)["Out"].shape == (5, 2)
    attrs = {"shape": [1], "str_value": "9007199254740993", "dtype": 3}
    assert run_op("fill_constant", {}, attrs)["Out"].tolist() == [9007199254740993]


def test_ranges(run_op):
    bounds = {n: np.array([v], np.int64) for n, v in (("Start", 1), ("End", 8), ("Step", 3))}
    assert run_op("range", bounds, constants=tuple(bounds))["Out"].tolist() == [1, 4, 7]
    ends = {"Start": np.array([0.0], np.float32), "Stop": np.array([1.0], np.float32)}
    got = run_op("linspace", {**ends, "Num": np.array([5], np.int32)}, constants=("Num",))["Out"]
    assert got.tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("lower", [True, False])
def test_triangles(run_op, lower):
    want = (np.tril if lower else np.triu)(X, 1)
    got = run_op("tril_triu", {"X": X}, {"diagonal": 1, "lower": lower})["Out"]
    assert np.array_equal(got, want)


def test_random_numbers_have_their_moments(run_op):
    attrs = {"shape": [100, 100], "min": -1.0, "max": 3.0, "dtype": 5}
    drawn = run_op("uniform_random", {}, attrs)["Out"]
    assert abs(drawn.mean() - 1) < 0.05 and drawn.min() >= -1 and drawn.max() < 3
    attrs = {"shape": [100, 100], "mean": 1.0, "std": 2.0, "dtype": 5}
    drawn = run_op("gaussian_random", {}, attrs)["Out"]
    assert abs(drawn.mean() - 1) < 0.1 and abs(drawn.std() - 2) < 0.1


def test_ids_are_drawn_by_their_probabilities(run_op):
    p = np.tile(np.array([0.0, 0.25, 0.75], np.float32), (2000, 1))
    ids = run_op("sampling_id", {"X": p})["Out"]
    assert not (ids == 0).any() and abs((ids == 2).mean() - 0.75) < 0.05


def test_both_kinds_of_dropout(run_op):
    x = np.ones((100, 100), np.float32)
    for kind, kept in (("downgrade_in_infer", 1.0), ("upscale_in_train", 2.0)):
        attrs = {"dropout_prob": 0.5, "dropout_implementation": kind}
        got = run_op("dropout", {"X": x}, attrs, ("Out", "Mask"))
        assert set(np.unique(got["Out"])) == {0.0, kept}
        assert np.array_equal(got["Out"] > 0, got["Mask"] == 1)
        at_test = run_op("dropout", {"X": x}, {**attrs, "is_test": True})["Out"]
        assert (at_test == kept / 2).all()


def test_a_random_part_is_a_part(run_op):
    x = np.arange(2 * 36, dtype=np.int64).reshape(2, 6, 6)
    got = run_op("random_crop", {"X": x, "Seed": np.array([1], np.int64)}, {"shape": [3, 4]})["Out"]
    assert got.shape == (2, 3, 4)
    for n in range(2):
        row, column = divmod(int(got[n, 0, 0]) - 36 * n, 6)
        assert np.array_equal(got[n], x[n, row : row + 3, column : column + 4])
