"""noria: models become Programs that are planned, run and shipped.

import noria
from noria import nn, ops, optim

What plans and runs Programs is imported when it is first asked for, so that the import is quick.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

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
from noria.ops import library as _library  # a Program that is read may hold any op
from noria.passes.for_test import for_test
from noria.passes.recompute import recomputed

if _TYPE_CHECKING:
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

_vocabulary = _library.FAMILIES
_later = {
    "Executor": "noria.runtime.executor",
    "Predictor": "noria.runtime.predictor",
    "Profile": "noria.runtime.profiling.profile",
    "Scope": "noria.runtime.scope",
    "Trainer": "noria.train.trainer",
    "find_nan": "noria.runtime.find_nan",
    "profile": "noria.runtime.profiling.profile",
}


def __getattr__(name: str) -> _Any:
    if name not in _later:
        raise AttributeError(f"module 'noria' has no attribute '{name}'")
    found = globals()[name] = getattr(_import_module(_later[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
