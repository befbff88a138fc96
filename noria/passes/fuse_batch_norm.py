"""Batch norm in training, a residual and the ReLU behind it as one operator; likewise its gradient.

A batch norm reads its input twice and writes once; the ReLU, the sum with the residual and the mask
of the gradient each cost a pass of their own over memory, which its passes can take along. Of the
ReLU's output the gradient needs the signs only: bits, which the forward pass writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from noria.ir.emit import Names, names_of
from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.fused_norm import batch_norm_relu, batch_norm_relu_grad
from noria.passes.liveness import live
from noria.passes.nested import map_blocks
from noria.passes.pattern import same_number
from noria.passes.report import Report, publish

NAME = "fuse_batch_norm"
WHOLE = 16  # bits of a mask: from one row of channels to the next there must be nothing between


def fuse_batch_norm(program: Program) -> Program:
    """relu(batch_norm + residual) becomes `batch_norm_relu`, and batch_norm_grad of a gradient that
    is masked by the sign of the ReLU's output `batch_norm_relu_grad`, which also gives the masked
    gradient where something else needs it, as the residual does.  (He et al., 2016)
    The mask goes from one to the other as bits if channels are a multiple of 16, else as the output.

    Given:
        program p {
          input x: float32[N, 16, 4, 4]
          input r: float32[N, 16, 4, 4]
          input g: float32[N, 16, 4, 4]
          input h: float32[N, 16, 4, 4]
          state scale: float32[16] = fill(value=1.0)
          state bias: float32[16] = fill(value=0.0)
          state mean: float32[16] = fill(value=0.0)
          state var: float32[16] = fill(value=1.0)
          out, m, s, m2, v2: float32[N, 16, 4, 4], float32[16], float32[16], float32[16], float32[16] = batch_norm(x, scale, bias, mean, var, training=true)
          add: float32[N, 16, 4, 4] = add(r, out)
          relu: float32[N, 16, 4, 4] = relu(add)
          sum: float32[N, 16, 4, 4] = add(g, h)
          fill: float32[] = fill(shape=(), value=0.0)
          greater: bool[N, 16, 4, 4] = greater(relu, fill)
          where: float32[N, 16, 4, 4] = where(greater, sum, fill)
          gx, gs, gb: float32[N, 16, 4, 4], float32[16], float32[16] = batch_norm_grad(x, scale, m, s, where)
          output y = relu
          output gx = gx
          output gs = gs
          output gb = gb
          output gr = where
          update mean = m2
          update var = v2
        }
    Result:
        program p {
          input x: float32[N, 16, 4, 4]
          input r: float32[N, 16, 4, 4]
          input g: float32[N, 16, 4, 4]
          input h: float32[N, 16, 4, 4]
          state scale: float32[16] = fill(value=1.0)
          state bias: float32[16] = fill(value=0.0)
          state mean: float32[16] = fill(value=0.0)
          state var: float32[16] = fill(value=1.0)
          relu, m, s, m2, v2, "relu.mask": float32[N, 16, 4, 4], float32[16], float32[16], float32[16], float32[16], uint8[N, 2, 4, 4] = batch_norm_relu(x, scale, bias, mean, var, r, mask=true)
          gx, gs, gb, where: float32[N, 16, 4, 4], float32[16], float32[16], float32[N, 16, 4, 4] = batch_norm_relu_grad(x, scale, m, s, "relu.mask", g, h, residual=true)
          output y = relu
          output gx = gx
          output gs = gs
          output gb = gb
          output gr = where
          update mean = m2
          update var = v2
        }
    """  # noqa: E501
    report = Report(NAME)
    out = program.copy()
    out.block.operators = _fused(program.block, program.roots(), report, names_of(program))
    publish(report)
    return out


def _fused(block: Block, roots: Sequence[Value], report: Report, names: Names) -> list[Operator]:
    operators = [
        map_blocks(op, lambda inner: _inner(inner, report, names)) for op in block.operators
    ]
    search = _Search(Index(Block(block.inputs, operators), roots), report, names)
    found = [search.replaced(op) for op in operators]
    if not search.gone:
        return operators
    found = [search.with_mask(op) for op in found if op not in search.gone]
    # What went into a later operator has no user any more.
    return live(Block(block.inputs, found), roots)


def _inner(block: Block, report: Report, names: Names) -> Block:
    operators = _fused(block, block.outputs, report, names)
    same = operators == block.operators
    return block if same else Block(list(block.inputs), operators, list(block.outputs))


class _Search:
    """Looks backwards from each anchor.

    gone:  operators that a fused one takes the place of
    relus: what fused operators give -> the operator
    masks: what fused operators give -> the mask of it that a gradient takes
    """

    def __init__(self, index: Index, report: Report, names: Names) -> None:
        self.index, self.report, self.names = index, report, names
        self.gone: set[Operator] = set()
        self.relus: dict[Value, Operator] = {}
        self.masks: dict[Value, Value] = {}

    def replaced(self, op: Operator) -> Operator:
        """The fused operator where this one is an anchor, else itself."""
        made = None
        if op.type == "relu":
            made = self._forward(op)
        elif op.type == "batch_norm_grad":
            made = self._backward(op)
        if made is None:
            return op
        self.report.fired.append(f"{op.where()} ({made.type})")
        return made

    # ---- forward -------------------------------------------------------------------------------

    def _forward(self, relu: Operator) -> Operator | None:
        """batch_norm_relu in place of a ReLU."""
        (value,) = relu.operands
        add, residual = self._maker(value, "add"), None
        normed = self._maker(value, "batch_norm")
        if add is not None and add.inputs[0] is not add.inputs[1]:
            for v, other in (add.operands, reversed(add.operands)):
                if normed is None and (v.shape, v.dtype) == (other.shape, other.dtype):
                    normed, residual = self._maker(v, "batch_norm"), other
        if normed is None or not normed.attrs["training"]:
            return None
        if not self._only_later(normed.outputs[1:], relu):
            self.report.declined.append((relu.where(), "its statistics are used before the ReLU"))
            return None
        self.gone.update(filter(None, (normed, add)))
        attrs = {k: v for k, v in normed.attrs.items() if k != "training"}
        attrs["mask"] = False
        inputs = (*normed.inputs, residual, None, None)
        outputs = (relu.outputs[0], *normed.outputs[1:])
        made = Operator(batch_norm_relu.name, inputs, outputs, attrs, {}, normed.source, NAME)
        self.relus[relu.outputs[0]] = made
        return made

    # ---- backward ------------------------------------------------------------------------------

    def _backward(self, op: Operator) -> Operator | None:
        """batch_norm_relu_grad in place of a batch_norm_grad."""
        x, *vectors, masked = op.operands
        where = self._made_by(masked, "where")
        if where is None or where in self.gone or not self._is_zero(where.inputs[2]):
            return None
        mask, total = where.operands[:2]
        greater = self._made_by(mask, "greater")
        if greater is None or not self._is_zero(greater.inputs[1]):
            return None
        out = greater.operands[0]
        if any((v.shape, v.dtype) != (x.shape, x.dtype) for v in (out, total, masked)):
            return None
        others = [u for u in self.index.users[masked] if u is not op]
        if any(self.index.position[u] < self.index.position[op] for u in others):
            self.report.declined.append((op.where(), "the masked gradient is used before"))
            return None
        keep = self.index.use_count(masked) > 1
        grads, add = self._parts(total)
        self.gone.update(filter(None, (where, add)))
        attrs = {"axis": op.attrs["axis"], "residual": keep}
        outputs = (*op.outputs, masked) if keep else op.outputs
        inputs = (x, *vectors, self._mask(out), *grads)
        return Operator(batch_norm_relu_grad.name, inputs, outputs, attrs, {}, op.source, NAME)

    def _mask(self, out: Value) -> Value:
        """The mask of what a ReLU gives, as bits if an operator here can write them."""
        relu = self.relus.get(out)
        if relu is None:
            return out
        axis = relu.attrs["axis"] % out.ndim
        channels = out.shape[axis]
        if not isinstance(channels, int) or channels % WHOLE:
            self.report.declined.append((relu.where(), "its channels are no whole words of bits"))
            return out
        if out not in self.masks:
            shape = (*out.shape[:axis], channels // 8, *out.shape[axis + 1 :])
            self.masks[out] = Value(self.names.fresh(f"{out.name}.mask"), shape, "uint8")
        return self.masks[out]

    def with_mask(self, op: Operator) -> Operator:
        """The operator, which also writes the mask if a gradient takes it."""
        mask = self.masks.get(op.outputs[0]) if op.outputs else None
        if mask is None:
            return op
        return replace(op, outputs=(*op.outputs, mask), attrs={**op.attrs, "mask": True})

    def _parts(self, total: Value) -> tuple[tuple[Value, Value | None], Operator | None]:
        """(the two gradients whose sum this is, the operator that adds them)."""
        add = self._maker(total, "add")
        if add is None or any(v.shape != total.shape for v in add.operands):
            return (total, None), None
        a, b = add.operands
        return (a, b), add

    # ---- who makes what ------------------------------------------------------------------------

    def _made_by(self, value: Value, kind: str) -> Operator | None:
        maker = self.index.producer.get(value)
        return maker if maker is not None and maker.type == kind else None

    def _maker(self, value: Value, kind: str) -> Operator | None:
        """The operator of this kind that makes the value as its first output, for one user only."""
        maker = self._made_by(value, kind)
        if maker is None or maker in self.gone or self.index.use_count(value) > 1:
            return None
        return maker if maker.outputs[0] is value else None

    def _only_later(self, values: Sequence[Value], op: Operator) -> bool:
        place = self.index.position
        return all(place[u] > place[op] for v in values for u in self.index.users[v])

    def _is_zero(self, value: Value | None) -> bool:
        maker = None if value is None else self._made_by(value, "fill")
        return maker is not None and same_number(maker.attrs["value"], 0.0)
