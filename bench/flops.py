"""Operations of one step by formula: 2 x multiply-adds of the forward pass, x 3 for training.

Only products and convolutions count, as in the percentages that papers and vendors give.
"""

from __future__ import annotations

from itertools import pairwise

from bench import data, sizes


def perceptron(layers: tuple[int, ...]) -> int:
    """One row through fully connected layers."""
    return sum(2 * a * b for a, b in pairwise(layers))


def conv(c_in: int, c_out: int, kernel: int, side: int, groups: int = 1) -> int:
    """One image; `side` of the output."""
    return 2 * side * side * c_out * (c_in // groups) * kernel * kernel


def lenet() -> int:
    return conv(1, 20, 5, 24) + conv(20, 50, 5, 8) + perceptron((800, 10))


def resnet50() -> int:
    """v1.5: the stride is in the 3x3 convolution, and in the projection beside it."""
    total, channels, side = conv(3, 64, 7, 112), 64, 56
    for i, blocks in enumerate((3, 4, 6, 3)):
        width = 64 * 2**i
        for j in range(blocks):
            out = side // 2 if i > 0 and j == 0 else side
            total += conv(channels, width, 1, side) + conv(width, width, 3, out)
            total += conv(width, 4 * width, 1, out)
            if j == 0:
                total += conv(channels, 4 * width, 1, out)
            channels, side = 4 * width, out
    return total + perceptron((channels, 1000))


# (expansion, channels, blocks, stride of the first): Sandler et al., 2018, table 2
MOBILENET = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2() -> int:
    total, channels, side = conv(3, 32, 3, 112), 32, 112
    for expansion, width, blocks, stride in MOBILENET:
        for j in range(blocks):
            hidden, out = channels * expansion, side // (stride if j == 0 else 1)
            total += conv(channels, hidden, 1, side) if expansion > 1 else 0
            total += conv(hidden, hidden, 3, out, groups=hidden) + conv(hidden, width, 1, out)
            channels, side = width, out
    return total + conv(channels, 1280, 1, side) + perceptron((1280, 1000))


def lstm(features: int, width: int) -> int:
    """One row, one step: four gates of the input and of the state."""
    return 2 * 4 * width * (features + width)


def lstm_lm() -> int:
    """One sequence."""
    m = sizes.LM
    return m.time * (m.layers * lstm(m.width, m.width) + perceptron((m.width, m.words)))


def attention_block(width: int, hidden: int, time: int) -> int:
    """One word: four projections, two products with all `time` words, two layers."""
    products = 2 * 2 * time * width
    return 4 * perceptron((width, width)) + products + perceptron((width, hidden, width))


def transformer() -> int:
    """One sequence. The full square of scores counts, though half of it is masked."""
    m = sizes.DECODER
    block = attention_block(m.width, m.hidden, m.time)
    return m.time * (m.blocks * block + perceptron((m.width, m.words)))


def bert() -> int:
    m = sizes.BERT
    block = attention_block(m.width, m.hidden, m.time)
    return m.time * m.blocks * block + perceptron((m.width, m.width))


def deepfm() -> int:
    """One row: the perceptron and the linear layer of the dense features."""
    return perceptron(sizes.DEEPFM.mlp) + perceptron((sizes.DEEPFM.dense, 1))


def ragged_lstm() -> int:
    """One batch, the mean of the eight; only steps that exist count."""
    m = sizes.RAGGED
    steps = sum(int(b.lengths.sum()) for b in data.ragged_batches()) // sizes.TURNS
    rows = sizes.BATCH["ragged_lstm_train"] * perceptron((2 * m.width, m.classes))
    return steps * lstm(m.width, m.width) + rows


def bilstm_ctc() -> int:
    """One utterance; two directions of each layer."""
    m = sizes.CTC
    stack = 2 * lstm(m.features, m.width) + 2 * lstm(2 * m.width, m.width) * (m.layers - 1)
    return m.time * (stack + perceptron((2 * m.width, m.classes)))


def of(workload: str) -> int:
    """Operations of one step (one batch) of a workload."""
    rows = sizes.BATCH[workload]
    if workload == "ragged_lstm_train":
        return 3 * ragged_lstm()
    forward = {
        "mlp_train": lambda: perceptron(sizes.MLP),
        "lenet_train": lenet,
        "mobilenet_v2_infer_bs1": mobilenet_v2,
        "lstm_lm_train": lstm_lm,
        "transformer_train": transformer,
        "bert_base_infer_bs1": bert,
        "deepfm_train": deepfm,
        "bilstm_ctc_train": bilstm_ctc,
        "tiny_mlp_latency": lambda: perceptron(sizes.TINY),
        "deepfm_latency": deepfm,
    }
    one = resnet50() if workload.startswith("resnet50") else forward[workload]()
    return rows * one * (3 if "_train" in workload else 1)
