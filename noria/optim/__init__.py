"""Optimisers and schedules, for users: `from noria import optim`."""

from noria.optim import schedules
from noria.optim.optimizer import SGD, Adagrad, Adam, AdamW, Momentum, Optimizer, RMSProp

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Momentum",
    "Optimizer",
    "RMSProp",
    "schedules",
]
