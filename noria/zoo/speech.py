"""Bidirectional LSTM acoustic model, trained by connectionist temporal classification.

(Graves, Mohamed and Hinton, "Speech recognition with deep recurrent neural networks", 2013.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.nn.layers import Linear
from noria.nn.module import Module
from noria.nn.recurrent import LSTM
from noria.ops.ctc_loss import ctc_loss


class SpeechRecognizer(Module):
    """Features [N, T, features] -> scores of the classes and the blank, [N, T, classes + 1].

    The blank is class 0; width: of each direction
    """

    def __init__(
        self, features: int = 96, classes: int = 96, *, width: int = 256, layers: int = 2
    ) -> None:
        self.rnn = LSTM(features, width, layers, batch_first=True, bidirectional=True)
        self.fc = Linear(2 * width, classes + 1)

    def __call__(self, features: Any) -> Any:
        out, _ = self.rnn(features)
        return self.fc(out)


def transcribe(model: SpeechRecognizer) -> Any:
    """The function to trace for training: mean CTC loss, over labels, of a padded batch."""

    def step(features: Any, labels: Any, steps: Any, label_lengths: Any) -> dict[str, Any]:
        scores = model(features)
        return {"loss": ctc_loss(scores, labels, steps, label_lengths, batch_first=True)}

    return step


def best_path(scores: np.ndarray, steps: np.ndarray | None = None) -> list[list[int]]:
    """The labels of each sequence: the likeliest class of each step, repeats and blanks dropped.

    scores: [N, T, classes + 1]; steps: how many count, [N] (default all)
    """
    out = []
    for n, best in enumerate(np.asarray(scores).argmax(-1)):
        path = best if steps is None else best[: steps[n]]
        changes = np.flatnonzero(np.diff(path, prepend=-1))
        out.append([int(k) for k in path[changes] if k])
    return out
