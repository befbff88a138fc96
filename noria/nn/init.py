"""Initialisers: data (an op and its attributes), evaluated when a Scope is filled.

Each function gives the pair that `State.init` holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError

Init = tuple[str, dict[str, Any]]


def constant(value: float) -> Init:
    """Every element is `value`."""
    return "fill", {"value": value}


def zeros() -> Init:
    return constant(0.0)


def ones() -> Init:
    return constant(1.0)


def array(data: Any) -> Init:
    """Given numbers, for example embeddings trained elsewhere."""
    return "constant", {"value": np.asarray(data)}


def uniform(low: float = 0.0, high: float = 1.0) -> Init:
    """Uniform on [low, high)."""
    return "uniform", {"low": low, "high": high}


def normal(mean: float = 0.0, std: float = 1.0) -> Init:
    """Gaussian."""
    return "normal", {"mean": mean, "std": std}


def truncated_normal(mean: float = 0.0, std: float = 1.0) -> Init:
    """Gaussian, redrawn outside two standard deviations."""
    return "truncated_normal", {"mean": mean, "std": std}


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan in, fan out) of a weight [out, in, *kernel]."""
    if len(shape) < 2:
        raise ArgumentError("fan in and fan out need a weight of rank 2 or more", got=str(shape))
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def gain(nonlinearity: str = "linear", slope: float = 0.0) -> float:
    """The factor that keeps the variance through a nonlinearity."""
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise ArgumentError(
            f"no gain is known for {nonlinearity!r}", expected=", ".join([*_GAINS, "leaky_relu"])
        )
    return _GAINS[nonlinearity]


def xavier_uniform(shape: Sequence[int], gain: float = 1.0) -> Init:
    """Variance 2 / (fan in + fan out).  (Glorot and Bengio, 2010)"""
    bound = gain * math.sqrt(6 / sum(fans(shape)))
    return uniform(-bound, bound)


def xavier_normal(shape: Sequence[int], gain: float = 1.0) -> Init:
    """Variance 2 / (fan in + fan out).  (Glorot and Bengio, 2010)"""
    return normal(0.0, gain * math.sqrt(2 / sum(fans(shape))))


def kaiming_uniform(shape: Sequence[int], gain: float = math.sqrt(2), mode: str = "in") -> Init:
    """Variance gain^2 / fan.  (He et al., 2015)"""
    bound = gain * math.sqrt(3 / fans(shape)[mode == "out"])
    return uniform(-bound, bound)


def kaiming_normal(shape: Sequence[int], gain: float = math.sqrt(2), mode: str = "in") -> Init:
    """Variance gain^2 / fan.  (He et al., 2015)"""
    return normal(0.0, gain / math.sqrt(fans(shape)[mode == "out"]))


def fan_in_uniform(fan_in: int) -> Init:
    """Uniform within 1/sqrt(fan in): PyTorch's default for Linear and Conv."""
    bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
    return uniform(-bound, bound)
