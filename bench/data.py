"""The data of the workloads: NumPy only, fixed seeds, the same numbers for every engine.

Each function makes new arrays; nothing here knows an engine. Shapes are those of the networks, with
the batch in front; engines that want another layout convert before the clock starts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench import sizes


class Tokens(NamedTuple):
    """ids, targets: int64 [N, T]."""

    ids: np.ndarray
    targets: np.ndarray


class Clicks(NamedTuple):
    """ids: int64 [N, 26] rows of the table; dense: float32 [N, 13]; label: float32 [N], 0 or 1."""

    ids: np.ndarray
    dense: np.ndarray
    label: np.ndarray


class RaggedText(NamedTuple):
    """ids: int64 [sum of lengths], one text after another; lengths, label: int64 [N]."""

    ids: np.ndarray
    lengths: np.ndarray
    label: np.ndarray

    def padded(self, multiple: int = 1) -> np.ndarray:
        """int64 [N, T]: zeros behind each text; T is a multiple of `multiple`."""
        longest = -(-int(self.lengths.max()) // multiple) * multiple
        out = np.zeros((len(self.lengths), longest), np.int64)
        out[np.arange(longest) < self.lengths[:, None]] = self.ids
        return out


class Speech(NamedTuple):
    """features: float32 [N, T, 96]; labels: int64 [sum of lengths], 1..96 (0 is the blank), one
    utterance after another; lengths: int64 [N]."""

    features: np.ndarray
    labels: np.ndarray
    lengths: np.ndarray

    def padded(self) -> np.ndarray:
        """int64 [N, longest]: the labels, zeros behind."""
        return RaggedText(self.labels, self.lengths, self.lengths).padded()


def images(batch: int, channels: int, side: int, seed: int = 0) -> np.ndarray:
    """float32 [batch, channels, side, side]."""
    shape = (batch, channels, side, side)
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def labels(batch: int, classes: int, seed: int = 1) -> np.ndarray:
    """int64 [batch]."""
    return np.random.default_rng(seed).integers(0, classes, batch)


def vectors(batch: int, size: int, seed: int = 0) -> np.ndarray:
    """float32 [batch, size]."""
    return np.random.default_rng(seed).standard_normal((batch, size), np.float32)


def tokens(batch: int, time: int, words: int, seed: int = 0) -> Tokens:
    """Random words and random next words."""
    rng = np.random.default_rng(seed)
    return Tokens(*rng.integers(0, words, (2, batch, time)))


def classified(workload: str) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, labels) of the image classifiers and the perceptron."""
    n = sizes.BATCH[workload]
    if workload == "mlp_train":
        return vectors(n, sizes.MLP[0]), labels(n, sizes.MLP[-1])
    if workload == "lenet_train":
        return images(n, 1, 28), labels(n, 10)
    return images(n, 3, 224), labels(n, 1000)


def clicks(batch: int, seed: int = 0) -> Clicks:
    """Ids are Zipf distributed in each field, then hashed with the field into one table."""
    rng = np.random.default_rng(seed)
    weights = np.arange(1, sizes.DEEPFM.rows + 1) ** -1.05
    edges = np.cumsum(weights / weights.sum())
    ranks = np.searchsorted(edges, rng.random((batch, sizes.DEEPFM.fields)))
    field = np.arange(sizes.DEEPFM.fields, dtype=np.uint64)
    dense = rng.standard_normal((batch, sizes.DEEPFM.dense), np.float32)
    label = rng.integers(0, 2, batch).astype(np.float32)
    return Clicks(hashed(ranks.astype(np.uint64), field), dense, label)


def hashed(rank: np.ndarray, field: np.ndarray) -> np.ndarray:
    """int64 rows of the table: 64 bits of (field, rank) mixed, modulo the rows.

    The mixing is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    z = (field << np.uint64(40)) + rank + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) % np.uint64(sizes.DEEPFM.rows)).astype(np.int64)


def click_batches() -> list[Clicks]:
    """The eight batches of deepfm_train, taken in turn."""
    return [clicks(sizes.BATCH["deepfm_train"], seed) for seed in range(sizes.TURNS)]


def ragged_texts(batch: int, rng: np.random.Generator) -> RaggedText:
    """Lengths are lognormal around 50, cut to 5..200."""
    lengths = np.round(rng.lognormal(np.log(50), 0.7, batch)).clip(5, 200).astype(np.int64)
    ids = rng.integers(0, sizes.RAGGED.words, int(lengths.sum()))
    return RaggedText(ids, lengths, rng.integers(0, sizes.RAGGED.classes, batch))


def ragged_batches(batch: int = 0) -> list[RaggedText]:
    """The eight batches of ragged_lstm_train, taken in turn; the mean length is 62.3."""
    rng = np.random.default_rng(8)
    batch = batch or sizes.BATCH["ragged_lstm_train"]
    return [ragged_texts(batch, rng) for _ in range(sizes.TURNS)]


def speech(batch: int, time: int = 0, seed: int = 0) -> Speech:
    """Random features, and label sequences of 5..20; time: steps, default the workload's."""
    rng = np.random.default_rng(seed)
    shape = (batch, time or sizes.CTC.time, sizes.CTC.features)
    lengths = rng.integers(5, 21, batch)
    names = rng.integers(1, sizes.CTC.classes, int(lengths.sum()))
    return Speech(rng.standard_normal(shape, np.float32), names, lengths)
