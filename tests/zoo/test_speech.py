"""A recogniser learns to spell."""

import numpy as np

from noria import optim
from noria.ir.trace import spec, trace
from noria.runtime.executor import Executor
from noria.zoo.speech import SpeechRecognizer, best_path, transcribe

CLASSES, T = 4, 12


def utterances(n, seed):
    """Each label sounds for some steps, in noise; ([n, T, CLASSES], labels, steps, counts)."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, n)
    labels = np.zeros((n, 3), np.int64)
    features = 0.1 * rng.standard_normal((n, T, CLASSES)).astype(np.float32)
    for i, count in enumerate(counts):
        labels[i, :count] = rng.integers(1, CLASSES + 1, count)
        for j, label in enumerate(labels[i, :count]):
            features[i, 4 * j : 4 * j + 2, label - 1] += 2
    return features, labels, np.full(n, T), counts


def test_it_learns_to_spell():
    model = SpeechRecognizer(CLASSES, CLASSES, width=16, layers=1)
    integers = {"dtype": "int64"}
    program = trace(
        transcribe(model),
        features=spec("N", "T", CLASSES),
        labels=spec("N", 3, **integers),
        steps=spec("N", **integers),
        label_lengths=spec("N", **integers),
    )
    executor = Executor(optim.Adam(0.02).minimize(program))
    names = ("features", "labels", "steps", "label_lengths")
    for step in range(120):
        executor.run(dict(zip(names, utterances(16, step), strict=True)), [])
    features, labels, steps, counts = utterances(32, 1000)
    scores = Executor(trace(model, features=spec("N", "T", CLASSES)), scope=executor.scope).run(
        {"features": features}
    )
    said = best_path(next(iter(scores.values())), steps)
    right = [said[i] == labels[i, : counts[i]].tolist() for i in range(32)]
    assert np.mean(right) > 0.9


def test_the_best_path_drops_blanks_and_repeats():
    path = [[0, 1, 1, 0, 1, 2, 2, 0]]
    scores = np.eye(3)[path]
    assert best_path(scores) == [[1, 1, 2]]
    assert best_path(scores, np.array([4])) == [[1]]
