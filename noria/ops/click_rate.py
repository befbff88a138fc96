"""Shows and clicks among the features of an advertisement."""

from __future__ import annotations

from noria.core.errors import ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_same_shape
from noria.ops.numeric import in_float32


@op
def continuous_value_model(x, counts, *, use_counts=True):
    """Shows and clicks, the first two columns of x, as log(shows + 1) and log(clicks + 1) -
    log(shows + 1); without use_counts these columns are left out.  (Baidu's CTR models)

    x: [N, D]; counts: [N, 2]; out: [N, D], or [N, D - 2].
    The gradient of the two columns is `counts` itself, whatever comes in: a table of embeddings
    learns with each row how often it was shown and clicked.
    """
    need_float(x, counts)
    need_rank(x, 2)
    if isinstance(x.shape[1], int) and x.shape[1] < 2:
        raise ShapeError("two columns hold shows and clicks", got=str(x))
    require_same_shape(Spec((x.shape[0], 2), counts.dtype), counts, "counts")
    return x if use_counts else Spec((x.shape[0], x.shape[1] - 2), x.dtype)


@continuous_value_model.compute
@in_float32
def _(xp, x, counts, use_counts):
    if not use_counts:
        return x[:, 2:]
    logs = xp.log(x[:, :2] + 1)
    return xp.concatenate([logs[:, :1], logs[:, 1:] - logs[:, :1], x[:, 2:]], axis=1)


@continuous_value_model.grad
def _(x, counts, g, use_counts):
    rest = o.slice(g, axes=(1,), starts=(2,), stops=(None,)) if use_counts else g
    return o.concat(o.cast(counts, dtype=x.dtype), rest, axis=1), None
