"""Modules and layers, for users: `from noria import nn`."""

from noria.nn import init
from noria.nn.attention import MultiheadAttention, TransformerEncoderLayer
from noria.nn.embedding import Embedding, EmbeddingBag, FieldEmbedding
from noria.nn.layers import (
    GELU,
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Dropout,
    Flatten,
    GroupNorm,
    Identity,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from noria.nn.module import Module, ModuleList, Parameter, Sequential
from noria.nn.ragged import Ragged
from noria.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from noria.nn.structured import CRF, HSigmoidLoss
from noria.nn.vision import Fold, PixelShuffle, PixelUnshuffle, Unfold, Upsample

__all__ = [
    "CRF",
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "ConvTranspose2d",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "FieldEmbedding",
    "Flatten",
    "Fold",
    "GRUCell",
    "GroupNorm",
    "HSigmoidLoss",
    "Identity",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiheadAttention",
    "Parameter",
    "PixelShuffle",
    "PixelUnshuffle",
    "RNNCell",
    "Ragged",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "TransformerEncoderLayer",
    "Unfold",
    "Upsample",
    "init",
]
