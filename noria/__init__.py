"""noria: models become Programs that are planned, run and shipped.

import noria
from noria import nn, ops, optim
"""

from noria import data, nn, ops, optim
from noria.core.dims import symbol
from noria.core.errors import NonFiniteError, NoriaError
from noria.core.flags import flags
from noria.grad import append_backward, gradients
from noria.ir.compare import difference, same
from noria.ir.emit import Builder, full_precision
from noria.ir.opdef import op
from noria.ir.program import Operator, Program, Spec, Value
from noria.ir.save import load, save
from noria.ir.text import parse_program as parse
from noria.ir.trace import spec, trace
from noria.ir.verify import verify
from noria.kernels import library as _library
from noria.passes.for_test import for_test
from noria.passes.recompute import recomputed
from noria.runtime.executor import Executor
from noria.runtime.find_nan import find_nan
from noria.runtime.predictor import Predictor
from noria.runtime.profiling.profile import Profile, profile
from noria.runtime.scope import Scope
from noria.train.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "Builder",
    "Executor",
    "NonFiniteError",
    "NoriaError",
    "Operator",
    "Predictor",
    "Profile",
    "Program",
    "Scope",
    "Spec",
    "Trainer",
    "Value",
    "append_backward",
    "data",
    "difference",
    "find_nan",
    "flags",
    "for_test",
    "full_precision",
    "gradients",
    "load",
    "nn",
    "op",
    "ops",
    "optim",
    "parse",
    "profile",
    "recomputed",
    "same",
    "save",
    "spec",
    "symbol",
    "trace",
    "verify",
]

_kernels = _library.__all__
