"""Recurrent networks in PaddlePaddle."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
from paddle import nn
from paddle.nn import functional as F

from bench import data, sizes
from bench.rivals.paddle3.common import Run, training


class LanguageModel(nn.Layer):
    """ids [T, N] -> logits [T, N, words]."""

    def __init__(self, m: sizes.Lm) -> None:
        super().__init__()
        self.words = nn.Embedding(m.words, m.width)
        self.lstm = nn.LSTM(m.width, m.width, m.layers, time_major=True)
        self.fc = nn.Linear(m.width, m.words)

    def forward(self, ids: Any) -> Any:
        return self.fc(self.lstm(self.words(ids))[0])


def lstm_lm_train() -> Run:
    name, m = "lstm_lm_train", sizes.LM
    model = LanguageModel(m)
    clip = nn.ClipGradByGlobalNorm(m.clip)
    sgd = paddle.optimizer.SGD(sizes.RATE[name], parameters=model.parameters(), grad_clip=clip)
    batch = tuple(a.T.copy() for a in data.tokens(sizes.BATCH[name], m.time, m.words))
    return training(lambda x, y: F.cross_entropy(model(x), y), sgd, [batch])


class TextClassifier(nn.Layer):
    """ids [N, T], lengths [N] -> logits [N, classes]."""

    def __init__(self, m: sizes.Ragged) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(m.words, m.width), nn.LSTM(m.width, m.width)
        self.fc = nn.Linear(2 * m.width, m.classes)

    def forward(self, ids: Any, lengths: Any) -> Any:
        out, (last, _) = self.lstm(self.words(ids), sequence_length=lengths)
        behind = paddle.arange(ids.shape[1]) >= lengths.unsqueeze(1)
        top = paddle.where(behind.unsqueeze(2), paddle.full_like(out, -np.inf), out).max(1)
        return self.fc(paddle.concat([last[0], top], 1))


def ragged_lstm_train() -> Run:
    model = TextClassifier(sizes.RAGGED)
    rate = sizes.RATE["ragged_lstm_train"]
    adam = paddle.optimizer.Adam(rate, parameters=model.parameters())
    batches = [(t.padded(), t.lengths, t.label) for t in data.ragged_batches()]
    return training(lambda x, n, y: F.cross_entropy(model(x, n), y), adam, batches)


class Recogniser(nn.Layer):
    """features [T, N, 96] -> logits [T, N, classes]."""

    def __init__(self, m: sizes.Ctc) -> None:
        super().__init__()
        self.lstm = nn.LSTM(m.features, m.width, m.layers, direction="bidirect", time_major=True)
        self.fc = nn.Linear(2 * m.width, m.classes)

    def forward(self, x: Any) -> Any:
        return self.fc(self.lstm(x)[0])


def bilstm_ctc_train() -> Run:
    """The softmax is within the loss."""
    name, m = "bilstm_ctc_train", sizes.CTC
    speech = data.speech(sizes.BATCH[name])
    model = Recogniser(m)
    adam = paddle.optimizer.Adam(sizes.RATE[name], parameters=model.parameters())
    times = np.full_like(speech.lengths, m.time)
    labels = speech.padded().astype(np.int32)
    batch = (speech.features.swapaxes(0, 1).copy(), labels, times, speech.lengths)
    return training(lambda x, y, t, n: F.ctc_loss(model(x), y, t, n), adam, [batch])


MAKERS = {
    "lstm_lm_train": lstm_lm_train,
    "ragged_lstm_train": ragged_lstm_train,
    "bilstm_ctc_train": bilstm_ctc_train,
}
