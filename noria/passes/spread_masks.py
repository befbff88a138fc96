"""The mask of a ReLU, and sums for a bias, before a max-pooling spreads the gradient, not after
it: rules of `simplify`. They are exact, NaN and windows of nothing but padding included.
"""

from __future__ import annotations

from typing import Any

from noria.core.dtypes import is_float
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ops import pool as _pool  # noqa: F401 - registers what the rules name
from noria.ops.common import axes_of
from noria.passes.rule import Match, Rule


def _positive(x: Any, g: Any) -> Any:
    """The gradient g where the output x of a ReLU is above 0."""
    return o.where(o.greater(x, 0.0), g, 0.0)


def _masked_first(n: int) -> Rule:
    """An element that is the largest of a window is positive where the window's result is; so the
    smaller gradient can be masked."""
    gradient = lookup(f"max_pool{n}d_grad")

    def pattern(
        x: Any,
        pooled: Any,
        g: Any,
        *,
        kernel: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        ceil_mode: Any,
    ) -> Any:
        how = {"kernel": kernel, "stride": stride, "padding": padding}
        spread = gradient(x, pooled, g, dilation=dilation, ceil_mode=ceil_mode, **how)
        return _positive(x, spread)

    def masked(x: Any, pooled: Any, g: Any, match: Match) -> Any:
        return gradient(x, pooled, _positive(pooled, g), **match.of(gradient.name).attrs)

    return Rule(pattern, None, masked, "mask of a spread gradient")


def _over_images(m: Match) -> str | None:
    """Does the sum leave nothing but channels?"""
    ndim = m["x"].ndim
    whole = axes_of(m["axis"], ndim) == (0, *range(2, ndim)) and is_float(m["x"].dtype)
    return None if whole else ""  # nobody wants to read why


def _sum_before(n: int) -> Rule:
    """What a max-pooling spreads has the sum of what it is given, less what belongs to windows of
    nothing but padding, or with NaN: these are not positive."""
    gradient = lookup(f"max_pool{n}d_grad")

    def pattern(
        x: Any,
        pooled: Any,
        g: Any,
        *,
        axis: Any,
        keepdims: Any,
        kernel: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        ceil_mode: Any,
    ) -> Any:
        how = {"kernel": kernel, "stride": stride, "padding": padding}
        masked = _positive(pooled, g)
        spread = gradient(x, pooled, masked, dilation=dilation, ceil_mode=ceil_mode, **how)
        return o.reduce_sum(spread, axis=axis, keepdims=keepdims)

    def early(axis: Any, keepdims: Any, match: Match) -> Any:
        masked = match.of(gradient.name).operands[2]
        return o.reduce_sum(masked, axis=axis, keepdims=keepdims)

    return Rule(pattern, _over_images, early, "sum of a spread gradient", shared=True)


MASKS = [rule(n) for n in (1, 2, 3) for rule in (_masked_first, _sum_before)]
