from __future__ import annotations

import numpy as np

from noria.ir.trace import spec, trace
from noria.nn.ragged import Ragged
from noria.optim.optimizer import Adam
from noria.runtime.executor import Executor
from noria.zoo.lstm_classifier import LSTMClassifier, classify_texts


def texts(rng: np.random.Generator, count: int) -> tuple[Ragged, np.ndarray]:
    """Texts of 1 to 12 words; the class is whether word 7 is among them."""
    rows = [rng.integers(0, 20, rng.integers(1, 13)) for _ in range(count)]
    return Ragged.pack(rows), np.array([int(7 in r) for r in rows])


def test_it_learns_to_find_a_word_in_batches_of_many_sizes() -> None:
    specs = {n: spec(size, dtype="int64") for n, size in (("ids", "T"), ("splits", "S"))}
    model = LSTMClassifier(20, 16)
    program = trace(classify_texts(model), **specs, label=spec("N", dtype="int64"))
    executor = Executor(Adam(0.02).minimize(program))
    rng, losses = np.random.default_rng(0), []
    for _ in range(120):
        batch, label = texts(rng, 16)
        feeds = {"ids": batch.values, "splits": batch.splits, "label": label}
        losses.append(float(executor.run(feeds, ["loss"])["loss"]))
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])


def test_a_text_does_not_depend_on_those_beside_it() -> None:
    batch, _ = texts(np.random.default_rng(1), 5)
    model = LSTMClassifier(20, 8)
    together = model(batch)
    for n, row in enumerate(batch.rows()):
        np.testing.assert_allclose(model(Ragged.pack([row]))[0], together[n], rtol=1e-5, atol=1e-6)


def test_an_empty_text_and_no_texts_have_answers() -> None:
    model = LSTMClassifier(20, 8)
    nothing = np.zeros(0, np.int64)
    np.testing.assert_allclose(
        model(Ragged(nothing, np.array([0, 0])))[0], model.fc.bias.numbers(), rtol=1e-6
    )
    assert model(Ragged(nothing, np.array([0]))).shape == (0, 2)
