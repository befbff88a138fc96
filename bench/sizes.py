"""The sizes of the workloads' networks and batches."""

from __future__ import annotations

from typing import NamedTuple


class Lm(NamedTuple):
    """Language model of stacked LSTMs."""

    words: int = 10_000
    width: int = 650
    layers: int = 2
    time: int = 35
    clip: float = 5.0


class Decoder(NamedTuple):
    """Decoder-only Transformer."""

    words: int = 10_000
    width: int = 512
    heads: int = 8
    hidden: int = 2048
    blocks: int = 6
    time: int = 128


class Bert(NamedTuple):
    """BERT base encoder."""

    words: int = 30_522
    positions: int = 512
    types: int = 2
    width: int = 768
    heads: int = 12
    hidden: int = 3072
    blocks: int = 12
    time: int = 128


class DeepFm(NamedTuple):
    """Factorisation machine beside a perceptron, on hashed ids."""

    rows: int = 1_000_000
    fields: int = 26
    width: int = 16
    dense: int = 13
    mlp: tuple[int, ...] = (429, 400, 400, 400, 1)


class Ragged(NamedTuple):
    """Classifier of texts of differing length."""

    words: int = 20_000
    width: int = 128
    classes: int = 2


class Ctc(NamedTuple):
    """Bidirectional LSTMs with connectionist temporal classification; class 0 is the blank."""

    time: int = 160
    features: int = 96
    width: int = 256
    layers: int = 2
    classes: int = 97


LM, DECODER, BERT, DEEPFM, RAGGED, CTC = Lm(), Decoder(), Bert(), DeepFm(), Ragged(), Ctc()
MLP = (784, 512, 512, 10)
TINY = (64,) * 6  # five layers
GEMM = 2048
CHAIN = 1000
TURNS = 8  # batches taken in turn where one alone would be remembered by the caches

BATCH = {
    "mlp_train": 128,
    "lenet_train": 64,
    "resnet50_train_fp32": 16,
    "resnet50_train_bf16": 16,
    "resnet50_infer_bs1": 1,
    "resnet50_infer_bs16": 16,
    "resnet50_infer_bs16_bf16": 16,
    "mobilenet_v2_infer_bs1": 1,
    "lstm_lm_train": 20,
    "transformer_train": 8,
    "bert_base_infer_bs1": 1,
    "deepfm_train": 4096,
    "ragged_lstm_train": 64,
    "bilstm_ctc_train": 16,
    "tiny_mlp_latency": 1,
    "deepfm_latency": 1,
}

KEPT_BYTES = 650_000_000  # of ResNet-50's training in float32, where memory is short

# The few batches repeat; a network that remembered them would end in denormal gradients, which
# slow some engines and not others.
RATE = {
    "mlp_train": 1e-6,
    "lenet_train": 1e-6,
    "resnet50_train_fp32": 1e-4,
    "resnet50_train_bf16": 1e-4,
    "lstm_lm_train": 1e-6,
    "transformer_train": 1e-6,
    "deepfm_train": 1e-6,
    "ragged_lstm_train": 1e-6,
    "bilstm_ctc_train": 1e-6,
}

TRIAD = 64 * 2**20  # numbers in each array of a = b + s * c: 256 MB, beyond any cache
