"""Batch norm in training, the ReLU and the max-pooling behind it as one operator, and the gradient
of a batch norm behind which a max-pooling stands: what passes make of the first layers of a
residual network, so that what is pooled is never in memory, nor its gradient.

    x       [N, C, H, W]
    out     [N, C, windows...]
    places  [N, C, windows...] uint8, as of `max_pool2d_places`
"""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ops.batch_norm import BATCH_NORM, batch_norm, batch_norm_grad
from noria.ops.fused_norm import batch_norm_relu
from noria.ops.max_places import NOWHERE, max_pool2d_places, max_pool2d_spread
from noria.ops.numeric import single, widen
from noria.ops.rules import by_decomposition


@op(outputs=(*BATCH_NORM, "places"), overwrites=((3, 3), (4, 4)))
def pooled_batch_norm(
    x,
    scale,
    bias,
    mean,
    var,
    *,
    momentum=0.1,
    epsilon=1e-5,
    kernel,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
):
    """max_pool2d_places of relu(batch_norm(x, training=True)), and the other outputs of
    `batch_norm`.

    x, scale, bias, mean, var, momentum, epsilon: as in `batch_norm`; the others of the pooling.
    A place is that of the first of the largest of x in the window, of the smallest where scale is
    negative: rounding and the ReLU make no ties. Where out is NaN it is NOWHERE.
    """
    norm, pool = _both(locals())
    _, *rest = batch_norm_relu.infer([x, scale, bias, mean, var], norm)
    out, places = max_pool2d_places.infer([x], pool)
    return (out, *rest, places)


def _both(how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of the batch norm, and of the pooling."""
    norm = {name: how[name] for name in ("momentum", "epsilon")}
    return norm, pooling_of(how)


def pooling_of(how: Any) -> dict[str, Any]:
    """Attributes of the pooling among others."""
    return {name: how[name] for name in max_pool2d_places.bind_attrs({"kernel": 1})}


@pooled_batch_norm.compute
def _(xp, x, scale, bias, mean, var, **how):
    norm, pool = _both(how)
    vectors = [scale, bias, mean, var]
    given = [x, *vectors, None, None, None]
    whole, *rest = batch_norm_relu.run(xp, given, {**norm, "axis": 1, "mask": False})
    out, _ = max_pool2d_places.run(xp, [whole], pool)
    down = xp.expand_dims(scale < 0, (0, 2, 3))
    _, places = max_pool2d_places.run(xp, [xp.where(down, -x, x)], pool)
    return out, *rest, xp.where(xp.isnan(out), xp.asarray(NOWHERE, "uint8"), places)


@pooled_batch_norm.decompose
def _(x, scale, bias, mean, var, *, momentum=0.1, epsilon=1e-5, **pool):
    how = {"momentum": momentum, "epsilon": epsilon}
    whole, *rest = batch_norm(x, scale, bias, mean, var, training=True, **how)
    out, places = _pooled(x, scale, o.relu(whole), pool)
    return (out, *rest, places)


def _pooled(x: Any, scale: Any, whole: Any, pool: Any) -> tuple[Any, Any]:
    out = o.max_pool2d(whole, **pool)
    down = o.unsqueeze(o.less(scale, 0.0), axis=(0, 2, 3))
    _, places = max_pool2d_places(o.where(down, o.neg(x), x), **pool)
    nowhere = o.fill(shape=(), value=NOWHERE, dtype="uint8")
    return out, o.where(o.isnan(out), nowhere, places)


@pooled_batch_norm.for_test
def _(x, scale, bias, mean, var, *, momentum=0.1, epsilon=1e-5, **pool):
    whole = o.relu(batch_norm(x, scale, bias, mean, var, epsilon=epsilon))
    out, places = _pooled(x, scale, whole, pool)
    inv_std = o.rsqrt(o.add(single(var), epsilon))
    return out, single(mean), inv_std, mean, var, places


@pooled_batch_norm.work
def _(x):
    return 7.0 * x.size


@pooled_batch_norm.grad
def _(op, gs, vjp):
    return by_decomposition(op, gs, vjp)


@op(outputs=("gx", "g_scale", "g_bias"), overwrites=((0, 0),))
def pooled_batch_norm_grad(
    x,
    scale,
    mean,
    inv_std,
    grad,
    places,
    *,
    kernel,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
):
    """batch_norm_grad of a gradient that a max-pooling spreads: max_pool2d_spread(grad, places).

    x, scale, mean, inv_std: as in `batch_norm_grad`; grad, places: [N, C, windows...]; the
    attributes are those of the pooling. Halves are not rounded in between.
    """
    how = {**pooling_of(locals()), "sizes": x.shape[2:]}
    spread = max_pool2d_spread.infer([grad, places], how)[0]
    return batch_norm_grad.infer([x, scale, mean, inv_std, spread], {"axis": 1})


@pooled_batch_norm_grad.compute
def _(xp, x, scale, mean, inv_std, grad, places, **pool):
    how = {**pool, "sizes": x.shape[2:]}
    (spread,) = max_pool2d_spread.run(xp, [widen(grad), places], how)
    return batch_norm_grad.run(xp, [x, scale, mean, inv_std, spread], {"axis": 1})


@pooled_batch_norm_grad.decompose
def _(x, scale, mean, inv_std, grad, places, **pool):
    spread = max_pool2d_spread(grad, places, sizes=x.shape[2:], **pool)
    return batch_norm_grad(x, scale, mean, inv_std, spread)


@pooled_batch_norm_grad.work
def _(x):
    return 9.0 * x.size
