"""Optimisers and schedules, for users: `from noria import optim`."""

from noria.optim import schedules
from noria.optim.adaptive import (
    DPSGD,
    FTRL,
    LAMB,
    LARS,
    Adadelta,
    Adamax,
    DecayedAdagrad,
    DGCMomentum,
    ProximalAdagrad,
    ProximalSGD,
)
from noria.optim.averages import ExponentialMovingAverage, Lookahead, ModelAverage
from noria.optim.optimizer import SGD, Adagrad, Adam, AdamW, Momentum, Optimizer, RMSProp
from noria.passes.recompute import Budget

__all__ = [
    "DPSGD",
    "FTRL",
    "LAMB",
    "LARS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Budget",
    "DGCMomentum",
    "DecayedAdagrad",
    "ExponentialMovingAverage",
    "Lookahead",
    "ModelAverage",
    "Momentum",
    "Optimizer",
    "ProximalAdagrad",
    "ProximalSGD",
    "RMSProp",
    "schedules",
]
