"""Recurrent layers and cells, with the parameters, gates and interface of PyTorch's.

Batches are dense, or `Ragged`: then no step is computed that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from noria.core.dims import Size
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.emit import current
from noria.ir.opdef import vocabulary as o
from noria.nn import init
from noria.nn.layers import positive
from noria.nn.module import Module, Parameter, emitting
from noria.nn.ragged import Ragged
from noria.ops.join import stack
from noria.ops.random import dropout
from noria.ops.sequence import regular_splits

State = Sequence[Any]


class _Weights(Module):
    """The parameters of layers or of a cell: names end with `_l0`, `_l0_reverse`, or nothing.

    gates: blocks of `hidden_size` rows in the weights; states: what a step hands to the next
    """

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1
    recompute = False

    def _add(self, ins: int, hidden: int, bias: bool, suffix: str) -> None:
        rows, start = self.gates * hidden, init.fan_in_uniform(hidden)
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, ins), "weight_hh": (rows, hidden)}
        if bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        for name, shape in shapes.items():
            setattr(self, name + suffix, Parameter(shape, start))

    def _get(self, name: str, suffix: str) -> Any:
        return getattr(self, name + suffix, None)

    def _both_biases(self, suffix: str) -> Any:
        bias = self._get("bias_ih", suffix)
        return None if bias is None else o.add(bias, self._get("bias_hh", suffix))

    def _leave(self, *values: Any) -> None:
        """Has what a step was made of computed again for the gradient, if that is wanted."""
        builder = current()
        if self.recompute and builder is not None and builder.parent is None:
            builder.program.recomputed.append(frozenset(values))

    def _run(self, x: Any, splits: Any, state: State, suffix: str, reverse: bool) -> State:
        """x [T, in] -> each state after each step, [T, hidden]; state: the first ones or None."""
        raise NotImplementedError


class _Lstm(_Weights):
    gates, states = 4, 2

    def _run(self, x: Any, splits: Any, state: State, suffix: str, reverse: bool) -> State:
        projected = o.linear(x, self._get("weight_ih", suffix), self._both_biases(suffix))
        weight = self._get("weight_hh", suffix)
        how = {"reverse": reverse, "recompute": self.recompute}
        h, c, gates = o.lstm(projected, weight, splits, *state, **how)
        self._leave(projected, gates)
        return h, c


class _Gru(_Weights):
    gates = 3
    reset_after = True

    def _run(self, x: Any, splits: Any, state: State, suffix: str, reverse: bool) -> State:
        if not self.reset_after:
            return (self._run_before(x, splits, state, suffix, reverse),)
        names = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
        weight, bias, weight_hh, bias_hh = (self._get(name, suffix) for name in names)
        projected = o.linear(x, weight, bias)
        how = {"reverse": reverse, "recompute": self.recompute}
        h, gates = o.gru(projected, weight_hh, splits, bias_hh, *state, **how)
        self._leave(projected, gates)
        return (h,)

    def _run_before(self, x: Any, splits: Any, state: State, suffix: str, reverse: bool) -> Any:
        projected = o.linear(x, self._get("weight_ih", suffix), self._both_biases(suffix))
        weight = self._get("weight_hh", suffix)
        return o.gru_reset_before(projected, weight, splits, *state, reverse=reverse)[0]


class _Rnn(_Weights):
    nonlinearity = "tanh"

    def _run(self, x: Any, splits: Any, state: State, suffix: str, reverse: bool) -> State:
        projected = o.linear(x, self._get("weight_ih", suffix), self._both_biases(suffix))
        weight, how = self._get("weight_hh", suffix), {"activation": self.nonlinearity}
        return (o.rnn(projected, weight, splits, *state, reverse=reverse, **how),)


class _Layers(_Weights):
    """Stacked layers, each over the outputs of the one below."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        recompute: bool = False,
    ) -> None:
        positive(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise ArgumentError("dropout probability must be in [0, 1)", got=repr(dropout))
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.recompute = batch_first, dropout, recompute
        self._directions = ("", "_reverse") if bidirectional else ("",)
        for k in range(num_layers):
            ins = hidden_size * len(self._directions) if k else input_size
            for direction in self._directions:
                self._add(ins, hidden_size, bias, f"_l{k}{direction}")

    def __call__(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        if isinstance(x, Ragged):
            values, last = self._stack(x.values, x.splits, x.count, state)
            return Ragged(values, x.splits), last
        if x.ndim == 2:
            return self._unbatched(x, state)
        if x.ndim != 3:
            raise ShapeError(f"{type(self).__name__} takes [T, F], [N, T, F] or Ragged", got=str(x))
        if not self.batch_first:
            x = o.transpose(x, perm=(1, 0, 2))
        rows, length, size = x.shape
        flat = o.reshape(x, shape=(rows * length, size))
        out, last = self._stack(flat, regular_splits(rows, length), rows, state)
        out = o.reshape(out, shape=(rows, length, self.hidden_size * len(self._directions)))
        return out if self.batch_first else o.transpose(out, perm=(1, 0, 2)), last

    def _unbatched(self, x: Any, state: Any) -> tuple[Any, Any]:
        """One row without an axis for the batch, in the states neither."""
        if state is not None:
            state = self._form([o.unsqueeze(s, axis=1) for s in self._listed(state)])
        out, last = self._stack(x, regular_splits(1, x.shape[0]), 1, state)
        return out, self._form([o.squeeze(s, axis=1) for s in self._listed(last)])

    def _stack(self, x: Any, splits: Any, rows: Size, state: Any) -> tuple[Any, Any]:
        """Packed x [T, in] -> ([T, directions * hidden], last states)."""
        first = [None] * self.states if state is None else self._listed(state)
        for s in first:
            self._check_state(s, rows)
        last: list[list[Any]] = [[] for _ in first]
        for k in range(self.num_layers):
            if k and self.dropout and emitting():
                x = dropout(x, p=self.dropout)
            outs = []
            for suffix in self._directions:
                number = len(last[0])
                mine = [None if s is None else s[number] for s in first]
                run = self._run(x, splits, mine, f"_l{k}{suffix}", bool(suffix))
                outs.append(run[0])
                for ends, values, start in zip(last, run, mine, strict=True):
                    ends.append(o.sequence_end(values, splits, start, first=bool(suffix)))
            x = outs[0] if len(outs) == 1 else o.concat(*outs, axis=1)
        return x, self._form([stack(*ends) for ends in last])

    def _listed(self, state: Any) -> list[Any]:
        """The states as a list: of h alone, or of h and c."""
        listed = [state] if self.states == 1 else list(state)
        if len(listed) != self.states:
            raise ArgumentError("the state is (h, c)", got=f"{len(listed)} values")
        return listed

    def _form(self, states: list[Any]) -> Any:
        return states[0] if self.states == 1 else tuple(states)

    def _check_state(self, state: Any, rows: Size) -> None:
        wanted = (self.num_layers * len(self._directions), rows, self.hidden_size)
        if state is not None and (len(state.shape) != 3 or state.shape[0] != wanted[0]):
            raise ShapeError(
                "a state has one matrix for each layer and direction",
                expected=str(wanted),
                got=str(state.shape),
            )


def _checked(nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise ArgumentError("nonlinearity is 'tanh' or 'relu'", got=repr(nonlinearity))
    return nonlinearity


class LSTM(_Layers, _Lstm):
    """Long short-term memory.  (Hochreiter & Schmidhuber, 1997)

    lstm(x, (h0, c0)) -> out, (h, c).
    x: [T, N, in], with batch_first [N, T, in]; [T, in] of one row; or `Ragged`, with values
    [sum of lengths, in]. out: the same with hidden_size, or twice that if bidirectional.
    h0, c0, h, c: [num_layers * directions, N, hidden_size] (without N for one row), default zeros.
    dropout: of the inputs of all layers but the first, in training.
    recompute: of each step only h and c are kept for the gradient, not the gates, a third of the
    memory; the gradient computes them again by two products over all steps.
    """


class GRU(_Layers, _Gru):
    """Gated recurrent units.  (Cho et al., 2014)   gru(x, h0) -> out, h; as `LSTM`.

    reset_after: the reset gate acts on the product of h, as in PyTorch; else on h itself, as first
    published, in PaddlePaddle and in Keras where its flag of this name is off.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        reset_after: bool = True,
        **how: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, **how)
        if self.recompute and not reset_after:
            raise ArgumentError("gates that reset before the product are not computed again")
        self.reset_after = reset_after


class RNN(_Layers, _Rnn):
    """Plain recurrent layers.  (Elman, 1990)   rnn(x, h0) -> out, h; as `LSTM`.

    nonlinearity: "tanh" or "relu"
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        nonlinearity: str = "tanh",
        **how: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, **how)
        self.nonlinearity = _checked(nonlinearity)


class _Cell(_Weights):
    """One step of one layer."""

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        positive(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self._add(input_size, hidden_size, bias, "")

    def _step(self, x: Any, state: State | None) -> State:
        if x.ndim != 2:
            raise ShapeError(f"{type(self).__name__} takes [N, in]", got=str(x))
        first = [None] * self.states if state is None else state
        return self._run(x, regular_splits(x.shape[0], 1), first, "", False)


class LSTMCell(_Cell, _Lstm):
    """One step of `LSTM`.  cell(x [N, in], (h, c)) -> (h, c), each [N, hidden_size]."""

    def __call__(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        h, c = self._step(x, state)
        return h, c


class GRUCell(_Cell, _Gru):
    """One step of `GRU`.  cell(x [N, in], h) -> h [N, hidden_size]."""

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, reset_after: bool = True
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.reset_after = reset_after

    def __call__(self, x: Any, state: Any = None) -> Any:
        return self._step(x, None if state is None else [state])[0]


class RNNCell(_Cell, _Rnn):
    """One step of `RNN`.  cell(x [N, in], h) -> h [N, hidden_size]."""

    def __init__(
        self, input_size: int, hidden_size: int, *, bias: bool = True, nonlinearity: str = "tanh"
    ) -> None:
        super().__init__(input_size, hidden_size, bias=bias)
        self.nonlinearity = _checked(nonlinearity)

    def __call__(self, x: Any, state: Any = None) -> Any:
        return self._step(x, None if state is None else [state])[0]
