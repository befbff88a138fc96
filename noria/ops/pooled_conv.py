"""A convolution and the max-pooling behind it as one operator, in training: what passes make of a
network's first layers, so that what is pooled is never in memory.

    x       [N, C, H, W]        weight  [O, C, KH, KW]        bias  [O] or None
    out     [N, O, windows...]  places  [N, O, windows...] uint8, as of `max_pool2d_places`
"""

from __future__ import annotations

from math import prod
from typing import Any

from noria.ir.opdef import lookup, op
from noria.ops.fused import fused_conv2d
from noria.ops.max_places import max_pool2d_places
from noria.ops.window import slide


def _both(how: Any) -> tuple[Any, Any]:
    """Attributes of the convolution, and of the pooling."""
    conv = {k: v for k, v in how.items() if not k.startswith("pool_")}
    pool = {"kernel": how["pool_kernel"], "stride": how["pool_stride"]}
    return lookup("fused_conv2d").bind_attrs(conv), max_pool2d_places.bind_attrs(pool)


@op(outputs=("out", "places"))
def pooled_conv2d(
    x, weight, bias=None, *, stride=1, padding=0, activation=None, pool_kernel, pool_stride=None
):
    """max_pool2d_places(fused_conv2d(x, weight, bias)).

    stride, padding, activation: of the convolution; the others of the pooling.
    """
    how = {"stride": stride, "padding": padding, "activation": activation}
    conv, pool = _both({**how, "pool_kernel": pool_kernel, "pool_stride": pool_stride})
    return tuple(max_pool2d_places.infer(fused_conv2d.infer([x, weight, bias, None], conv), pool))


@pooled_conv2d.compute
def _(xp, x, weight, bias, **how):
    conv, pool = _both(how)
    return max_pool2d_places.run(xp, fused_conv2d.run(xp, [x, weight, bias, None], conv), pool)


@pooled_conv2d.work
def _(x, weight, stride, padding):
    out = slide(x.shape[2:], weight.shape[2:], stride, padding).out
    return 2.0 * x.shape[0] * prod(map(int, out)) * weight.size
