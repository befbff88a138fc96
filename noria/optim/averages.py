"""Averages of parameters over steps: Program -> Program, after an optimiser's `minimize`.

    training = optim.Adam(1e-3).minimize(program)
    ema = optim.ExponentialMovingAverage(0.999)
    training = ema.attach(training)
    ...
    Predictor(program, ema.averaged(executor.scope.state()))

The averages are state beside the parameters (`fc.weight.ema`), so that a checkpoint has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noria.core.errors import ArgumentError, MissingError, nearest
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Value
from noria.ops.numeric import cast_like
from noria.ops.update_formulas import average_accumulates
from noria.optim.optimizer import declare, fractions


def _learned(program: Program, wrt: Sequence[str] | None) -> list[str]:
    """Names of the parameters to average. Raises ArgumentError for one that nothing changes."""
    parameters = program.parameters()
    names = list(wrt) if wrt is not None else [n for n in parameters if n in program.updates]
    for name in names:
        if name not in program.state or name not in program.updates:
            raise ArgumentError(
                f"'{name}' is no state that this Program changes",
                hint=nearest(name, list(program.updates)),
            )
    if not names:
        raise ArgumentError(
            "this Program learns nothing", hint="an optimiser's minimize(program) comes first"
        )
    return names


def _need(state: Mapping[str, Any], name: str) -> Any:
    if name not in state:
        raise MissingError(f"the state has no average '{name}'", hint=nearest(name, list(state)))
    return np.asarray(state[name])


class ExponentialMovingAverage:
    """decay * average + (1 - decay) * parameter after each step.  (Polyak & Juditsky, 1992)

    The average starts with 0 and is divided by 1 - decay^steps when it is read, so that it is one
    of what was, from the first step on.  Raises ArgumentError unless decay is in [0, 1).
    """

    def __init__(self, decay: float = 0.999) -> None:
        fractions(decay=decay)
        self.decay = decay

    def attach(self, program: Program, wrt: Sequence[str] | None = None) -> Program:
        """The training Program with averages of its parameters, default all that are learned."""
        out = program.copy()
        with Builder(out, made_by=type(self).__name__) as builder:
            steps = declare(builder, "ema.steps", (), "int64", 0.0)
            builder.update(steps, o.add(steps, 1))
            for name in _learned(program, wrt):
                new = program.updates[name]
                old = declare(builder, f"{name}.ema", new.shape, "float32", 0.0)
                part = o.mul(cast_like(new, old), 1.0 - self.decay)
                builder.update(old, o.add(o.mul(old, self.decay), part))
        return out

    def averaged(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state with parameters replaced by their averages. Before a step: as it is."""
        steps = int(_need(state, "ema.steps"))
        out = dict(state)
        for name in [n for n in state if n.endswith(".ema") and steps]:
            of = name.removesuffix(".ema")
            mean = _need(state, name) / (1.0 - self.decay**steps)
            out[of] = mean.astype(np.asarray(state[of]).dtype)
        return out


class ModelAverage:
    """The mean of parameters over a window of late steps that grows with the number of steps.

    rate: the share of all steps that the window has; it has at least `low` and at most `high`
    steps. Sums of three spans are kept, so that old steps can be dropped.
    """

    def __init__(self, rate: float = 0.15, low: int = 10000, high: int = 10000) -> None:
        if not 0 < rate <= 1 or not 1 <= low <= high:
            raise ArgumentError(
                "rate lies in (0, 1], and 1 <= low <= high", got=f"{rate}, {low}, {high}"
            )
        self.how: dict[str, Any] = {"rate": rate, "low": low, "high": high}

    def attach(self, program: Program, wrt: Sequence[str] | None = None) -> Program:
        """The training Program with sums of its parameters, default all that are learned."""
        out = program.copy()
        with Builder(out, made_by=type(self).__name__) as builder:
            for name in _learned(program, wrt):
                new = program.updates[name]
                sums = [
                    declare(builder, f"{name}.sum{i}", new.shape, "float32", 0.0) for i in (1, 2, 3)
                ]
                counts = [
                    declare(builder, f"{name}.{n}", (), "int64", 0.0)
                    for n in ("accumulated", "accumulated_before", "updates")
                ]
                single = cast_like(new, sums[0])
                kept = average_accumulates(single, *sums, *counts, **self.how)
                for old, value in zip([*sums, *counts], kept, strict=True):
                    builder.update(old, value)
        return out

    def averaged(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state with parameters replaced by their means. Before a step: as it is."""
        out = dict(state)
        for name in [n.removesuffix(".sum1") for n in state if n.endswith(".sum1")]:
            count = _need(state, f"{name}.accumulated") + _need(state, f"{name}.accumulated_before")
            if count:
                total = sum(_need(state, f"{name}.sum{i}").astype(np.float64) for i in (1, 2, 3))
                out[name] = (total / count).astype(np.asarray(state[name]).dtype)
        return out


class Lookahead:
    """k steps of the optimiser, then one of slow weights towards them, where the next k start.
    (Zhang et al., 2019)

    alpha: how far the slow weights go, in (0, 1].
    """

    def __init__(self, alpha: float = 0.5, k: int = 5) -> None:
        if not 0 < alpha <= 1 or k < 1:
            raise ArgumentError("alpha lies in (0, 1], k is at least 1", got=f"{alpha}, {k}")
        self.alpha, self.k = alpha, k

    def attach(self, program: Program, wrt: Sequence[str] | None = None) -> Program:
        """The training Program with slow weights of its parameters, default all learned ones."""
        out = program.copy()
        with Builder(out, made_by=type(self).__name__) as builder:
            steps = declare(builder, "lookahead.steps", (), "int64", 0.0)
            count = o.add(steps, 1)
            builder.update(steps, count)
            meets = o.equal(o.remainder(count, self.k), 0)
            for name in _learned(program, wrt):
                self._one(builder, program, name, o.equal(steps, 0), meets)
        return out

    def _one(self, builder: Builder, program: Program, name: str, first: Value, now: Value) -> None:
        param, fast = program.state[name].value, program.updates[name]
        slow = declare(builder, f"{name}.slow", fast.shape, fast.dtype, 0.0)
        start = o.where(first, param, slow)  # slow weights begin where training does
        moved = o.add(start, o.mul(o.sub(fast, start), self.alpha))
        met = o.where(now, moved, start)
        builder.update(slow, met)
        builder.update(name, o.where(now, met, fast))
