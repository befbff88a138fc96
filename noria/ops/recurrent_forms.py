"""Forms of recurrent layers that other frameworks have and `recurrent.py` has not.

Other activations, clipping, coupled gates, projections, multiplicative integration. What is the
standard layer after all becomes its op; the rest is a scan over the packed steps, of ordinary
operators, which give the gradient. Arguments in common:

    x:           [T, gates * H], what the input gives to the gates, biases included
    weight:      [gates * H, H], of the state, with a projection [gates * H, P]
    row_splits:  [N + 1]; where a form is a scan, for dense rows `DenseRows`, whose rows take a
                 step together
    h0, c0:      the states before the first step, [N, H] or of h [N, P], default zeros
    activations: names of ops, or functions of one value
    clip:        bound of what goes into the activation of a gate or of a candidate, None for none
    reverse:     each row from its last step to its first
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.steps import DenseRows, scan_steps, state_value

Activation = str | Callable[[Any], Any]


def _function(activation: Activation, clip: float | None) -> Callable[[Any], Any]:
    """An activation as a function, of what was clipped."""
    fn = getattr(o, activation) if isinstance(activation, str) else activation
    if clip is None:
        return fn
    return lambda x: fn(_bounded(x, clip))


def _bounded(x: Any, bound: float | None) -> Any:
    return x if bound is None else o.clip(x, low=-bound, high=bound)


def _functions(
    activations: Sequence[Activation], count: int, clip: float | None
) -> list[Callable[[Any], Any]]:
    if len(activations) != count:
        raise ArgumentError(f"this layer has {count} activations", got=repr(tuple(activations)))
    return [_function(a, clip) for a in activations]


# ---- LSTM --------------------------------------------------------------------------------------


def lstm_form(
    x: Any,
    weight: Any,
    row_splits: Any,
    h0: Any = None,
    c0: Any = None,
    *,
    peepholes: Any = None,
    projection: Any = None,
    activations: Sequence[Activation] = ("sigmoid", "tanh", "tanh"),
    projection_activation: Activation = "identity",
    clip: float | None = None,
    cell_clip: float | None = None,
    projection_clip: float | None = None,
    coupled: bool = False,
    integration: tuple[Any, Any, Any] | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """(h [T, H] or with a projection [T, P], c [T, H]) of a form of LSTM.

    peepholes:   [3, H], times c to the gates i, f (c before the step) and o (c after it)
    projection:  [P, H], of h (Sak et al., 2014), bounded by projection_clip after its activation
    activations: of the gates, of the candidate, of the cell
    cell_clip:   bound of c; coupled: the forget gate is 1 - i (Greff et al., 2017)
    integration: (alpha, beta of h, beta of x), each [4H]: the gates are alpha * x * u + beta_h * u
                 + beta_x * x, with u = h @ weight.T, instead of x + u (Wu et al., 2016)
    Raises ArgumentError, ShapeError, DTypeError.
    """
    bounds = (clip, cell_clip, projection, integration)
    standard = tuple(activations) == ("sigmoid", "tanh", "tanh") and not coupled
    packed = not isinstance(row_splits, DenseRows)
    if packed and standard and all(v is None for v in bounds):
        return tuple(o.lstm(x, weight, row_splits, h0, c0, peepholes, reverse=reverse)[:2])
    gate, candidate = _functions(activations[:2], 2, clip)
    (cell,) = _functions(activations[2:], 1, None)
    project = _projection(projection, projection_activation, projection_clip)
    to_i, to_f, to_o = _parts(peepholes, 3)
    size, state = weight.shape[0] // 4, weight.shape[1]

    def step(x_t: Any, h: Any, c: Any) -> Any:
        i, f, g, out = o.split(_integrated(x_t, o.linear(h, weight), integration), num=4, axis=-1)
        i = gate(_peep(i, c, to_i))
        f = o.sub(1.0, i) if coupled else gate(_peep(f, c, to_f))
        c = _bounded(o.add(o.mul(f, c), o.mul(i, candidate(g))), cell_clip)
        h = project(o.mul(gate(_peep(out, c, to_o)), cell(c)))
        return (h, c), (h, c)

    widths = ((h0, state), (c0, size))
    states = [state_value(s, row_splits, width, x.dtype) for s, width in widths]
    h, c = scan_steps(step, row_splits, [x], states, reverse)
    return h, c


def _integrated(x: Any, u: Any, integration: tuple[Any, Any, Any] | None) -> Any:
    if integration is None:
        return o.add(x, u)
    alpha, of_h, of_x = integration
    return o.add(o.mul(o.add(o.mul(alpha, x), of_h), u), o.mul(of_x, x))


def _projection(weight: Any, activation: Activation, bound: float | None) -> Any:
    if weight is None:
        return lambda h: h
    fn = _function(activation, None)
    return lambda h: _bounded(fn(o.linear(h, weight)), bound)


def _parts(rows: Any, count: int) -> list[Any]:
    """The rows of a matrix [count, H], each [H]; None for each if there is none."""
    if rows is None:
        return [None] * count
    return [o.squeeze(row, axis=0) for row in o.split(rows, num=count, axis=0)]


def _peep(z: Any, c: Any, peephole: Any) -> Any:
    return z if peephole is None else o.add(z, o.mul(c, peephole))


# ---- GRU ---------------------------------------------------------------------------------------


def gru_form(
    x: Any,
    weight: Any,
    row_splits: Any,
    bias: Any = None,
    h0: Any = None,
    *,
    reset_after: bool = True,
    keeps: bool = True,
    activations: Sequence[Activation] = ("sigmoid", "tanh"),
    clip: float | None = None,
    reverse: bool = False,
) -> Any:
    """h [T, H] of a form of the gated recurrent unit, with gates r, z and the candidate n.

    reset_after: the reset gate acts on the product of h, not on h (see `gru`, `gru_reset_before`)
    keeps:       z is the share of h that stays, h = (1 - z) * n + z * h; else that of what is new
    bias:        [3H] of the recurrent product, for r, z and n, default zeros
    activations: of the gates r and z, of the candidate n
    Raises ArgumentError, ShapeError, DTypeError.
    """
    if not reset_after and bias is not None:
        x, bias = o.add(x, bias), None
    packed = not isinstance(row_splits, DenseRows)
    if packed and tuple(activations) == ("sigmoid", "tanh") and clip is None:
        if not keeps:  # 1 - sigmoid(z) is sigmoid(-z)
            x, weight = _turned(x, 1), _turned(weight, 0)
            bias = None if bias is None else _turned(bias, 0)
        if reset_after:
            return o.gru(x, weight, row_splits, bias, h0, reverse=reverse)[0]
        return o.gru_reset_before(x, weight, row_splits, h0, reverse=reverse)[0]
    gate, candidate = _functions(activations, 2, clip)
    size = weight.shape[1]
    of_gates, of_new = o.split(weight, sizes=(2 * size, size), axis=0)

    def candidate_after(h: Any, r: Any, x_n: Any) -> Any:
        b = None if bias is None else o.slice(bias, axes=(0,), starts=(2 * size,), stops=(None,))
        return candidate(o.add(x_n, o.mul(r, o.linear(h, of_new, b))))

    def candidate_before(h: Any, r: Any, x_n: Any) -> Any:
        return candidate(o.add(x_n, o.linear(o.mul(r, h), of_new)))

    new = candidate_after if reset_after else candidate_before

    def step(x_t: Any, h: Any) -> Any:
        x_rz, x_n = o.split(x_t, sizes=(2 * size, size), axis=-1)
        b = None if bias is None else o.slice(bias, axes=(0,), starts=(0,), stops=(2 * size,))
        r, z = o.split(gate(o.add(x_rz, o.linear(h, of_gates, b))), num=2, axis=-1)
        stays, comes = (z, o.sub(1.0, z)) if keeps else (o.sub(1.0, z), z)
        h = o.add(o.mul(comes, new(h, r, x_n)), o.mul(stays, h))
        return (h,), (h,)

    state = state_value(h0, row_splits, size, x.dtype)
    return scan_steps(step, row_splits, [x], [state], reverse)[0]


def _turned(x: Any, axis: int) -> Any:
    """r, z, n with z negated."""
    r, z, n = o.split(x, num=3, axis=axis)
    return o.concat(r, o.neg(z), n, axis=axis)


# ---- plain -------------------------------------------------------------------------------------


def rnn_form(
    x: Any,
    weight: Any,
    row_splits: Any,
    h0: Any = None,
    *,
    activation: Activation = "tanh",
    clip: float | None = None,
    reverse: bool = False,
) -> Any:
    """h [T, H] of h = activation(x + h @ weight.T).  Raises ArgumentError, ShapeError, DTypeError.

    activation: of any name or function; "tanh" and "relu" without clip are the op `rnn`
    """
    packed = not isinstance(row_splits, DenseRows)
    if packed and activation in ("tanh", "relu") and clip is None:
        return o.rnn(x, weight, row_splits, h0, activation=activation, reverse=reverse)
    fn = _function(activation, clip)

    def step(x_t: Any, h: Any) -> Any:
        h = fn(o.add(x_t, o.linear(h, weight)))
        return (h,), (h,)

    state = state_value(h0, row_splits, weight.shape[1], x.dtype)
    return scan_steps(step, row_splits, [x], [state], reverse)[0]
