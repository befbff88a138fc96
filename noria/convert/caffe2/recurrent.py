"""Recurrent networks: units of LSTM and GRU, and step nets that run over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from noria.convert.caffe2.common import pullback, scalar
from noria.convert.caffe2.frame import Frame, as_value
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.errors import ArgumentError, MissingError
from noria.ir.opdef import vocabulary as o
from noria.ops.loops import scan

# ---- units -------------------------------------------------------------------------------------


def _gates(x: Any, count: int) -> list[Any]:
    """[..., count * D] as that many [..., D]."""
    last = len(x.shape) - 1
    return list(o.split(x, num=count, axis=last))


def _lengths(op: Node, rest: tuple[Any, ...]) -> tuple[Any, Any]:
    """(lengths or None, timestep) of the inputs behind the gates."""
    if op.attr("sequence_lengths", True):
        if len(rest) != 2:
            raise ArgumentError("lengths and timestep are needed", got=f"{len(rest)} inputs")
        return rest
    return None, rest[-1]


def _where_going(op: Node, lengths: Any, step: Any, new: Any, old: Any) -> Any:
    """The new state of rows that go on; others keep the old one, or drop it (drop_states)."""
    if lengths is None:
        return new
    going = o.unsqueeze(o.less(scalar(step), lengths), axis=1)
    kept = 0.0 if op.attr("drop_states", False) else old
    return o.where(going, new, kept)


def _lstm(op: Node, hidden: Any, cell: Any, gates: Any, rest: tuple[Any, ...]) -> tuple[Any, Any]:
    lengths, step = _lengths(op, rest)
    i, f, out, g = _gates(gates, 4)
    f = o.sigmoid(o.add(f, op.attr("forget_bias", 0.0)))
    new = o.add(o.mul(f, cell), o.mul(o.sigmoid(i), o.tanh(g)))
    shown = o.mul(o.sigmoid(out), o.tanh(new))
    return (
        _where_going(op, lengths, step, shown, hidden),
        _where_going(op, lengths, step, new, cell),
    )


@caffe2_op("LSTMUnit")
def lstm_unit(op, hidden, cell, gates, *rest):
    """(hidden, cell) [1, N, D] from gates [1, N, 4 D]: input, forget, output, candidate.
    (Hochreiter and Schmidhuber, 1997)"""
    return _lstm(op, hidden, cell, gates, rest)


@caffe2_op("LSTMUnitGradient")
def lstm_unit_gradient(op, hidden, cell, gates, *rest):
    """Behind the inputs of the unit: its outputs and their gradients."""
    rest, grads = rest[:-4], rest[-2:]
    fn = lambda h, c, g: _lstm(op, h, c, g, rest)  # noqa: E731
    return pullback(fn, [hidden, cell, gates], grads, [0, 1, 2])


def _gru(op: Node, hidden: Any, gates: Any, rest: tuple[Any, ...]) -> Any:
    lengths, step = _lengths(op, rest)
    _, update, out = _gates(gates, 3)
    u = o.sigmoid(update)
    new = o.add(o.mul(u, hidden), o.mul(o.sub(1.0, u), o.tanh(out)))
    return _where_going(op, lengths, step, new, hidden)


@caffe2_op("GRUUnit")
def gru_unit(op, hidden, gates, *rest):
    """hidden [1, N, D] from gates [1, N, 3 D]: reset (used before), update, output.
    (Cho et al., 2014)"""
    return _gru(op, hidden, gates, rest)


@caffe2_op("GRUUnitGradient")
def gru_unit_gradient(op, hidden, gates, *rest):
    """Behind the inputs of the unit: its output and the gradient of that."""
    rest, grad = rest[:-2], rest[-1]
    return pullback(lambda h, g: _gru(op, h, g, rest), [hidden, gates], [grad], [0, 1])


# ---- step nets ---------------------------------------------------------------------------------


class _Link(NamedTuple):
    internal: str
    external: str
    offset: int
    window: int


def _links(op: Node) -> list[_Link]:
    inner, outer = op.names("link_internal"), op.names("link_external")
    offsets = op.ints("link_offset")
    windows = op.ints("link_window") or [1] * len(inner)
    if not len(inner) == len(outer) == len(offsets) == len(windows):
        raise ArgumentError("links do not fit each other", got=f"{inner}, {outer}, {offsets}")
    return [_Link(*row) for row in zip(inner, outer, offsets, windows, strict=True)]


class _Steps:
    """A RecurrentNetwork taken apart.

    carried:  state -> its first values [L, N, D]; a step sees the L latest
    reads:    links to what a step sees of a state, from the oldest at offset 0 on; one that reaches
              to offset L ends with what the step itself has made
    writes:   links to a state at offset L, what a step makes of it
    slices:   links to what is not a state: one step of it each
    windows:  links to several steps of what is not a state
    """

    def __init__(self, op: Node) -> None:
        states, ids = op.names("recurrent_states"), op.ints("initial_recurrent_state_ids")
        if len(states) != len(ids) or not states:
            raise ArgumentError("each state has a first value", got=f"{states}: {ids}")
        links = _links(op)
        if any(link.window < 1 or link.offset < 0 for link in links):
            raise ArgumentError("links look at one step or more", got=str(links)[:200])
        batch = op.frame.read(op.inputs[0]).shape[1]
        self.carried = {
            s: _first(op.frame.read(op.inputs[i]), batch) for s, i in zip(states, ids, strict=True)
        }
        own = [link for link in links if link.external in self.carried]
        self.latest = {s: self._steps(v) for s, v in self.carried.items()}
        made = [link for link in own if link.offset == self.latest[link.external]]
        self.reads = [link for link in own if link not in made]
        self.writes = {link.external: link.internal for link in made if link.window == 1}
        if late := [k for k in self.reads if k.offset + k.window > self.latest[k.external] + 1]:
            raise ArgumentError("a link reaches beyond its step", got=str(late)[:200])
        others = [link for link in links if link.external not in self.carried]
        self.slices = [link for link in others if (link.offset, link.window) == (0, 1)]
        self.windows = [link for link in others if link not in self.slices]
        if missing := [s for s in states if s not in self.writes]:
            raise ArgumentError("a step does not make these states", got=", ".join(missing))

    def _steps(self, first: Any) -> int:
        if not isinstance(first.shape[0], int):
            raise ArgumentError("how many first states there are must be known", got=str(first))
        return first.shape[0]

    def seen(self, link: _Link, old: Any, new: Any = None) -> Any:
        """What a link to a state holds, of its latest values and, if it reaches that far, `new`."""
        stop = min(link.offset + link.window, self.latest[link.external])
        part = old
        if stop - link.offset < self.latest[link.external]:
            part = o.slice(old, axes=(0,), starts=(link.offset,), stops=(stop,))
        return part if new is None else o.concat(part, new, axis=0)

    def run(self, inner: Frame, net: Any, old: Mapping[str, Any]) -> dict[str, Any]:
        """What a step makes of each state: [1, N, D]. A window that ends with it comes after it."""
        late = [link for link in self.reads if self.is_late(link)]
        for message in net.op:
            inner.run(SimpleNamespace(op=[message]))
            for link in late:
                name = link.external
                if self.writes[name] in message.output:
                    inner.blobs[link.internal] = self.seen(link, old[name], self._made(inner, name))
        return {name: self._made(inner, name) for name in self.carried}

    def _made(self, inner: Frame, name: str) -> Any:
        shape = (1, *self.carried[name].shape[1:])
        return o.reshape(as_value(inner.read(self.writes[name])), shape=shape)

    def is_late(self, link: _Link) -> bool:
        return link.offset + link.window > self.latest[link.external]


def _first(x: Any, batch: Any) -> Any:
    """First states as [L, N, D]."""
    rank = len(x.shape)
    if rank == 3:
        return x
    return o.broadcast_to(
        o.reshape(x, shape=((1,) * (3 - rank) + tuple(x.shape))), shape=(1, batch, x.shape[-1])
    )


@caffe2_op("RecurrentNetwork")
def recurrent_network(op, *blobs):
    """A step net over the first axis of the first input; outputs are parts of the states' history.

    The states of all steps, the L first ones before them, are [T + L, N, D]; `alias_dst` names what
    is taken of them from `alias_offset` on. The last output, the workspaces of steps, is nothing.
    """
    net = op.net("step_net")
    if net is None or not net.op:
        raise ArgumentError("the argument 'step_net' is missing", where=op.where())
    steps = _Steps(op)
    frame, states = op.frame, list(steps.carried)
    sequences = [frame.read(link.external) for link in steps.slices]
    early = [link for link in steps.reads if not steps.is_late(link)]
    times = o.cast(o.arange(stop=blobs[0].shape[0]), dtype="int32")
    timestep = op.attr("timestep", "timestep")

    def step(carry: Any, now: Any) -> Any:
        time, parts = now
        given = {timestep: o.reshape(time, shape=(1,))}
        olds = dict(zip(states, carry, strict=True))
        given.update({k.internal: steps.seen(k, olds[k.external]) for k in early})
        for link in steps.windows:
            places = o.add(o.cast(time, dtype="int64"), np.arange(link.window) + link.offset)
            given[link.internal] = o.gather(frame.read(link.external), places)
        for link, part in zip(steps.slices, parts, strict=True):
            given[link.internal] = o.unsqueeze(part, axis=0)
        inner = frame.inner(given)
        new = steps.run(inner, net, olds)
        moved = (
            v if steps.latest[s] == 1 else o.concat(_from(olds[s], 1), v, axis=0)
            for s, v in new.items()
        )
        return tuple(moved), tuple(o.squeeze(v, axis=0) for v in new.values())

    _, made = scan(step, tuple(steps.carried.values()), (times, tuple(sequences)))
    history = {s: o.concat(steps.carried[s], v) for s, v in zip(states, made, strict=True)}
    frame.blobs.update(history)
    aliases = zip(
        op.names("alias_src"), op.names("alias_dst"), op.ints("alias_offset"), strict=True
    )
    for source, target, offset in aliases:
        if source not in history:
            raise MissingError(f"no state is called '{source}'")
        frame.blobs[target] = _from(history[source], offset)
    return tuple(frame.blobs.get(name) for name in op.outputs)


def _from(x: Any, offset: int) -> Any:
    start = offset if offset >= 0 else x.shape[0] + offset
    return o.slice(x, axes=(0,), starts=(start,), stops=(x.shape[0],))


# ---- whole networks ----------------------------------------------------------------------------


def _linear(x: Any, weight: Any, bias: Any) -> Any:
    y = o.matmul(x, weight, transpose_y=True)
    return y if bias is None else o.add(y, bias)


def _lstm_layer(x: Any, h: Any, c: Any, params: Sequence[Any], reverse: bool) -> tuple[Any, ...]:
    """(h of all steps, the last h, the last c) of x [T, N, K]; h, c: [N, D].

    params: weights of the input [4 D, K] and of h [4 D, D], their biases or None
    """
    w_ih, w_hh, b_ih, b_hh = params

    def step(carry: Any, gates: Any) -> Any:
        h, c = carry
        i, f, g, out = _gates(o.add(gates, _linear(h, w_hh, b_hh)), 4)
        c = o.add(o.mul(o.sigmoid(f), c), o.mul(o.sigmoid(i), o.tanh(g)))
        h = o.mul(o.sigmoid(out), o.tanh(c))
        return (h, c), h

    (h, c), shown = scan(step, (h, c), _linear(x, w_ih, b_ih), reverse=reverse)
    return shown, h, c


@caffe2_op("InferenceLSTM")
def inference_lstm(op, x, h0, c0, *params):
    """(output [T, N, D * directions], last h, last c [layers * directions, N, D]); gates are in
    PyTorch's order: input, forget, candidate, output.  (Hochreiter and Schmidhuber, 1997)"""
    directions = 2 if op.attr("bidirectional", False) else 1
    count = op.attr("num_layers", 1) * directions
    width = 4 if op.attr("has_biases", True) else 2
    if count < 1 or len(params) != count * width:
        raise ArgumentError(
            "weights do not fit the layers", expected=str(count * width), got=str(len(params))
        )
    swap = (lambda v: o.transpose(v, perm=(1, 0, 2))) if op.attr("batch_first", False) else None
    x = x if swap is None else swap(x)
    last_h, last_c = [], []
    for layer in range(0, count, directions):
        shown = []
        for k in range(layer, layer + directions):
            own = [*params[k * width : (k + 1) * width], None, None][:4]
            h, c = (o.gather(v, np.int64(k)) for v in (h0, c0))
            y, h, c = _lstm_layer(x, h, c, own, reverse=k > layer)
            shown.append(y)
            last_h.append(o.unsqueeze(h, axis=0))
            last_c.append(o.unsqueeze(c, axis=0))
        x = o.concat(*shown, axis=2) if directions == 2 else shown[0]
    return x if swap is None else swap(x), o.concat(*last_h), o.concat(*last_c)
