"""Word language model of stacked LSTMs.

(Zaremba, Sutskever and Vinyals, "Recurrent neural network regularization", 2014; "medium": 650)
"""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import vocabulary as o
from noria.nn.embedding import Embedding
from noria.nn.layers import Dropout, Linear
from noria.nn.module import Module
from noria.nn.recurrent import LSTM


class RNNLM(Module):
    """Word ids [N, T] -> (logits of the next word [N, T, words], last state of the layers).

    state: (h, c), each [layers, N, width], as a call gives it; default zeros
    sparse: the gradient of the embedding names the words of the batch only
    """

    def __init__(
        self,
        words: int = 10_000,
        width: int = 650,
        layers: int = 2,
        *,
        dropout: float = 0.0,
        sparse: bool = False,
    ) -> None:
        self.encoder = Embedding(words, width, sparse=sparse)
        self.drop = Dropout(dropout)
        self.rnn = LSTM(width, width, layers, batch_first=True, dropout=dropout)
        self.decoder = Linear(width, words)

    def __call__(self, ids: Any, state: Any = None) -> tuple[Any, Any]:
        embedded = self.drop(self.encoder(ids))  # [N, T, width]
        out, state = self.rnn(embedded, state)
        return self.decoder(self.drop(out)), state


def predict_next(model: RNNLM) -> Any:
    """The function to trace for training: the mean loss of a batch, states starting at zero."""

    def step(ids: Any, targets: Any) -> dict[str, Any]:
        logits, _ = model(ids)
        losses, _ = o.softmax_cross_entropy(logits, targets)
        return {"loss": o.reduce_mean(losses)}

    return step
