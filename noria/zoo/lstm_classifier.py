"""Classifier of texts of any length, packed without padding.

After the LSTM of Hochreiter and Schmidhuber (1997): the last state beside the largest of all steps.
"""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.nn.embedding import Embedding
from noria.nn.layers import Linear
from noria.nn.module import Module
from noria.nn.ragged import Ragged
from noria.nn.recurrent import LSTM


class LSTMClassifier(Module):
    """`Ragged` word ids, values int [T] -> logits [N, classes]."""

    def __init__(self, words: int = 20_000, width: int = 128, classes: int = 2) -> None:
        self.embedding = Embedding(words, width)
        self.lstm = LSTM(width, width)
        self.fc = Linear(2 * width, classes)

    def __call__(self, text: Ragged) -> Any:
        out, _ = self.lstm(text.map(self.embedding))  # rows of [length, width]
        return self.fc(o.concat(out.last(), out.max(), axis=1))


def classify_texts(model: LSTMClassifier) -> Any:
    """The function to trace for training: the mean loss of a batch of packed texts."""

    def step(ids: Any, splits: Any, label: Any) -> dict[str, Any]:
        logits = model(Ragged(ids, splits))
        losses, _ = o.softmax_cross_entropy(logits, label)
        return {"loss": o.reduce_mean(losses), "logits": logits}

    return step
