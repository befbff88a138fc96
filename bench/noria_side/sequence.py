"""Recurrent networks in noria."""

from __future__ import annotations

from typing import Any

import numpy as np

import noria
from bench import data, sizes
from bench.noria_side.common import Run, int_spec, training
from noria import optim
from noria.zoo.lstm_classifier import LSTMClassifier, classify_texts
from noria.zoo.rnn_lm import RNNLM, predict_next
from noria.zoo.speech import SpeechRecognizer, transcribe


def lm_program() -> Any:
    """Training Program of lstm_lm_train."""
    size = sizes.LM
    model = RNNLM(size.words, size.width, size.layers, sparse=True)
    ids = int_spec("N", "T")
    program = noria.trace(predict_next(model), ids=ids, targets=ids)
    return optim.SGD(sizes.RATE["lstm_lm_train"], clip_norm=size.clip).minimize(program)


def lstm_lm_train() -> Run:
    batch = data.tokens(sizes.BATCH["lstm_lm_train"], sizes.LM.time, sizes.LM.words)
    return training(lm_program(), [batch._asdict()])


def ragged_program() -> Any:
    """Training Program of ragged_lstm_train."""
    size = sizes.RAGGED
    model = LSTMClassifier(size.words, size.width, size.classes)
    specs = {"ids": int_spec("T"), "splits": int_spec("N + 1"), "label": int_spec("N")}
    program = noria.trace(classify_texts(model), **specs)
    return optim.Adam(sizes.RATE["ragged_lstm_train"]).minimize(program)


def ragged_lstm_train() -> Run:
    batches = [
        {"ids": b.ids, "splits": np.cumsum([0, *b.lengths]), "label": b.label}
        for b in data.ragged_batches()
    ]
    return training(ragged_program(), batches)


def bilstm_ctc_program() -> Any:
    """Training Program of bilstm_ctc_train."""
    ctc = sizes.CTC
    model = SpeechRecognizer(ctc.features, ctc.classes - 1, width=ctc.width, layers=ctc.layers)
    program = noria.trace(
        transcribe(model),
        features=noria.spec("N", "T", ctc.features),
        labels=int_spec("N", "W"),
        steps=int_spec("N"),
        label_lengths=int_spec("N"),
    )
    return optim.Adam(sizes.RATE["bilstm_ctc_train"]).minimize(program)


def bilstm_ctc() -> Run:
    batch = data.speech(sizes.BATCH["bilstm_ctc_train"])
    n, steps = batch.features.shape[:2]
    feeds = {"features": batch.features, "labels": batch.padded(), "steps": np.full(n, steps)}
    return training(bilstm_ctc_program(), [{**feeds, "label_lengths": batch.lengths}])


MAKERS = {
    "lstm_lm_train": lstm_lm_train,
    "ragged_lstm_train": ragged_lstm_train,
    "bilstm_ctc_train": bilstm_ctc,
}
