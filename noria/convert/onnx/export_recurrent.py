"""LSTM, GRU and plain recurrent layers over packed rows, as ONNX's operators of these names.

ONNX's run over [steps, rows, ...] with a length for each row. So the packed steps are gathered into
that form and back by positions that the model computes from row_splits; what lies behind the end of
a row is never looked at. ONNX multiplies its input by a weight of its own: that of the linear layer
in front of the op where there is one, else the identity, which changes no number.

ONNX tells only the last cell state of a row. Where a Program wants others, or the gates, the op is
written step by step through its `decompose` rule, as is one of another dtype than float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.onnx.export_graph import Graph, emitter
from noria.convert.onnx.export_sequence import Rows, filled, row_ids, rows_of
from noria.core.dims import Size
from noria.ir.program import Operator, Value

# The places of ONNX's gates among noria's.
LSTM_GATES = (0, 3, 1, 2)  # i o f c of i f g o
GRU_GATES = (1, 0, 2)  # z r h of r z n


@emitter("lstm")
def lstm(
    g: Graph,
    op: Operator,
    x: str,
    weight: str,
    splits: str,
    h0: str | None = None,
    c0: str | None = None,
    peepholes: str | None = None,
) -> Any:
    _, c, gates = op.outputs
    if not _plain(op) or g.used(gates) or not _only_ends(g, op, c):
        return None
    layer = _Layer(g, op, "LSTM", LSTM_GATES)
    states = [layer.state(h0), layer.state(c0)]
    if peepholes is not None:
        states.append(layer.peepholes(peepholes))
    out, _, last = layer.run(x, weight, None, states, outputs=3)
    return layer.packed(out), _at_ends(layer, last, c), ""


@emitter("gru")
def gru(
    g: Graph,
    op: Operator,
    x: str,
    weight: str,
    splits: str,
    bias: str | None = None,
    h0: str | None = None,
) -> Any:
    if not _plain(op) or g.used(op.outputs[1]):
        return None
    layer = _Layer(g, op, "GRU", GRU_GATES)
    out, _ = layer.run(x, weight, bias, [layer.state(h0)], outputs=2, linear_before_reset=1)
    return layer.packed(out), ""


@emitter("gru_reset_before")
def gru_reset_before(
    g: Graph, op: Operator, x: str, weight: str, splits: str, h0: str | None = None
) -> Any:
    if not _plain(op) or g.used(op.outputs[1]):
        return None
    layer = _Layer(g, op, "GRU", GRU_GATES)
    out, _ = layer.run(x, weight, None, [layer.state(h0)], outputs=2, linear_before_reset=0)
    return layer.packed(out), ""


@emitter("rnn")
def rnn(g: Graph, op: Operator, x: str, weight: str, splits: str, h0: str | None = None) -> Any:
    if not _plain(op):
        return None
    layer = _Layer(g, op, "RNN", (0,))
    how = {"activations": [op.attrs["activation"].capitalize()]}
    out, _ = layer.run(x, weight, None, [layer.state(h0)], outputs=2, **how)
    return layer.packed(out)


def _plain(op: Operator) -> bool:
    hidden = op.operands[1].shape[1]
    return isinstance(hidden, int) and op.operands[0].dtype == "float32"


def _is_layer(maker: Operator) -> bool:
    """Whether ONNX's operator can do this one's work as well."""
    matrix = maker.type == "linear" and maker.operands[0].ndim == 2
    return matrix and {v.dtype for v in (*maker.operands, *maker.outputs)} == {"float32"}


def _only_ends(g: Graph, op: Operator, c: Value) -> bool:
    """Whether of all cell states only the last of each row are asked for."""
    if c in g.roots:
        return False
    first = op.attrs["reverse"]
    return all(
        user.type == "sequence_end"
        and user.operands[1] is op.operands[2]
        and user.attrs["first"] == first
        and user.inputs[0] is c
        for user in g.uses.get(c, [])
    )


def _at_ends(layer: _Layer, last: str, c: Value) -> str:
    """[T, H], the last cell state of each row where the row ends: what `sequence_end` takes."""
    g, rows = layer.g, layer.rows
    flat = g.node("Squeeze", last, g.ints(0))
    return g.node("Gather", flat, row_ids(g, rows, layer.total), axis=0)


class _Layer:
    """One operator, its packed rows as [steps, rows, ...].

    A row of one step of zeros follows the others: onnxruntime dies of a batch without a step.
    """

    def __init__(self, g: Graph, op: Operator, op_type: str, order: tuple[int, ...]) -> None:
        self.g, self.op, self.op_type, self.order = g, op, op_type, order
        self.total: Size = op.operands[0].shape[0]
        hidden = op.operands[1].shape[1]
        assert isinstance(hidden, int), "others are written step by step"
        self.hidden: int = hidden
        self.splits = op.operands[2]
        self.rows: Rows = rows_of(g, g.name(self.splits), self.splits)
        self.lengths = g.node("Concat", self.rows.lengths, g.ints(1), axis=0)
        self.places = self._places()

    def _places(self) -> str:
        """Where each of [steps, rows] lies among the packed positions, one more for padding."""
        g = self.g
        longest = g.node("ReduceMax", self.lengths, keepdims=0)
        step = g.node("Range", g.size(0), longest, g.size(1))
        step = g.node("Unsqueeze", step, g.ints(1))
        inside = g.node("Less", step, g.node("Concat", self.rows.lengths, g.ints(0), axis=0))
        starts = g.node("Concat", self.rows.starts, g.ints(0), axis=0)
        return g.node("Where", inside, g.node("Add", starts, step), g.vector(self.total))

    def state(self, name: str | None) -> str | None:
        """[N, H] as ONNX has it, [1, N + 1, H]."""
        if name is None:
            return None
        one = self.g.constant(np.zeros((1, self.hidden), np.float32))
        more = self.g.node("Concat", name, one, axis=0)
        return self.g.node("Unsqueeze", more, self.g.ints(0))

    def peepholes(self, name: str) -> str:
        """[3, H] of i, f, o as ONNX has them: [1, 3H] of i, o, f."""
        ordered = self.g.node("Gather", name, self.g.ints(0, 2, 1), axis=0)
        return self.g.node("Reshape", ordered, self.g.ints(1, 3 * self.hidden))

    def run(
        self,
        x: str,
        weight: str,
        bias: str | None,
        states: list[str | None],
        outputs: int,
        **attrs: Any,
    ) -> tuple[str, ...]:
        """ONNX's operator: [steps, 1, rows, H], then the last states [1, rows, H]."""
        g = self.g
        x, width, w, b = self._input(x)
        around = g.node("Concat", x, filled(g, 1, width), axis=0)
        padded = g.node("Gather", around, self.places, axis=0)
        lengths = g.node("Cast", self.lengths, to=6)
        names = self._ordered(w), self._ordered(weight), self._biases(b, bias)
        direction = "reverse" if self.op.attrs["reverse"] else "forward"
        how = {"hidden_size": self.hidden, "direction": direction, **attrs}
        return g.node(self.op_type, padded, *names, lengths, *states, outputs=outputs, **how)

    def _input(self, x: str) -> tuple[str, Value, str, str | None]:
        """(input, its spec, weight, bias): of the linear layer in front, else the identity."""
        g, value = self.g, self.op.operands[0]
        maker = g.maker(value)
        if maker is None or not _is_layer(maker):
            size = len(self.order) * self.hidden
            return x, value, g.constant(np.eye(size, dtype=np.float32)), None
        names = [g.name(v) for v in maker.operands]
        return names[0], maker.operands[0], names[1], names[2] if len(names) > 2 else None

    def _biases(self, of_input: str | None, of_state: str | None) -> str | None:
        """Both, one after the other: [1, 2 * gates * H]."""
        if of_input is None and of_state is None:
            return None
        g = self.g
        zeros = g.constant(np.zeros(len(self.order) * self.hidden, np.float32))
        parts = [zeros if b is None else self._ordered(b, axis=0) for b in (of_input, of_state)]
        return g.node("Unsqueeze", g.node("Concat", *parts, axis=0), g.ints(0))

    def _ordered(self, weight: str, axis: int | None = None) -> str:
        """Gates in ONNX's order; a matrix also gets the axis of directions."""
        g = self.g
        if len(self.order) > 1:
            parts = g.node(
                "Split", weight, outputs=len(self.order), axis=0, num_outputs=len(self.order)
            )
            weight = g.node("Concat", *(parts[i] for i in self.order), axis=0)
        return weight if axis is not None else g.node("Unsqueeze", weight, g.ints(0))

    def packed(self, out: str) -> str:
        """[steps, 1, rows, H] as [T, H]: position p of row n is at step p - start, or as many from
        behind, in the flattened steps and rows."""
        g = self.g
        ids = row_ids(g, self.rows, self.total)
        places = g.node("Range", g.size(0), g.size(self.total), g.size(1))
        step = g.node("Sub", places, g.node("Gather", self.rows.starts, ids, axis=0))
        count = g.node("Shape", self.lengths)
        flat = g.node("Reshape", out, g.ints(-1, self.hidden))
        return g.node("Gather", flat, g.node("Add", g.node("Mul", step, count), ids), axis=0)
