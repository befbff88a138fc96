"""Two batch norms whose results are added: one writes the sum, and they have one gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from noria.ir.emit import Names, names_of
from noria.ir.index import Index
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.norm_pair import batch_norm_pair_grad
from noria.ops.normed_conv import batch_norm_factors
from noria.passes.nested import map_blocks
from noria.passes.report import Report, publish

NAME = "fuse_norm_pairs"


def fuse_norm_pairs(program: Program) -> Program:
    """A batch norm whose result is the residual of a batch_norm_relu, as in a block of a residual
    network whose branch changes the shape, makes its statistics pass only, and the batch_norm_relu
    normalises what it adds. Two batch_norm_grad of one gradient, as they have then, become
    `batch_norm_pair_grad`; so does a batch_norm_relu_grad that gives its masked gradient to nothing
    but the second one.

    Given:
        program p {
          input x: float32[N, 4, 3, 3]
          input x2: float32[N, 4, 3, 3]
          input g: float32[N, 4, 3, 3]
          input scale: float32[4]
          input bias: float32[4]
          input mean: float32[4]
          input var: float32[4]
          b, m2, s2, u2, v2: float32[N, 4, 3, 3], float32[4], float32[4], float32[4], float32[4] = batch_norm(x2, scale, bias, mean, var, training=true)
          y, m, s, u, v: float32[N, 4, 3, 3], float32[4], float32[4], float32[4], float32[4] = batch_norm_relu(x, scale, bias, mean, var, b)
          gx, gs, gb, gr: float32[N, 4, 3, 3], float32[4], float32[4], float32[N, 4, 3, 3] = batch_norm_relu_grad(x, scale, m, s, y, g, residual=true)
          gx2, gs2, gb2: float32[N, 4, 3, 3], float32[4], float32[4] = batch_norm_grad(x2, scale, m2, s2, gr)
          output y = y
          output gx = gx
          output gs = gs
          output gb = gb
          output gx2 = gx2
          output gs2 = gs2
          output gb2 = gb2
        }
    Result:
        program p {
          input x: float32[N, 4, 3, 3]
          input x2: float32[N, 4, 3, 3]
          input g: float32[N, 4, 3, 3]
          input scale: float32[4]
          input bias: float32[4]
          input mean: float32[4]
          input var: float32[4]
          b.factors, m2, s2, u2, v2: float32[2, 4], float32[4], float32[4], float32[4], float32[4] = batch_norm_factors(x2, scale, bias, mean, var)
          y, m, s, u, v: float32[N, 4, 3, 3], float32[4], float32[4], float32[4], float32[4] = batch_norm_relu(x, scale, bias, mean, var, x2, m2, b.factors)
          gx, gs, gb, gx2, gs2, gb2: float32[N, 4, 3, 3], float32[4], float32[4], float32[N, 4, 3, 3], float32[4], float32[4] = batch_norm_pair_grad(x, scale, m, s, x2, scale, m2, s2, g, y)
          output y = y
          output gx = gx
          output gs = gs
          output gb = gb
          output gx2 = gx2
          output gs2 = gs2
          output gb2 = gb2
        }
    """  # noqa: E501
    report = Report(NAME)
    out = program.copy()
    out.block.operators = _Pairs(report, names_of(program)).of(program.block, program.roots())
    publish(report)
    return out


class _Pairs:
    """Goes through blocks. names: of the Program, for factors."""

    def __init__(self, report: Report, names: Names) -> None:
        self.report, self.names = report, names

    def of(self, block: Block, roots: Sequence[Value]) -> list[Operator]:
        operators = [map_blocks(op, self.inside) for op in block.operators]
        index = Index(Block(block.inputs, operators), roots)
        made: dict[Operator, Operator] = {}
        gone: set[Operator] = set()
        for op in operators:
            branch = self.branch(op, index)
            second = None if op in gone else _second(op, index, gone, self.report)
            if branch is not None:
                made |= self.added(op, branch)
            elif second is not None:
                made[op] = _pair(op, second)
                gone.add(second)
            if op in made:
                self.report.fired.append(op.where())
        return [made.get(op, op) for op in operators if op not in gone]

    def inside(self, block: Block) -> Block:
        operators = self.of(block, block.outputs)
        same = operators == block.operators
        return block if same else Block(list(block.inputs), operators, list(block.outputs))

    def branch(self, op: Operator, index: Index) -> Operator | None:
        """The batch norm whose result this one adds."""
        if op.type != "batch_norm_relu" or op.inputs[5] is None or op.inputs[6] is not None:
            return None
        branch = index.producer.get(op.inputs[5])
        if branch is None or branch.type != "batch_norm" or not branch.attrs["training"]:
            return None
        reason = _refused_branch(op, branch, index)
        if reason is not None:
            self.report.declined.append((op.where(), reason))
        return branch if reason is None else None

    def added(self, op: Operator, branch: Operator) -> dict[Operator, Operator]:
        """Both batch norms -> what takes their places."""
        out, mean, *rest = branch.outputs
        name = self.names.fresh(f"{out.name}.factors")
        factors = Value(name, (2, *mean.shape), mean.dtype)
        attrs = {k: v for k, v in branch.attrs.items() if k != "training"}
        outputs, kind = (factors, mean, *rest), batch_norm_factors.name
        inputs = (*op.inputs[:5], branch.operands[0], mean, factors)
        return {
            branch: replace(branch, type=kind, outputs=outputs, attrs=attrs, made_by=NAME),
            op: replace(op, inputs=inputs, made_by=NAME),
        }


def _refused_branch(op: Operator, branch: Operator, index: Index) -> str | None:
    residual = branch.outputs[0]
    if residual is not op.inputs[5] or index.use_count(residual) > 1:
        return "what the branch's batch norm gives is used elsewhere"
    if len({o.attrs["axis"] % residual.ndim for o in (op, branch)}) > 1:
        return "their channels are different axes"
    return None if residual.ndim > 2 else "factors of matrices look like operands of that size"


def _second(op: Operator, index: Index, gone: set[Operator], report: Report) -> Operator | None:
    """The batch_norm_grad that takes the gradient which this one takes too."""
    if op.type == "batch_norm_grad":
        total, alone = op.operands[4], False
    elif op.type == "batch_norm_relu_grad" and op.attrs["residual"]:
        total, alone = op.outputs[3], True
    else:
        return None
    place = index.position
    for user in index.users[total]:
        if user.type != "batch_norm_grad" or user in gone or place[user] <= place[op]:
            continue
        reason = _refusal(op, user, total, index)
        if reason is None and alone and index.use_count(total) > 1:
            reason = "the masked gradient is used elsewhere"
        if reason is None:
            return user
        report.declined.append((op.where(), reason))
    return None


def _refusal(op: Operator, other: Operator, total: Value, index: Index) -> str | None:
    x, x2 = op.operands[0], other.operands[0]
    if other.operands[4] is not total:
        return "the gradient is used otherwise"
    if (x.shape, x.dtype) != (x2.shape, x2.dtype):
        return "their inputs have different shapes or dtypes"
    if op.attrs["axis"] % x.ndim != other.attrs["axis"] % x.ndim:
        return "their channels are different axes"
    makers = [index.producer.get(v) for v in other.operands[:4]]
    if any(m is not None and index.position[m] >= index.position[op] for m in makers):
        return "what the second one takes is made later"
    return None


def _pair(op: Operator, other: Operator) -> Operator:
    gradients: tuple[Value | None, ...] = (op.operands[4], None, None)
    if op.type == "batch_norm_relu_grad":
        out, grad, more = op.inputs[4:]
        gradients = (grad, out, more)
    inputs = (*op.operands[:4], *other.operands[:4], *gradients)
    outputs = (*op.outputs[:3], *other.outputs)
    attrs = {"axis": op.attrs["axis"]}
    return Operator(batch_norm_pair_grad.name, inputs, outputs, attrs, {}, op.source, NAME)
