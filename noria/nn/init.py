"""Initialisers: data (an op and its attributes), evaluated when a Scope is filled.

Each function gives the pair that `State.init` holds. Numbers drawn depend on the seed of the Scope
and the name of the state alone. Bad numbers raise ArgumentError.
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
    if np.ndim(value) != 0:
        raise ArgumentError("one number is needed", got=repr(value), hint="init.array(data)")
    return "fill", {"value": np.asarray(value).item()}


def zeros() -> Init:
    return constant(0.0)


def ones() -> Init:
    return constant(1.0)


def array(data: Any) -> Init:
    """A copy of given numbers, for example embeddings trained elsewhere."""
    copy = np.array(data)
    copy.setflags(write=False)
    return "constant", {"value": copy}


def uniform(low: float = 0.0, high: float = 1.0) -> Init:
    """Uniform on [low, high)."""
    if not -math.inf < low <= high < math.inf:
        raise ArgumentError("bad range", expected="finite low <= high", got=f"{low}, {high}")
    return "uniform", {"low": float(low), "high": float(high)}


def normal(mean: float = 0.0, std: float = 1.0) -> Init:
    """Gaussian."""
    return "normal", _gaussian(mean, std)


def truncated_normal(mean: float = 0.0, std: float = 1.0) -> Init:
    """Gaussian, given that it is within two standard deviations of the mean."""
    return "truncated_normal", _gaussian(mean, std)


def _gaussian(mean: float, std: float) -> dict[str, Any]:
    if not (math.isfinite(mean) and 0 <= std < math.inf):
        raise ArgumentError(
            "bad Gaussian", expected="finite mean and std >= 0", got=f"mean={mean}, std={std}"
        )
    return {"mean": float(mean), "std": float(std)}


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
    """Variance gain^2 * 2 / (fan in + fan out).  (Glorot and Bengio, 2010)"""
    bound = gain * math.sqrt(6 / _count(sum(fans(shape))))
    return uniform(-bound, bound)


def xavier_normal(shape: Sequence[int], gain: float = 1.0) -> Init:
    """Variance gain^2 * 2 / (fan in + fan out).  (Glorot and Bengio, 2010)"""
    return normal(0.0, gain * math.sqrt(2 / _count(sum(fans(shape)))))


def kaiming_uniform(shape: Sequence[int], gain: float = math.sqrt(2), mode: str = "in") -> Init:
    """Variance gain^2 / fan, of the inputs or ("out") the outputs.  (He et al., 2015)"""
    bound = gain * math.sqrt(3 / _fan(shape, mode))
    return uniform(-bound, bound)


def kaiming_normal(shape: Sequence[int], gain: float = math.sqrt(2), mode: str = "in") -> Init:
    """Variance gain^2 / fan, of the inputs or ("out") the outputs.  (He et al., 2015)"""
    return normal(0.0, gain / math.sqrt(_fan(shape, mode)))


def _fan(shape: Sequence[int], mode: str) -> int:
    if mode not in ("in", "out"):
        raise ArgumentError("a fan is 'in' or 'out'", got=repr(mode))
    return _count(fans(shape)[mode == "out"])


def _count(fan: int) -> int:
    """A fan of 0 is that of a weight with no elements: any number does."""
    return max(fan, 1)


def fan_in_uniform(fan_in: int) -> Init:
    """Uniform within 1/sqrt(fan in): PyTorch's default for Linear and Conv."""
    bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0.0
    return uniform(-bound, bound)
