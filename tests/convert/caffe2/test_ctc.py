"""Decoding and metrics in Caffe2."""

from typing import Any

import numpy as np

from noria.convert.caffe2.reader import load, net_of_one_operator
from noria.ir.program import Spec
from noria.runtime.executor import Executor


def test_blanks_and_repetitions_are_left_out(run: Any) -> None:
    path = np.array([[1, 1, 0, 1, 2], [2, 2, 2, 0, 1]])
    x = np.eye(3, dtype=np.float32)[path.T]
    lengths, labels = run("CTCGreedyDecoder", x, outputs=2)
    assert lengths.tolist() == [3, 2] and labels.tolist() == [1, 1, 2, 2, 1]
    lengths, labels = run(
        "CTCGreedyDecoder", x, np.array([2, 3], "i4"), merge_repeated=0, outputs=2
    )
    assert lengths.tolist() == [2, 3] and labels.tolist() == [1, 1, 2, 2, 2]


def test_beams_sum_over_paths(run: Any) -> None:
    x = np.array([[[0.6, 0.4]], [[0.6, 0.4]]], np.float32)
    counts, labels, p = run("CTCBeamSearchDecoder", x, num_candidates=2, outputs=3)
    assert counts.tolist() == [1, 0] and labels.tolist() == [1]
    assert np.allclose(p, [0.64, 0.36])


def test_accuracy_counts_the_best_few(run: Any) -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.8, 0.1, 0.1]], np.float32)
    labels = np.array([2, 0], np.int32)
    assert run("Accuracy", scores, labels) == 0.5 and run("Accuracy", scores, labels, top_k=2) == 1
    share, counts = run("MultiClassAccuracy", scores, labels, outputs=2)
    assert share.tolist() == [1, 0, 0] and counts.tolist() == [1, 0, 1]


def test_average_precision_remembers_earlier_rows() -> None:
    net = net_of_one_operator("APMeter", {"buffer_size": 3}, 2, 1)
    specs = {"x0": Spec((2, 1)), "x1": Spec((2, 1), "int32")}
    executor = Executor(load(None, net, specs)[0])
    first = {"x0": np.array([[0.9], [0.8]], "f4"), "x1": np.array([[0], [1]], "i4")}
    assert np.allclose(executor.run(first)["y0"], [1 / 2])
    second = {"x0": np.array([[0.7], [0.1]], "f4"), "x1": np.array([[1], [0]], "i4")}
    assert np.allclose(executor.run(second)["y0"], [(1 + 1) / 2])


def test_the_best_path_is_found_and_swapped(run: Any) -> None:
    rng = np.random.default_rng(7)
    x, t = (rng.normal(size=s).astype(np.float32) for s in ((4, 3), (3, 3)))
    paths = np.stack(np.meshgrid(*[range(3)] * 4, indexing="ij"), -1).reshape(-1, 4)
    scores = x[range(4), paths].sum(1) + t[paths[:, :-1], paths[:, 1:]].sum(1)
    best = paths[scores.argmax()]
    found = run("ViterbiPath", x, t)
    assert found.tolist() == best.tolist()
    swapped = run("SwapBestPath", x, found)
    assert swapped.argmax(1).tolist() == best.tolist() and np.isclose(swapped.sum(), x.sum())
