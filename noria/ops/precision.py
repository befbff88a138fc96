"""Which operators run on halves under `precision="bf16"`. What is named nowhere here stays float32:
losses, softmax, reductions, statistics, look-ups, random numbers, updates, control flow.

Three rules make a Program of float32 one of mixed precision (`passes/lower_precision.py`):

PRODUCTS take bfloat16 and add up in float32; that is where the time goes. Their bias stays float32.
FOLLOWS  run on bfloat16 where what they take comes from a product, so that activations and their
         gradients are half as large in memory. Inside a loop everything is computed in float32.
The rest is float32, as are state, optimiser updates and what a Program returns.

(Micikevicius et al., "Mixed precision training", 2018; Kalamkar et al., "A study of bfloat16 for
deep learning training", 2019: with bfloat16's range a loss needs no scaling.)
"""

from __future__ import annotations

from collections.abc import Mapping

from noria.ops.fused import ELEMENTWISE

HALF = "bfloat16"

Positions = tuple[int, ...]

PRODUCTS: Mapping[str, Positions] = {
    **{f"conv{n}d": (0, 1) for n in (1, 2, 3)},
    **{f"conv{n}d_input_grad": (0, 1) for n in (1, 2, 3)},
    **{f"conv{n}d_weight_grad": (0, 1) for n in (1, 2, 3)},
    "fused_conv2d": (0, 1, 3),
    "matmul": (0, 1),
    "linear": (0, 1),
    "fused_linear": (0, 1),
    "attention": (0, 1, 2),
    "attention_grad": (0, 1, 2, 3, 5),
    "self_attention": (0,),
    "self_attention_grad": (0, 1, 3),
    "lstm": (1,),
    "lstm_grad": (2, 4),
    "gru": (1,),
    "gru_grad": (1, 2, 4, 5),
    "rnn": (1,),
    "rnn_grad": (0, 1, 3),
}
"""op -> the inputs that are halves. Those with an attribute `dtype` give float32 where nothing
behind them wants halves: gradients of parameters, logits. Recurrent layers take what their input
gives, states, biases and gates in float32."""

_MOVES = """reshape squeeze unsqueeze flatten transpose broadcast_to tile slice unslice pad unpad
roll concat split sequence_shift"""

STEPWISE = frozenset(("lstm", "lstm_grad", "gru", "gru_grad", "rnn", "rnn_grad"))
"""Round to halves what the next step takes: float32 results beside such are only as exact."""

MOVES = frozenset(_MOVES.split())
"""Elements at other places, unchanged."""

POINTWISE = ELEMENTWISE - {"cast"}

FOLLOWS: Mapping[str, Positions] = {
    "max_pool2d": (0,),
    "max_pool2d_grad": (0, 1, 2),
    "avg_pool2d": (0,),
    "avg_pool2d_grad": (0,),
    "layer_norm": (0,),
    "layer_norm_grad": (0, 3),
    "batch_norm": (0,),
    "batch_norm_grad": (0, 4),
    "batch_norm_relu": (0, 5),
    "batch_norm_relu_grad": (0, 4, 5, 6),
    "batch_norm_pair_grad": (0, 4, 8, 9, 10),
}
"""op -> the inputs that are halves if the first of them comes from a product; so are then the
outputs of that size, while scale, bias and statistics stay float32."""
