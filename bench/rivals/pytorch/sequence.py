"""Recurrent networks in PyTorch, time first, the order in which its LSTM computes."""

from __future__ import annotations

import os

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from bench import data, sizes
from bench.rivals.pytorch.common import Run, is_compiled, training


class LanguageModel(nn.Module):
    """ids [T, N] -> logits [T, N, words]."""

    def __init__(self, m: sizes.Lm) -> None:
        super().__init__()
        self.words = nn.Embedding(m.words, m.width)
        self.lstm = nn.LSTM(m.width, m.width, m.layers)
        self.fc = nn.Linear(m.width, m.words)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.fc(self.lstm(self.words(ids))[0])


def lstm_lm_train() -> Run:
    name, m = "lstm_lm_train", sizes.LM
    pair = data.tokens(sizes.BATCH[name], m.time, m.words)
    ids, targets = (torch.from_numpy(a.T.copy()) for a in pair)
    model = LanguageModel(m)
    sgd = torch.optim.SGD(model.parameters(), sizes.RATE[name], fused=True)

    def loss_of(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten())

    return training(loss_of, sgd, [(ids, targets)], clip=(model, m.clip))


class TextClassifier(nn.Module):
    """ids [T, N], lengths [N] -> logits [N, classes], from texts padded or packed."""

    def __init__(self, m: sizes.Ragged) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(m.words, m.width), nn.LSTM(m.width, m.width)
        self.fc = nn.Linear(2 * m.width, m.classes)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(self.words(ids))
        last = out[lengths - 1, torch.arange(len(lengths))]
        behind = torch.arange(len(ids))[:, None] >= lengths
        top = out.masked_fill(behind[:, :, None], -torch.inf).amax(0)
        return self.fc(torch.cat([last, top], 1))

    def packed(self, ids: PackedSequence) -> torch.Tensor:
        """The same from packed texts."""
        words = ids._replace(data=self.words(ids.data))
        out, (last, _) = self.lstm(words)
        padded, _ = nn.utils.rnn.pad_packed_sequence(out, padding_value=-torch.inf)
        return self.fc(torch.cat([last[0], padded.amax(0)], 1))


def ragged_lstm_train() -> Run:
    model = TextClassifier(sizes.RAGGED)
    rate = sizes.RATE["ragged_lstm_train"]
    adam = torch.optim.Adam(model.parameters(), rate, fused=True)
    texts = data.ragged_batches()
    if os.environ.get("BENCH_ENGINE") == "torch_packed":
        batches = [(packed(t), torch.from_numpy(t.label)) for t in texts]
        return training(lambda x, y: F.cross_entropy(model.packed(x), y), adam, batches)
    multiple = 40 if is_compiled() else 1  # compiled once for each length
    padded = [tuple(map(torch.from_numpy, (t.padded(multiple).T.copy(), *t[1:]))) for t in texts]
    return training(lambda x, n, y: F.cross_entropy(model(x, n), y), adam, padded)


def packed(text: data.RaggedText) -> PackedSequence:
    """The words of all texts in the order in which PyTorch's LSTM takes them."""
    ids, lengths = torch.from_numpy(text.padded()), torch.from_numpy(text.lengths)
    return pack_padded_sequence(ids, lengths, batch_first=True, enforce_sorted=False)


class Recogniser(nn.Module):
    """features [T, N, 96] -> log probabilities [T, N, classes]."""

    def __init__(self, m: sizes.Ctc) -> None:
        super().__init__()
        self.lstm = nn.LSTM(m.features, m.width, m.layers, bidirectional=True)
        self.fc = nn.Linear(2 * m.width, m.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.log_softmax(self.fc(self.lstm(x)[0]), -1)


def bilstm_ctc_train() -> Run:
    name, m = "bilstm_ctc_train", sizes.CTC
    speech = data.speech(sizes.BATCH[name])
    x = torch.from_numpy(speech.features.swapaxes(0, 1).copy())
    labels, lengths = torch.from_numpy(speech.padded()), torch.from_numpy(speech.lengths)
    times = torch.full_like(lengths, m.time)
    model = Recogniser(m)
    adam = torch.optim.Adam(model.parameters(), sizes.RATE[name], fused=True)
    return training(
        lambda x, y, t, n: F.ctc_loss(model(x), y, t, n), adam, [(x, labels, times, lengths)]
    )


MAKERS = {
    "lstm_lm_train": lstm_lm_train,
    "ragged_lstm_train": ragged_lstm_train,
    "bilstm_ctc_train": bilstm_ctc_train,
}
