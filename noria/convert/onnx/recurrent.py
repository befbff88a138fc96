"""LSTM, GRU and RNN: dense batches, with the number of steps of each row where they differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.join import stack
from noria.ops.recurrent_forms import Activation, gru_form, lstm_form, rnn_form
from noria.ops.sequence import regular_splits, sequence_splits
from noria.ops.steps import DenseRows

# ---- activations -------------------------------------------------------------------------------

# name -> (function of x, alpha and beta, default of alpha, default of beta)
_Formula = Callable[[Any, float, float], Any]
ACTIVATIONS: dict[str, tuple[_Formula, float, float]] = {
    "affine": (lambda x, a, b: o.add(o.mul(x, a), b), 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: o.leaky_relu(x, negative_slope=a), 0.01, 0.0),
    "thresholdedrelu": (lambda x, a, b: o.where(o.greater(x, a), x, 0.0), 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: o.mul(o.tanh(o.mul(x, b)), a), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: o.clip(o.add(o.mul(x, a), b), low=0.0, high=1.0), 0.2, 0.5),
    "elu": (lambda x, a, b: o.elu(x, alpha=a), 1.0, 0.0),
    "softsign": (lambda x, a, b: o.div(x, o.add(o.abs(x), 1.0)), 0.0, 0.0),
    "softplus": (lambda x, a, b: o.softplus(x), 0.0, 0.0),
}
PLAIN = {"relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid"}
WITH_ALPHA = ("affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu")
WITH_BETA = ("affine", "scaledtanh", "hardsigmoid")


def activations_of(node: Node, default: Sequence[str]) -> list[Activation]:
    """The activations of all directions. Those with an alpha or a beta take them in turn."""
    directions = 2 if node.attr("direction", "forward") == "bidirectional" else 1
    names = node.attr("activations") or tuple(default) * directions
    if len(names) != len(default) * directions:
        raise FormatError(
            "the number of activations does not fit",
            where=str(node),
            expected=str(len(default) * directions),
            got=repr(tuple(names)),
        )
    alphas = iter(node.attr("activation_alpha") or ())
    betas = iter(node.attr("activation_beta") or ())
    found: list[Activation] = []
    for name in names:
        key = str(name).lower()
        if key in PLAIN:
            found.append(PLAIN[key])
        elif key in ACTIVATIONS:
            fn, alpha, beta = ACTIVATIONS[key]
            alpha = next(alphas, alpha) if key in WITH_ALPHA else alpha
            beta = next(betas, beta) if key in WITH_BETA else beta
            found.append(partial(_formula, fn, alpha, beta))
        else:
            known = ", ".join([*PLAIN, *ACTIVATIONS])
            raise FormatError("no such activation", where=str(node), expected=known, got=str(name))
    return found


def _formula(fn: _Formula, alpha: float, beta: float, x: Any) -> Any:
    return fn(x, alpha, beta)


# ---- batches -----------------------------------------------------------------------------------


@dataclass
class Batch:
    """A dense batch [N, T, in] as packed rows.

    Where rows have lengths of their own each is followed by a row of what is left over, whose
    results are put to zero: no data are moved.
    """

    x: Any
    rows: Any
    steps: Any
    lengths: Any = None

    @property
    def packed(self) -> Any:
        return o.reshape(self.x, shape=(self.rows * self.steps, self.x.shape[2]))

    @property
    def splits(self) -> Any:
        if self.lengths is None:
            return regular_splits(self.rows, self.steps)
        rest = o.sub(o.dim_value(dim=self.steps), self.lengths)
        return sequence_splits(o.reshape(stack(self.lengths, rest, axis=1), shape=(2 * self.rows,)))

    def first(self, state: Any) -> Any:
        """States [N, H] as those of all packed rows."""
        if state is None or self.lengths is None:
            return state
        zeros = o.fill(shape=state.shape, value=0.0, dtype=state.dtype)
        return o.reshape(stack(state, zeros, axis=1), shape=(2 * self.rows, state.shape[1]))

    def last(self, steps: Any, splits: Any, state: Any, reverse: bool) -> Any:
        """The last states [N, H]; those of rows without steps are the first ones."""
        ends = o.sequence_end(steps, splits, self.first(state), first=reverse)
        if self.lengths is None:
            return ends
        pairs = o.reshape(ends, shape=(self.rows, 2, ends.shape[1]))
        return o.squeeze(o.slice(pairs, axes=(1,), starts=(0,), stops=(1,)), axis=1)

    def dense(self, steps: Any) -> Any:
        """[N * T, H] as [N, T, H], zeros beyond the end of each row."""
        out = o.reshape(steps, shape=(self.rows, self.steps, steps.shape[1]))
        if self.lengths is None:
            return out
        inside = o.less(o.arange(stop=self.steps), o.unsqueeze(self.lengths, axis=1))
        return o.where(o.unsqueeze(inside, axis=2), out, 0.0)


def _reordered(x: Any, order: Sequence[int]) -> Any:
    """The equal parts of the first axis in another order."""
    parts = o.split(x, num=len(order), axis=0)
    return o.concat(*(parts[k] for k in order), axis=0)


def _of(x: Any, direction: int) -> Any:
    """What belongs to a direction: [D, ...] -> [...]."""
    if x is None:
        return None
    one = o.slice(x, axes=(0,), starts=(direction,), stops=(direction + 1,))
    return o.squeeze(one, axis=0)


Direction = Callable[..., Sequence[Any]]


def _layer(
    node: Node, run: Direction, x: Any, lengths: Any, states: Sequence[Any], kernel: bool
) -> tuple[Any, ...]:
    """(Y, last states ...) of all directions.

    run: (direction, batch, rows, reverse, first states) -> states after each step
    kernel: whether the rows are packed ones, for an op of its own; else a scan over dense ones
    """
    by_rows = bool(node.attr("layout", 0))
    if not by_rows:
        x = o.transpose(x, perm=(1, 0, 2))
    else:
        states = [None if s is None else o.transpose(s, perm=(1, 0, 2)) for s in states]
    lengths = None if lengths is None else o.cast(lengths, dtype="int64")
    batch = Batch(x, x.shape[0], x.shape[1], lengths)
    splits, outs = batch.splits, []
    rows = splits if kernel else DenseRows(batch.rows, batch.steps, lengths)
    ends: list[list[Any]] = [[] for _ in states]
    for number, reverse in enumerate(_directions(node)):
        mine = [_of(s, number) for s in states]
        first = [batch.first(s) for s in mine] if kernel else mine
        results = run(number, batch, rows, reverse, first)
        outs.append(batch.dense(results[0]))
        for kept, values, start in zip(ends, results, mine, strict=True):
            kept.append(batch.last(values, splits, start, reverse))
    y, last = stack(*outs), [stack(*kept) for kept in ends]  # [D, N, T, H], [D, N, H]
    if by_rows:
        return o.transpose(y, perm=(1, 2, 0, 3)), *(o.transpose(s, perm=(1, 0, 2)) for s in last)
    return o.transpose(y, perm=(2, 0, 1, 3)), *last


def _directions(node: Node) -> tuple[bool, ...]:
    kinds = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    name = node.attr("direction", "forward")
    if name not in kinds:
        raise FormatError(
            "no such direction", where=str(node), expected=", ".join(kinds), got=str(name)
        )
    return kinds[name]


def _clip(node: Node) -> float | None:
    bound = node.attr("clip")
    return bound if bound else None  # without a bound, or 0: none


def _plain(node: Node, activations: Sequence[Activation], of_op: tuple[str, ...]) -> bool:
    """Whether all directions are what an op of noria computes."""
    times = len(activations) // len(of_op)
    return tuple(activations) == of_op * times and _clip(node) is None


def _biases(b: Any) -> tuple[Any, Any]:
    """[2 * gates * H] as that of x and that of h."""
    return (None, None) if b is None else tuple(o.split(b, num=2, axis=0))


# ---- the three layers --------------------------------------------------------------------------

LSTM_PLAIN = ("sigmoid", "tanh", "tanh")
LSTM_ORDER = (0, 2, 3, 1)  # ONNX's i, o, f, c as i, f, g, o
GRU_ORDER = (1, 0, 2)  # ONNX's z, r, h as r, z, n


@onnx_op("LSTM")
def lstm(
    node: Node,
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    sequence_lens: Any = None,
    initial_h: Any = None,
    initial_c: Any = None,
    p: Any = None,
) -> tuple[Any, ...]:
    activations = activations_of(node, ("Sigmoid", "Tanh", "Tanh"))

    def run(number: int, batch: Batch, rows: Any, reverse: bool, first: Sequence[Any]) -> Any:
        weight, of_h = (_reordered(_of(v, number), LSTM_ORDER) for v in (w, r))
        of_x, of_state = _biases(_of(b, number))
        bias = None if b is None else _reordered(o.add(of_x, of_state), LSTM_ORDER)
        peepholes = None
        if p is not None:  # i, o, f
            peepholes = o.reshape(_reordered(_of(p, number), (0, 2, 1)), shape=(3, r.shape[2]))
        return lstm_form(
            o.linear(batch.packed, weight, bias),
            of_h,
            rows,
            *first,
            peepholes=peepholes,
            activations=activations[3 * number : 3 * number + 3],
            clip=_clip(node),
            coupled=bool(node.attr("input_forget", 0)),
            reverse=reverse,
        )

    kernel = _plain(node, activations, LSTM_PLAIN) and not node.attr("input_forget", 0)
    return _layer(node, run, x, sequence_lens, [initial_h, initial_c], kernel)


@onnx_op("GRU")
def gru(
    node: Node,
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    sequence_lens: Any = None,
    initial_h: Any = None,
) -> tuple[Any, ...]:
    activations = activations_of(node, ("Sigmoid", "Tanh"))

    def run(number: int, batch: Batch, rows: Any, reverse: bool, first: Sequence[Any]) -> Any:
        weight, of_h = (_reordered(_of(v, number), GRU_ORDER) for v in (w, r))
        biases = [None if v is None else _reordered(v, GRU_ORDER) for v in _biases(_of(b, number))]
        return [
            gru_form(
                o.linear(batch.packed, weight, biases[0]),
                of_h,
                rows,
                biases[1],
                *first,
                reset_after=bool(node.attr("linear_before_reset", 0)),
                activations=activations[2 * number : 2 * number + 2],
                clip=_clip(node),
                reverse=reverse,
            )
        ]

    kernel = _plain(node, activations, ("sigmoid", "tanh"))
    return _layer(node, run, x, sequence_lens, [initial_h], kernel)


@onnx_op("RNN")
def rnn(
    node: Node,
    x: Any,
    w: Any,
    r: Any,
    b: Any = None,
    sequence_lens: Any = None,
    initial_h: Any = None,
) -> tuple[Any, ...]:
    activations = activations_of(node, ("Tanh",))

    def run(number: int, batch: Batch, rows: Any, reverse: bool, first: Sequence[Any]) -> Any:
        of_x, of_state = _biases(_of(b, number))
        bias = None if b is None else o.add(of_x, of_state)
        return [
            rnn_form(
                o.linear(batch.packed, _of(w, number), bias),
                _of(r, number),
                rows,
                *first,
                activation=activations[number],
                clip=_clip(node),
                reverse=reverse,
            )
        ]

    kernel = _plain(node, activations, ("tanh",)) or _plain(node, activations, ("relu",))
    return _layer(node, run, x, sequence_lens, [initial_h], kernel)
