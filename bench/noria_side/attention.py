"""Transformers in noria."""

from __future__ import annotations

from typing import Any

import noria
from bench import data, sizes
from bench.noria_side.common import Run, int_spec, serving, training
from bench.noria_side.saved import saved
from noria import optim
from noria.zoo.bert import Bert
from noria.zoo.transformer import TransformerLM, language_model


def decoder_program() -> Any:
    """Training Program of transformer_train."""
    m = sizes.DECODER
    model = TransformerLM(m.words, m.time, m.blocks, m.width, m.heads, m.hidden)
    ids = int_spec("N", "T")
    program = noria.trace(language_model(model), ids=ids, targets=ids)
    return optim.Adam(sizes.RATE["transformer_train"]).minimize(program)


def transformer_train() -> Run:
    m = sizes.DECODER
    batch = data.tokens(sizes.BATCH["transformer_train"], m.time, m.words)
    return training(decoder_program(), [batch._asdict()])


def bert_program() -> Any:
    """Program of bert_base_infer_bs1."""
    m = sizes.BERT
    model = Bert(m.words, m.positions, m.types, m.blocks, m.width, m.heads, m.hidden)

    ids = int_spec("N", "T")
    return noria.trace(lambda ids, types: {"pooled": model(ids, types)[1]}, ids=ids, types=ids)


def bert_infer() -> Run:
    ids = data.tokens(1, sizes.BERT.time, sizes.BERT.words).ids
    return serving(saved("bert_base_infer_bs1"), {"ids": ids, "types": 0 * ids})


MAKERS = {"transformer_train": transformer_train, "bert_base_infer_bs1": bert_infer}
