"""`noria.find_nan`: which operator of a Program gives the first NaN or infinity, if one does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from noria.core.errors import NonFiniteError
from noria.ir.program import Program
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope


def find_nan(
    program: Program,
    feeds: Mapping[str, Any],
    state: Mapping[str, np.ndarray] | None = None,
    *,
    infinity: bool = True,
    steps: int = 1,
    seed: int = 0,
    threads: int | None = None,
) -> NonFiniteError | None:
    """Run a step, or some, on a copy of the state; the error of the operator at fault, or None.

    feeds:    name -> array, the same for each step
    state:    name -> array; what is missing follows its initialiser with `seed`
    infinity: look for infinities too, as from an overflow, not only for NaN

    The error prints as operator, your line, which inputs were finite, the first bad number and how
    many there are; its attributes hold the same. Raises MissingError, ShapeError or DTypeError for
    feeds or state that do not fit.

        print(noria.find_nan(program, batch, trainer.scope.state()))
    """
    scope = Scope().initialize(program, seed, values=state)
    mode = "all" if infinity else "nan"
    executor = Executor(program, scope, threads=threads, check_finite=mode)
    try:
        for _ in range(steps):
            executor.run(feeds)
    except NonFiniteError as error:
        return error
    return None
