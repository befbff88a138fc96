"""Optimisers and schedules, for users: `from noria import optim`."""

from noria.optim import schedules
from noria.optim.optimizer import SGD, Adagrad, Adam, AdamW, Momentum, Optimizer, RMSProp
from noria.passes.recompute import Budget

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Budget",
    "Momentum",
    "Optimizer",
    "RMSProp",
    "schedules",
]
