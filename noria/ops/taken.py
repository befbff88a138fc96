"""Gradients of a convolution behind which only a max-pooling stands, from the gradient of what that
gave and the places it took: what passes make of the first layers of LeNet and its like.

    x       [N, C, H, W]             grad, places  [N, O, windows...]
    out     [O, C, KH, KW]

A window gives its gradient to one of the elements it sees. So these have as many terms as there are
windows, where the convolution has one for each element; NaN and infinities in x or weight count
only where a window took what they led to.
"""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import lookup, op
from noria.ops.common import need_rank
from noria.ops.max_places import max_pool2d_spread
from noria.ops.window import slide

POOL = ("pool_kernel", "pool_stride", "pool_padding", "ceil_mode")


def _both(x: Any, kernel: Any, stride: Any, padding: Any, pool: Any) -> tuple[Any, Any]:
    """Attributes of the operator that spreads the gradient, and of that by the weight."""
    by_weight = {"kernel": kernel, "stride": stride, "padding": padding}
    names = ("kernel", "stride", "padding", "ceil_mode")
    spread = dict(zip(names, (pool[name] for name in POOL), strict=True))
    spread["sizes"] = slide(x.shape[2:], kernel, stride, padding).out
    weight_grad = lookup("conv2d_weight_grad")
    return max_pool2d_spread.bind_attrs(spread), weight_grad.bind_attrs(by_weight)


@op
def taken_input_grad(
    grad,
    places,
    weight,
    *,
    sizes,
    stride=1,
    padding=0,
    pool_kernel,
    pool_stride=None,
):
    """conv2d_input_grad(max_pool2d_spread(grad, places), weight), for x [N, C, sizes...].

    stride, padding: of the convolution; the others of the pooling, which has no padding.
    """
    to_spread, by_input = _by_input(sizes, weight, stride, padding, pool_kernel, pool_stride)
    (spread,) = max_pool2d_spread.infer([grad, places], to_spread)
    return lookup("conv2d_input_grad").infer([spread, weight], by_input)[0]


@taken_input_grad.compute
def _(xp, grad, places, weight, sizes, stride, padding, pool_kernel, pool_stride):
    to_spread, by_input = _by_input(sizes, weight, stride, padding, pool_kernel, pool_stride)
    (spread,) = max_pool2d_spread.run(xp, [grad, places], to_spread)
    return lookup("conv2d_input_grad").run(xp, [spread, weight], by_input)[0]


@taken_input_grad.work
def _(grad, weight):
    return 2.0 * grad.size * (weight.size // max(weight.shape[0], 1))


def _by_input(
    sizes: Any, weight: Any, stride: Any, padding: Any, pool_kernel: Any, pool_stride: Any
) -> tuple[Any, Any]:
    """Attributes of the operator that spreads the gradient, and of that by the input."""
    spread = {"kernel": pool_kernel, "stride": pool_stride}
    spread["sizes"] = slide(sizes, weight.shape[2:], stride, padding).out
    by_input = {"sizes": sizes, "stride": stride, "padding": padding}
    input_grad = lookup("conv2d_input_grad")
    return max_pool2d_spread.bind_attrs(spread), input_grad.bind_attrs(by_input)


@op
def taken_weight_grad(
    x,
    grad,
    places,
    *,
    kernel,
    stride=1,
    padding=0,
    pool_kernel,
    pool_stride=None,
    pool_padding=0,
    ceil_mode=False,
):
    """conv2d_weight_grad(x, max_pool2d_spread(grad, places)).

    kernel, stride, padding: of the convolution; the others of the pooling.
    """
    need_rank(x, 4)
    pool = dict(zip(POOL, (pool_kernel, pool_stride, pool_padding, ceil_mode), strict=True))
    to_spread, by_weight = _both(x, kernel, stride, padding, pool)
    (spread,) = max_pool2d_spread.infer([grad, places], to_spread)
    return lookup("conv2d_weight_grad").infer([x, spread], by_weight)[0]


@taken_weight_grad.compute
def _(xp, x, grad, places, kernel, stride, padding, **pool):
    to_spread, by_weight = _both(x, kernel, stride, padding, pool)
    (spread,) = max_pool2d_spread.run(xp, [grad, places], to_spread)
    return lookup("conv2d_weight_grad").run(xp, [x, spread], by_weight)[0]


@taken_weight_grad.work
def _(grad, out):
    return 2.0 * grad.size * (out.size // max(out.shape[0], 1))
