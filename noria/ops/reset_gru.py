"""The gated recurrent unit as first published: the reset gate acts on h, before the product.

`gru` of `recurrent.py` resets after the product, as PyTorch and cuDNN do, which needs one product
a step; this one needs two. Both are in use: ONNX has both, PaddlePaddle's `gru` is this one.
"""

from __future__ import annotations

from typing import Any

from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ops.common import need_float, need_rank, require_equal, require_same_shape
from noria.ops.numeric import in_float32
from noria.ops.rules import by_decomposition
from noria.ops.steps import (
    scan_steps,
    sigmoid,
    slope_of_sigmoid,
    slope_of_tanh,
    state_or_zeros,
    state_value,
    states_spec,
    step_before,
    steps_spec,
    unroll,
)


@op(outputs=("out", "gates"), overwrites=((1, 0),))
def gru_reset_before(x, weight, row_splits, h0=None, *, reverse=False):
    """(h, gates) of the gated recurrent unit, reset before the product.  (Cho et al., 2014)

        a, b = split(h @ weight[:2H].T),  r, z = sigmoid(x_r + a), sigmoid(x_z + b)
        n = tanh(x_n + (r * h) @ weight[2H:].T),   h = (1 - z) * n + z * h

    x: [T, 3H] = x_r, x_z, x_n, what the input gives to the gates, biases included;
    weight: [3H, H]; row_splits: [N + 1]; h0: [N, H], default zeros.
    h: [T, H], after each step; gates: [T, 3H] = r, z, n.
    reverse: each row from its last step to its first.
    """
    state = states_spec(x, weight, 3, row_splits, h0=h0)
    return steps_spec(x, state.shape[1]), x


@gru_reset_before.compute
@in_float32
def _(xp, x, weight, row_splits, h0, reverse):
    size = weight.shape[1]
    gates, new = weight[: 2 * size], weight[2 * size :]

    def step(x_t: Any, h: Any) -> Any:
        rz = sigmoid(xp, x_t[:, : 2 * size] + h @ gates.T)
        r, z = rz[:, :size], rz[:, size:]
        n = xp.tanh(x_t[:, 2 * size :] + (r * h) @ new.T)
        h = (1 - z) * n + z * h
        return (h,), (h, xp.concatenate([rz, n], -1))

    states = [state_or_zeros(xp, h0, row_splits, weight)]
    return tuple(unroll(xp, step, row_splits, [x], states, (size, 3 * size), reverse)[1])


@gru_reset_before.grad
def _(weight, row_splits, h0, out, gates, gs, op, vjp, reverse):
    if gs[0] is None or gs[1] is not None:
        return by_decomposition(op, gs, vjp)
    dx, dh0 = o.gru_reset_before_grad(gates, out, weight, row_splits, gs[0], h0, reverse=reverse)
    size = weight.shape[1]
    before = o.sequence_shift(out, row_splits, h0, reverse=reverse)
    d_gates, dn = o.split(dx, sizes=(2 * size, size), axis=1)
    r = o.slice(gates, axes=(1,), starts=(0,), stops=(size,))
    d_weight = o.concat(
        o.matmul(d_gates, before, transpose_x=True),
        o.matmul(dn, o.mul(r, before), transpose_x=True),
        axis=0,
    )
    return {"x": dx, "weight": d_weight, "h0": None if h0 is None else dh0}


@gru_reset_before.decompose
def _(x, weight, row_splits, h0=None, *, reverse=False):
    size = weight.shape[1]
    of_gates, of_new = o.split(weight, sizes=(2 * size, size), axis=0)

    def step(x_t: Any, h: Any) -> Any:
        x_rz, x_n = o.split(x_t, sizes=(2 * size, size), axis=0)
        rz = o.sigmoid(o.add(x_rz, o.linear(h, of_gates)))
        r, z = o.split(rz, num=2, axis=0)
        n = o.tanh(o.add(x_n, o.linear(o.mul(r, h), of_new)))
        h = o.add(o.mul(o.sub(1.0, z), n), o.mul(z, h))
        return (h,), (h, o.concat(rz, n, axis=0))

    states = [state_value(h0, row_splits, size, x.dtype)]
    return scan_steps(step, row_splits, [x], states, reverse)


@op(outputs=("dx", "dh0"), overwrites=((0, 0),))
def gru_reset_before_grad(gates, h, weight, row_splits, grad, h0=None, *, reverse=False):
    """Gradients of `gru_reset_before` in x [T, 3H] and h0 [N, H].

    gates, h: as `gru_reset_before` gives them; grad: [T, H], that of h.
    """
    need_float(gates, h, grad)
    need_rank(gates, 2, what="gates")
    state = states_spec(gates, weight, 3, row_splits, h0=h0)
    require_equal(gates.shape[1], 3 * state.shape[1], "the size of gates and 3 times that of h")
    for name, value in {"h": h, "grad": grad}.items():
        require_same_shape(steps_spec(gates, state.shape[1]), value, name)
    return gates, state


@gru_reset_before_grad.compute
@in_float32
def _(xp, gates, h, weight, row_splits, grad, h0, reverse):
    size = weight.shape[1]
    of_gates, of_new = weight[: 2 * size], weight[2 * size :]

    def step(gate: Any, before: Any, g: Any, dh: Any) -> Any:
        r, z, n = xp.split(gate, 3, axis=-1)
        dh = dh + g
        dn = dh * (1 - z) * (1 - n * n)
        dz = dh * (before - n) * z * (1 - z)
        d_reset = dn @ of_new
        drz = xp.concatenate([d_reset * before * r * (1 - r), dz], -1)
        return (drz @ of_gates + d_reset * r + dh * z,), (xp.concatenate([drz, dn], -1),)

    before = step_before(xp, h, row_splits, h0, reverse)
    given, state = [gates, before, grad], state_or_zeros(xp, None, row_splits, weight)
    (dh,), (dx,) = unroll(xp, step, row_splits, given, [state], (3 * size,), not reverse)
    return dx, dh


@gru_reset_before_grad.decompose
def _(gates, h, weight, row_splits, grad, h0=None, *, reverse=False):
    size = weight.shape[1]
    of_gates, of_new = o.split(weight, sizes=(2 * size, size), axis=0)

    def step(gate: Any, before: Any, g: Any, dh: Any) -> Any:
        r, z, n = o.split(gate, num=3, axis=0)
        dh = o.add(dh, g)
        dn = o.mul(o.mul(dh, o.sub(1.0, z)), slope_of_tanh(n))
        dz = o.mul(o.mul(dh, o.sub(before, n)), slope_of_sigmoid(z))
        d_reset = o.matmul(dn, of_new)
        dr = o.mul(o.mul(d_reset, before), slope_of_sigmoid(r))
        drz = o.concat(dr, dz, axis=0)
        new = o.add(o.matmul(drz, of_gates), o.add(o.mul(d_reset, r), o.mul(dh, z)))
        return (new,), (o.concat(drz, dn, axis=0), new)

    before = o.sequence_shift(h, row_splits, h0, reverse=reverse)
    state = state_value(None, row_splits, size, gates.dtype)
    dx, dh = scan_steps(step, row_splits, [gates, before, grad], [state], not reverse)
    return dx, o.sequence_end(dh, row_splits, first=not reverse)


@gru_reset_before_grad.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)
