"""Recurrent layers over ragged batches: LSTM, GRU and the plain network of Elman.

Each takes what the input contributes to all steps at once (`x`, one product made before), and does
only what has to be done step by step. The batch is packed (see `sequence.py`): no step is padded.
Weights, the order of gates and the arithmetic are PyTorch's, so its parameters can be loaded.
The gradient of a weight is one product over all steps, made of ordinary operators.

A weight may be of halves where the rest is float32 (`lower_precision` makes it so): what it is
multiplied by is then rounded at each step, h and the gradients of x have its dtype, and the rest is
float32 as before.
"""

from __future__ import annotations

from typing import Any

from noria.core.errors import ArgumentError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Spec
from noria.ops.common import need_float, need_rank, require_equal, require_same_shape
from noria.ops.numeric import cast_like
from noria.ops.rules import by_decomposition
from noria.ops.steps import (
    product_with,
    scan_steps,
    shifted,
    sigmoid,
    slope_of_sigmoid,
    slope_of_tanh,
    state_or_zeros,
    state_value,
    states_spec,
    step_before,
    steps_spec,
    unroll,
    weight_grad,
    with_products,
)

# ---- LSTM --------------------------------------------------------------------------------------


@op(outputs=("out", "c", "gates"), overwrites=((2, 0),))
def lstm(
    x, weight, row_splits, h0=None, c0=None, peepholes=None, *, reverse=False, recompute=False
):
    """(h, c, gates) of long short-term memory.  (Hochreiter & Schmidhuber, 1997; Gers et al., 2000)

        i, f, g, o = split(x + h @ weight.T),  i, f, o = sigmoid(i, f, o),  g = tanh(g)
        c = f * c + i * g,   h = o * tanh(c)

    x: [T, 4H], what the input gives to the gates, biases included; weight: [4H, H];
    row_splits: [N + 1]; h0, c0: [N, H], the state before the first step, default zeros;
    peepholes: [3, H], times c to the gates i and f (c before the step) and o (c after it).
    h, c: [T, H], after each step; gates: [T, 4H], which the gradient needs.
    reverse: each row from its last step to its first. recompute: the gradient takes x and computes
    the gates again, as one product over all steps, from h.
    """
    state = states_spec(x, weight, 4, row_splits, h0=h0, c0=c0)
    _need_peepholes(peepholes, state)
    steps = steps_spec(x, state.shape[1])
    return Spec(steps.shape, weight.dtype), steps, x


def _need_peepholes(peepholes: Spec | None, state: Spec) -> None:
    if peepholes is not None:
        require_same_shape(Spec((3, state.shape[1]), state.dtype), peepholes, "peepholes")


def _lstm_step(f: Any, xp: Any, z: Any, c: Any, peepholes: Any) -> tuple[Any, Any, list[Any]]:
    to_i, to_f, to_o = (None, None, None) if peepholes is None else peepholes
    i, forget, g, out = xp.split(z, 4, axis=-1)
    i, forget, g = f(_plus(i, to_i, c)), f(_plus(forget, to_f, c)), xp.tanh(g)
    c = forget * c + i * g
    out = f(_plus(out, to_o, c))
    return out * xp.tanh(c), c, [i, forget, g, out]


def _plus(z: Any, peephole: Any, c: Any) -> Any:
    return z if peephole is None else z + peephole * c


@lstm.compute
@with_products(weight=1, like=(1, 0, 0))
def _(xp, narrow, x, weight, row_splits, h0, c0, peepholes, reverse, recompute):
    def step(x_t: Any, h: Any, c: Any) -> Any:
        z = x_t + narrow(h) @ weight.T
        h, c, gates = _lstm_step(lambda a: sigmoid(xp, a), xp, z, c, peepholes)
        return (h, c), (h, c, xp.concatenate(gates, -1))

    size = weight.shape[1]
    states = [state_or_zeros(xp, s, row_splits, weight) for s in (h0, c0)]
    return tuple(unroll(xp, step, row_splits, [x], states, (size, size, 4 * size), reverse)[1])


def _lstm_gates(x: Any, before: Any, weight: Any, peeped: Any) -> Any:
    """All gates of all steps in one pass over memory: tanh(z) is 2 sigmoid(2 z) - 1."""
    size = weight.shape[1]
    ones = o.fill(shape=(size,), value=1.0, dtype=x.dtype)
    slope = o.concat(ones, ones, o.add(ones, ones), ones, axis=0)
    z = o.add(x, product_with(weight, before, x, turned=True))
    z = o.mul(z if peeped is None else o.add(z, peeped), slope)
    return o.add(o.mul(o.sigmoid(z), slope), o.sub(1.0, slope))


@lstm.grad
def _(op, gs, vjp):
    x, weight, row_splits, h0, c0, peepholes = [*op.inputs, None, None, None][:6]
    (out, c, gates), (g_out, g_c, g_gates) = op.outputs, gs
    reverse = op.attrs["reverse"]
    if g_gates is not None:
        return by_decomposition(op, gs, vjp)
    before = None
    if peepholes is not None:
        before = o.sequence_shift(c, row_splits, c0, reverse=reverse)
    if op.attrs["recompute"]:
        h_before = shifted(out, row_splits, h0, reverse)
        gates = _lstm_gates(x, h_before, weight, _peeped(peepholes, before, c))
    given = (gates, c, weight, row_splits, g_out, g_c, c0, peepholes)
    dx, dh0, dc0 = o.lstm_grad(*given, reverse=reverse)
    return {
        "x": cast_like(dx, x),
        "weight": weight_grad(dx, out, row_splits, h0, reverse),
        "h0": None if h0 is None else dh0,
        "c0": None if c0 is None else dc0,
        "peepholes": None if peepholes is None else _peepholes_grad(dx, before, c),
    }


def _peeped(peepholes: Any, before: Any, c: Any) -> Any:
    """What the peepholes give to all gates of all steps."""
    if peepholes is None:
        return None
    to_i, to_f, to_o = o.split(peepholes, num=3, axis=0)
    i, f, out = o.mul(before, to_i), o.mul(before, to_f), o.mul(c, to_o)
    return o.concat(i, f, o.fill(shape=c.shape, value=0.0, dtype=c.dtype), out, axis=1)


def _peepholes_grad(dx: Any, before: Any, c: Any) -> Any:
    di, df, _, do = o.split(dx, num=4, axis=1)
    pairs = (di, before), (df, before), (do, c)
    return o.concat(*(o.reduce_sum(o.mul(d, s), axis=0, keepdims=True) for d, s in pairs), axis=0)


@lstm.decompose
def _(x, weight, row_splits, h0=None, c0=None, peepholes=None, *, reverse=False, recompute=False):
    to_i, to_f, to_o = _each_peephole(peepholes)

    def step(x_t: Any, h: Any, c: Any) -> Any:
        z = o.add(x_t, product_with(weight, h, x, turned=True))
        i, f, g, out = o.split(z, num=4, axis=0)
        i, f, g = o.sigmoid(_peep(i, c, to_i)), o.sigmoid(_peep(f, c, to_f)), o.tanh(g)
        c = o.add(o.mul(f, c), o.mul(i, g))
        out = o.sigmoid(_peep(out, c, to_o))
        h = o.mul(out, o.tanh(c))
        return (h, c), (cast_like(h, weight), c, o.concat(i, f, g, out, axis=0))

    size = weight.shape[1]
    states = [state_value(s, row_splits, size, x.dtype) for s in (h0, c0)]
    return scan_steps(step, row_splits, [x], states, reverse)


def _each_peephole(peepholes: Any) -> list[Any]:
    if peepholes is None:
        return [None] * 3
    return [o.squeeze(p, axis=0) for p in o.split(peepholes, num=3, axis=0)]


def _peep(z: Any, c: Any, peephole: Any) -> Any:
    return z if peephole is None else o.add(z, o.mul(c, peephole))


@op(outputs=("dx", "dh0", "dc0"), overwrites=((0, 0),))
def lstm_grad(
    gates, c, weight, row_splits, grad=None, grad_c=None, c0=None, peepholes=None, *, reverse=False
):
    """Gradients of `lstm` in x [T, 4H], h0 and c0 [N, H], from those of h and c [T, H].

    gates, c: as `lstm` gives them; grad, grad_c: None where there is none.
    """
    state = states_spec(gates, weight, 4, row_splits, c0=c0)
    _need_peepholes(peepholes, state)
    steps = steps_spec(gates, state.shape[1])
    for name, value in {"c": c, "grad": grad, "grad_c": grad_c}.items():
        if value is not None:
            require_same_shape(steps, value, name)
    return Spec(gates.shape, weight.dtype), state, state


@lstm_grad.compute
@with_products(weight=2, like=(2, 0, 0))
def _(xp, narrow, gates, c, weight, row_splits, grad, grad_c, c0, peepholes, reverse):
    to_i, to_f, to_o = (None, None, None) if peepholes is None else peepholes

    def step(gate: Any, c: Any, before: Any, g: Any, gc: Any, dh: Any, dc: Any) -> Any:
        i, f, n, out = xp.split(gate, 4, axis=-1)
        dh, tanh_c = dh + g, xp.tanh(c)
        d_out = dh * tanh_c * out * (1 - out)
        dc = _plus(dc + gc + dh * out * (1 - tanh_c * tanh_c), to_o, d_out)
        di, df = dc * n * i * (1 - i), dc * before * f * (1 - f)
        dx = narrow(xp.concatenate([di, df, dc * i * (1 - n * n), d_out], -1))
        return (dx @ weight, _plus(_plus(dc * f, to_i, di), to_f, df)), (dx,)

    before = step_before(xp, c, row_splits, c0, reverse)
    more = [xp.zeros_like(c) if v is None else v for v in (grad, grad_c)]
    given, state = [gates, c, before, *more], state_or_zeros(xp, None, row_splits, weight)
    widths = (gates.shape[1],)
    (dh, dc), (dx,) = unroll(xp, step, row_splits, given, [state, state], widths, not reverse)
    return dx, dh, dc


@lstm_grad.decompose
def _(
    gates, c, weight, row_splits, grad=None, grad_c=None, c0=None, peepholes=None, *, reverse=False
):
    to_i, to_f, to_o = _each_peephole(peepholes)

    def step(gate: Any, c: Any, before: Any, g: Any, gc: Any, dh: Any, dc: Any) -> Any:
        i, f, n, out = o.split(gate, num=4, axis=0)
        dh, tanh_c = o.add(dh, cast_like(g, dh)), o.tanh(c)
        through = o.mul(o.mul(dh, out), slope_of_tanh(tanh_c))
        d_out = o.mul(o.mul(dh, tanh_c), slope_of_sigmoid(out))
        dc = _peep(o.add(o.add(dc, gc), through), d_out, to_o)
        di = o.mul(o.mul(dc, n), slope_of_sigmoid(i))
        df = o.mul(o.mul(dc, before), slope_of_sigmoid(f))
        dx = o.concat(di, df, o.mul(o.mul(dc, i), slope_of_tanh(n)), d_out, axis=0)
        dx = cast_like(dx, weight)
        new = (
            product_with(weight, dx, gates, turned=False),
            _peep(_peep(o.mul(dc, f), di, to_i), df, to_f),
        )
        return new, (dx, *new)

    size = weight.shape[1]
    before = o.sequence_shift(c, row_splits, c0, reverse=reverse)
    zeros = o.fill(shape=c.shape, value=0.0, dtype=c.dtype)
    given = [gates, c, before, *(zeros if v is None else v for v in (grad, grad_c))]
    state = state_value(None, row_splits, size, gates.dtype)
    dx, *states = scan_steps(step, row_splits, given, [state, state], not reverse)
    return dx, *(o.sequence_end(s, row_splits, first=not reverse) for s in states)


@lstm_grad.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)


# ---- GRU ---------------------------------------------------------------------------------------


@op(outputs=("out", "gates"))
def gru(x, weight, row_splits, bias=None, h0=None, *, reverse=False, recompute=False):
    """(h, gates) of the gated recurrent unit, reset after the product.  (Cho et al., 2014)

        a, b, m = split(h @ weight.T + bias),  r, z = sigmoid(x_r + a), sigmoid(x_z + b)
        n = tanh(x_n + r * m),   h = (1 - z) * n + z * h

    x: [T, 3H] = x_r, x_z, x_n, what the input gives to the gates, its biases included;
    weight: [3H, H]; bias: [3H], of the recurrent product; row_splits: [N + 1]; h0: [N, H],
    default zeros. h: [T, H], after each step; gates: [T, 4H] = r, z, n, m.
    reverse: each row from its last step to its first. recompute: as of `lstm`.
    """
    state = states_spec(x, weight, 3, row_splits, h0=h0)
    if bias is not None:
        require_same_shape(Spec(weight.shape[:1]), bias, "bias")
    out = steps_spec(x, state.shape[1])
    return Spec(out.shape, weight.dtype), steps_spec(x, 4 * state.shape[1])


@gru.compute
@with_products(weight=1, like=(1, 0))
def _(xp, narrow, x, weight, row_splits, bias, h0, reverse, recompute):
    shift = xp.zeros(weight.shape[:1], x.dtype) if bias is None else bias

    def step(x_t: Any, h: Any) -> Any:
        x_r, x_z, x_n = xp.split(x_t, 3, axis=-1)
        a, b, m = xp.split(narrow(h) @ weight.T + shift, 3, axis=-1)
        r, z = sigmoid(xp, x_r + a), sigmoid(xp, x_z + b)
        n = xp.tanh(x_n + r * m)
        h = (1 - z) * n + z * h
        return (h,), (h, xp.concatenate([r, z, n, m], -1))

    size = weight.shape[1]
    states = [state_or_zeros(xp, h0, row_splits, weight)]
    return tuple(unroll(xp, step, row_splits, [x], states, (size, 4 * size), reverse)[1])


@gru.grad
def _(op, gs, vjp):
    x, weight, row_splits, bias, h0 = [*op.inputs, None, None][:5]
    (out, gates), (g_out, g_gates) = op.outputs, gs
    reverse = op.attrs["reverse"]
    if g_gates is not None:
        return by_decomposition(op, gs, vjp)
    if op.attrs["recompute"]:
        product = product_with(weight, shifted(out, row_splits, h0, reverse), x, bias, turned=True)
        a, b, m = o.split(product, num=3, axis=1)
        x_r, x_z, x_n = o.split(x, num=3, axis=1)
        r, z = o.sigmoid(o.add(x_r, a)), o.sigmoid(o.add(x_z, b))
        gates = o.concat(r, z, o.tanh(o.add(x_n, o.mul(r, m))), m, axis=1)
    dx, da, dh0 = o.gru_grad(gates, out, weight, row_splits, g_out, h0, reverse=reverse)
    return {
        "x": cast_like(dx, x),
        "weight": weight_grad(da, out, row_splits, h0, reverse),
        "bias": None if bias is None else cast_like(o.reduce_sum(da, axis=0), bias),
        "h0": None if h0 is None else dh0,
    }


@gru.decompose
def _(x, weight, row_splits, bias=None, h0=None, *, reverse=False, recompute=False):
    def step(x_t: Any, h: Any) -> Any:
        x_r, x_z, x_n = o.split(x_t, num=3, axis=0)
        a, b, m = o.split(product_with(weight, h, x, bias, turned=True), num=3, axis=0)
        r, z = o.sigmoid(o.add(x_r, a)), o.sigmoid(o.add(x_z, b))
        n = o.tanh(o.add(x_n, o.mul(r, m)))
        h = o.add(o.mul(o.sub(1.0, z), n), o.mul(z, h))
        return (h,), (cast_like(h, weight), o.concat(r, z, n, m, axis=0))

    states = [state_value(h0, row_splits, weight.shape[1], x.dtype)]
    return scan_steps(step, row_splits, [x], states, reverse)


@op(outputs=("dx", "da", "dh0"))
def gru_grad(gates, h, weight, row_splits, grad, h0=None, *, reverse=False):
    """Gradients of `gru` in x [T, 3H], in the recurrent product [T, 3H], in h0 [N, H].

    gates, h: as `gru` gives them; grad: [T, H], that of h.
    """
    need_float(gates, h, grad)
    need_rank(gates, 2, what="gates")
    steps = steps_spec(gates, weight.shape[0])
    state = states_spec(steps, weight, 3, row_splits, h0=h0)
    size = state.shape[1]
    require_equal(gates.shape[1], 4 * size, "the size of gates and 4 times the columns of weight")
    for name, value in {"h": h, "grad": grad}.items():
        require_same_shape(steps_spec(gates, size), value, name)
    return *[Spec(steps.shape, weight.dtype)] * 2, state


@gru_grad.compute
@with_products(weight=2, like=(2, 2, 0))
def _(xp, narrow, gates, h, weight, row_splits, grad, h0, reverse):
    def step(gate: Any, before: Any, g: Any, dh: Any) -> Any:
        r, z, n, m = xp.split(gate, 4, axis=-1)
        dh = dh + g
        dn = dh * (1 - z) * (1 - n * n)
        dr, dz = dn * m * r * (1 - r), dh * (before - n) * z * (1 - z)
        da = narrow(xp.concatenate([dr, dz, dn * r], -1))
        return (da @ weight + dh * z,), (xp.concatenate([dr, dz, dn], -1), da)

    before = step_before(xp, h, row_splits, h0, reverse)
    given, state = [gates, before, grad], state_or_zeros(xp, None, row_splits, weight)
    widths = (weight.shape[0],) * 2
    (dh,), (dx, da) = unroll(xp, step, row_splits, given, [state], widths, not reverse)
    return dx, da, dh


@gru_grad.decompose
def _(gates, h, weight, row_splits, grad, h0=None, *, reverse=False):
    def step(gate: Any, before: Any, g: Any, dh: Any) -> Any:
        r, z, n, m = o.split(gate, num=4, axis=0)
        dh = o.add(dh, cast_like(g, dh))
        dn = o.mul(o.mul(dh, o.sub(1.0, z)), slope_of_tanh(n))
        dr = o.mul(o.mul(dn, m), slope_of_sigmoid(r))
        dz = o.mul(o.mul(dh, o.sub(before, n)), slope_of_sigmoid(z))
        da = cast_like(o.concat(dr, dz, o.mul(dn, r), axis=0), weight)
        new = o.add(product_with(weight, da, gates, turned=False), o.mul(dh, z))
        return (new,), (cast_like(o.concat(dr, dz, dn, axis=0), weight), da, new)

    before = shifted(cast_like(h, gates), row_splits, h0, reverse)
    state = state_value(None, row_splits, weight.shape[1], gates.dtype)
    dx, da, dh = scan_steps(step, row_splits, [gates, before, grad], [state], not reverse)
    return dx, da, o.sequence_end(dh, row_splits, first=not reverse)


@gru_grad.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)


# ---- plain -------------------------------------------------------------------------------------


_ACTIVATIONS = ("tanh", "relu")


def _need_activation(activation: str) -> None:
    if activation not in _ACTIVATIONS:
        raise ArgumentError("a plain recurrent network has tanh or relu", got=repr(activation))


@op(overwrites=((0, 0),))
def rnn(x, weight, row_splits, h0=None, *, activation="tanh", reverse=False):
    """h = activation(x + h @ weight.T) at each step.  (Elman, 1990)

    x: [T, H], what the input gives, biases included; weight: [H, H]; row_splits: [N + 1];
    h0: [N, H], the state before the first step, default zeros; out: [T, H].
    activation: "tanh" or "relu"; reverse: each row from its last step to its first.
    """
    _need_activation(activation)
    states_spec(x, weight, 1, row_splits, h0=h0)
    return Spec(x.shape, weight.dtype)


@rnn.compute
@with_products(weight=1, like=(1,))
def _(xp, narrow, x, weight, row_splits, h0, activation, reverse):
    def step(x_t: Any, h: Any) -> Any:
        (h,) = getattr(o, activation).run(xp, [x_t + narrow(h) @ weight.T], {})
        return (h,), (h,)

    states = [state_or_zeros(xp, h0, row_splits, weight)]
    return unroll(xp, step, row_splits, [x], states, (weight.shape[1],), reverse)[1]


@rnn.grad
def _(x, weight, row_splits, h0, out, g, activation, reverse):
    dx, dh0 = o.rnn_grad(out, weight, row_splits, g, activation=activation, reverse=reverse)
    d_weight = weight_grad(dx, out, row_splits, h0, reverse)
    dh0 = None if h0 is None else cast_like(dh0, h0)
    return {"x": cast_like(dx, x), "weight": d_weight, "h0": dh0}


@op(outputs=("dx", "dh0"), overwrites=((0, 0), (0, 3)))
def rnn_grad(h, weight, row_splits, grad, *, activation="tanh", reverse=False):
    """Gradients of `rnn` in x [T, H] and h0 [N, H].  h: as `rnn` gives it; grad: that of h."""
    _need_activation(activation)
    state = states_spec(h, weight, 1, row_splits)
    require_same_shape(h, grad, "grad")
    return Spec(h.shape, weight.dtype), state


@rnn_grad.compute
@with_products(weight=1, like=(1, 0))
def _(xp, narrow, h, weight, row_splits, grad, activation, reverse):
    def step(h: Any, g: Any, dh: Any) -> Any:
        dx = narrow((dh + g) * ((h > 0).astype(h.dtype) if activation == "relu" else 1 - h * h))
        return (dx @ weight,), (dx,)

    state = state_or_zeros(xp, None, row_splits, weight)
    widths = (weight.shape[1],)
    (dh,), (dx,) = unroll(xp, step, row_splits, [h, grad], [state], widths, not reverse)
    return dx, dh


@rnn_grad.decompose
def _(h, weight, row_splits, grad, *, activation="tanh", reverse=False):
    def step(h: Any, g: Any, dh: Any) -> Any:
        dh = o.add(dh, g)
        if activation == "relu":
            dx = o.where(o.greater(h, 0.0), dh, 0.0)
        else:
            dx = o.mul(dh, slope_of_tanh(h))
        new = o.matmul(dx, weight)
        return (new,), (dx, new)

    state = state_value(None, row_splits, weight.shape[1], h.dtype)
    dx, dh = scan_steps(step, row_splits, [h, grad], [state], not reverse)
    return dx, o.sequence_end(dh, row_splits, first=not reverse)


@rnn_grad.grad
def _(gs, op, vjp):
    return by_decomposition(op, gs, vjp)
