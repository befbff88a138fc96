"""Gradients of merged features, and values out of shards, in Caffe2."""

from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(3)


@pytest.mark.parametrize("packed", [0, 1])
def test_values_come_back_from_their_shards(run: Any, packed: int) -> None:
    keys = np.array([[7, 2, 9], [4, 4, 5]], np.int64)
    values = RNG.normal(size=(2, 3, 2)).astype(np.float32)
    parts = run("Partition", keys, values, outputs=6, pack_first_input=packed)[1::2]
    back = run("GatherByKey", keys, *parts, pack_first_input=packed)
    assert np.array_equal(back, values)


def test_gradients_of_merged_lists_go_back_to_each_list(run: Any) -> None:
    lengths = [np.array(n, np.int32) for n in ([2, 1, 3], [1, 2, 0])]
    flags = [np.array(f) for f in ([True, False, True], [True, True, False])]
    g = np.arange(8, dtype=np.float32)  # example 0: 2 of the first, 1 of the second; ...
    name = "MergeSingleListFeatureTensorsGradient"
    out = run(name, lengths[0], flags[0], lengths[1], flags[1], g, outputs=2)
    assert out[0].tolist() == [0, 1, 5, 6, 7] and out[1].tolist() == [2, 3, 4]


def test_gradients_of_merged_numbers_go_back_to_each_input(run: Any) -> None:
    lengths = [np.array(n, np.int32) for n in ([2, 0], [1, 2])]
    g = np.arange(5, dtype=np.float32)
    out = run("MergeMultiScalarFeatureTensorsGradient", *lengths, g, outputs=2)
    assert out[0].tolist() == [0, 1] and out[1].tolist() == [2, 3, 4]
    inner = [np.array(n, np.int32) for n in ([1, 2], [1, 0, 3])]
    g = np.arange(7, dtype=np.float32)
    name = "MergeMultiMapFeatureTensorsGradient"
    out = run(name, lengths[0], inner[0], lengths[1], inner[1], g, outputs=2)
    assert out[0].tolist() == [0, 1, 2] and out[1].tolist() == [3, 4, 5, 6]


def test_entries_of_a_codebook_add_up_their_gradients(run: Any) -> None:
    codes = [np.array([[0, 2], [2, 1]], np.uint8), np.array([1, 1], np.uint8)]
    grads = [np.array([[1, 2], [3, 4]], np.float32), np.array([10, 20], np.float32)]
    out = run("QuantDecodeGradient", np.zeros(4, np.float32), *codes, *grads)
    assert out.tolist() == [1, 34, 5, 0]


def test_the_best_of_each_row_get_its_gradient(run: Any) -> None:
    x, lengths = np.array([3, 1, 2, 9, 5, 7], np.float32), np.array([3, 1, 2], np.int32)
    places = run("LengthsTopK", x, lengths, k=2, outputs=2)[1]
    dy = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    out = run("LengthsTopKGradient", lengths, places, dy, k=2)
    assert out.tolist() == [1, 0, 2, 3, 6, 5]
