"""Recurrent networks in noria."""

from __future__ import annotations

from typing import Any

import numpy as np

import noria
from bench import data, sizes
from bench.noria_side.common import Run, int_spec, training
from noria import optim
from noria.zoo.speech import SpeechRecognizer, transcribe


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


MAKERS = {"bilstm_ctc_train": bilstm_ctc}
