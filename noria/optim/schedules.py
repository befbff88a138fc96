"""Learning-rate schedules: functions of the step count, emitted into the Program.

A schedule is called with the number of finished steps (int64 []) and gives the rate (float32 []).
On NumPy integers it computes at once, which is how to plot one: `schedule(np.arange(100))`.
Bad numbers raise ArgumentError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o

Schedule = Callable[[Any], Any]


def _steps(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ArgumentError(f"{name} must be a positive number of steps", got=repr(value))


def _as_float(step: Any) -> Any:
    return o.cast(step, dtype="float32")


def _numbers(**values: float) -> None:
    for name, value in values.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ArgumentError(f"{name} must be a finite number", got=repr(value))


def step_decay(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """rate * factor^floor(step / every)."""
    _steps(every=every)
    _numbers(rate=rate, factor=factor)
    return lambda step: o.mul(
        o.pow(factor, o.cast(o.floor_divide(step, every), dtype="float32")), rate
    )


def piecewise(boundaries: Sequence[int], rates: Sequence[float]) -> Schedule:
    """rates[i] until step boundaries[i], rates[-1] afterwards."""
    if len(rates) != len(boundaries) + 1 or list(boundaries) != sorted(set(boundaries)):
        raise ArgumentError(
            "piecewise needs rising boundaries and one rate more than boundaries",
            got=f"boundaries {list(boundaries)}, {len(rates)} rates",
        )
    for r in rates:
        _numbers(rate=r)

    def schedule(step: Any) -> Any:
        rate = o.mul(_as_float(step), 0.0) + rates[-1]
        for b, r in reversed(list(zip(boundaries, rates, strict=False))):
            rate = o.where(o.less(step, b), r, rate)
        return o.cast(rate, dtype="float32")

    return schedule


def cosine(rate: float, steps: int, end: float = 0.0) -> Schedule:
    """From `rate` to `end` along half a cosine, then `end`.  (Loshchilov and Hutter, 2017)"""
    _steps(steps=steps)
    _numbers(rate=rate, end=end)

    def schedule(step: Any) -> Any:
        t = o.minimum(o.div(_as_float(step), float(steps)), 1.0)
        return o.add(o.mul(o.add(o.cos(o.mul(t, math.pi)), 1.0), (rate - end) / 2), end)

    return schedule


def polynomial(rate: float, steps: int, end: float = 0.0, power: float = 1.0) -> Schedule:
    """From `rate` to `end` as (1 - step/steps)^power, then `end`."""
    _steps(steps=steps)
    _numbers(rate=rate, end=end, power=power)
    if power <= 0:
        raise ArgumentError("power must be > 0", got=repr(power))

    def schedule(step: Any) -> Any:
        left = o.maximum(o.sub(1.0, o.div(_as_float(step), float(steps))), 0.0)
        return o.add(o.mul(o.pow(left, power), rate - end), end)

    return schedule


def exponential(rate: float, steps: int, factor: float) -> Schedule:
    """rate * factor^(step / steps)."""
    _steps(steps=steps)
    _numbers(rate=rate, factor=factor)
    if factor <= 0:
        raise ArgumentError("factor must be > 0", got=repr(factor))
    return lambda step: o.mul(o.pow(factor, o.div(_as_float(step), float(steps))), rate)


def inverse_sqrt(rate: float, warmup: int) -> Schedule:
    """Linear warm-up, then rate * sqrt(warmup / step).  (Vaswani et al., 2017)"""
    _steps(warmup=warmup)
    _numbers(rate=rate)

    def schedule(step: Any) -> Any:
        t = o.add(_as_float(step), 1.0)
        rising = o.div(t, float(warmup))
        return o.mul(o.minimum(rising, o.rsqrt(o.div(t, float(warmup)))), rate)

    return schedule


def warmup(schedule: float | Schedule, steps: int, start: float = 0.0) -> Schedule:
    """Linear from `start` to what `schedule` gives at step 0; then the schedule from its step 0."""
    _steps(steps=steps)
    _numbers(start=start)
    after: Schedule = schedule if callable(schedule) else constant(schedule)

    def warmed(step: Any) -> Any:
        t = o.minimum(o.div(_as_float(step), float(steps)), 1.0)
        rate = after(o.maximum(o.sub(step, steps), 0))
        return o.add(o.mul(o.sub(rate, start), t), start)

    return warmed


def constant(rate: float) -> Schedule:
    """The same rate at every step."""
    _numbers(rate=rate)
    return lambda step: o.add(o.mul(_as_float(step), 0.0), rate)
