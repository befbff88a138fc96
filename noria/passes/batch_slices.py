"""A training step in two: what is done for each row of the batch, and what needs all of them.

    Given:
        linear: float32[N, 2] = linear(x, weight)
        ...
        matmul: float32[2, 3] = matmul(g, x, transpose_x=true)
        sgd_update: float32[2, 3] = sgd_update(weight, matmul, rate)
    Result, for two slices:
        rows:  linear ... matmul, run on each slice of x; `matmul` is a sum over its rows
        whole: add = add(matmul.0, matmul.1); sgd_update(weight, add, rate)

A gradient is a sum over rows. Who needs more of the batch than a sum (an accuracy, the mean of the
loss, a sparse gradient) is given the rows of all slices put together. Sizes of the batch that are
numbers, as the divisor of a mean, are those of the whole batch in every slice, so nothing is
weighted and slices of any lengths give what one large batch gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from noria.core.dims import Dim, substitute, symbol, symbols_of
from noria.core.errors import ArgumentError
from noria.ir.emit import Builder
from noria.ir.nested import has_effect
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Block, Operator, Program, State, Value, needed, symbols_used
from noria.ops.common import axes_of
from noria.ops.precision import POINTWISE
from noria.passes.rows import APART

NAME = "split_batch"


class Kind(Enum):
    """What a value is to the slices."""

    WHOLE = auto()  # the same in all of them: of state, not of rows
    ROWS = auto()  # axis 0 is the batch, or the batch times a size
    SUM = auto()  # to be added
    OWN = auto()  # of a slice alone, as statistics of its rows
    LATE = auto()  # there when all slices are done


Test = Callable[[Operator, list[bool]], bool]  # of an operator, and which of its inputs have rows


def _all(op: Operator, rows: list[bool]) -> bool:
    return sum(rows) == len(op.operands)


def _first(op: Operator, rows: list[bool]) -> bool:
    return rows[0] and not any(rows[1:])


_EACH = ["1d", "2d", "3d"]
_POOLS = ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")

ROW_BY_ROW: Mapping[str, Test] = {
    **APART,
    **{f"{pool}{n}_grad": _all for pool in _POOLS for n in _EACH},
    **{f"max_pool{n}d_{what}": _all for what in ("places", "spread") for n in (1, 2)},
    **{f"conv{n}_input_grad": _first for n in _EACH},
    "pooled_conv2d": _first,
    "taken_input_grad": lambda op, rows: rows == [True, True, False],
    **dict.fromkeys(("softmax_cross_entropy", "softmax_cross_entropy_grad"), _all),
    **dict.fromkeys(("grid_sample_input_grad", "grid_sample_grid_grad"), _all),
    **dict.fromkeys(("self_attention", "self_attention_grad", "later"), _all),
    "unslice": lambda op, rows: 0 not in axes_of(op.attrs["axes"], op.outputs[0].ndim),
}
"""op -> whether a row of its outputs needs one row of its inputs. Others are taken to mix them."""


def _along_rows(op: Operator, rows: list[bool]) -> bool:
    axis = op.attrs["axis"]
    return axis is None or 0 in axes_of(axis, op.operands[0].ndim)


def _products(op: Operator, rows: list[bool]) -> bool:
    turned = op.attrs["transpose_x"] and not op.attrs["transpose_y"]
    return bool(all(rows) and turned and all(v.ndim == 2 for v in op.operands))


SUMS: Mapping[str, Test] = {
    **{f"conv{n}_weight_grad": _all for n in _EACH},
    "taken_weight_grad": _all,
    "reduce_sum": _along_rows,
    "sum_to": _all,
    "matmul": _products,
    "scatter_rows": _all,
    "layer_norm_grad": lambda op, rows: sum(rows) >= len(rows) - 1,  # all but the scale
}
"""op -> whether its outputs that have no rows are sums over rows."""

STATISTICS = ("batch_norm", "batch_norm_grad")


@dataclass(eq=False, slots=True)
class Split:
    """batch: the symbol of axis 0.

    rows:    its inputs are those of the Program, or `numbers`; it has no updates of its own
    whole:   its inputs are those of the Program, `numbers`, and `joined`
    sums:    output of `rows` -> the states of `whole` that hold it, one of each slice
    joined:  outputs of `rows` whose rows, put together, are the input of `whole` of that name
    numbers: input -> the size of the whole batch that it is
    sliced:  inputs that have rows
    """

    batch: str
    rows: Program
    whole: Program
    sums: dict[str, list[str]] = field(default_factory=dict)
    joined: list[str] = field(default_factory=list)
    numbers: dict[str, Dim] = field(default_factory=dict)
    sliced: list[str] = field(default_factory=list)


def split_batch(program: Program, slices: int, *, own_statistics: bool = False) -> Split:
    """Cut a Program for so many slices of its batch.

    own_statistics: batch normalisation takes the mean and the variance of the slice, and the mean
    of what the slices add to the running ones. That is not what one large batch gives.

    Raises ArgumentError where rows depend on more than themselves and state, naming the operator.
    """
    return _Splitter(program, slices, own_statistics).split()


class _Splitter:
    def __init__(self, program: Program, slices: int, own_statistics: bool) -> None:
        self.program, self.slices, self.own = program, slices, own_statistics
        self.batch = _batch_of(program)
        self.operators = needed(program.block, program.roots(), has_effect)
        self.kind: dict[Value, Kind] = {s.value: Kind.WHOLE for s in program.state.values()}
        for v in program.block.inputs:
            self.kind[v] = Kind.ROWS if self._has_rows(v) else Kind.WHOLE
        self.early: list[Operator] = []
        self.late: list[Operator] = []
        self.numbers: dict[Value, Dim] = {}
        self.means: list[Value] = []  # of slices, to be weighted

    def split(self) -> Split:
        for op in self.operators:
            self._sort(op)
        out = Split(self.batch, self._part("rows"), self._part("whole"))
        out.numbers = {v.name: dim for v, dim in self.numbers.items()}
        self._hand_over(out)
        return out

    # ---- what each value is --------------------------------------------------------------------

    def _sort(self, op: Operator) -> None:
        given = {self.kind[v] for v in op.operands}
        apart = self.batch not in symbols_used(op) and not has_effect(op)
        if op.type == "dim_value" and self.batch in symbols_of(op.attrs["dim"]):
            self.numbers[op.outputs[0]] = op.attrs["dim"]
            self._be(op, Kind.WHOLE)
        elif given <= {Kind.WHOLE} and apart and not any(map(self._has_rows, op.outputs)):
            self._be(op, Kind.WHOLE)
            self.early.append(op)
            self.late.append(op)
        elif given <= {Kind.WHOLE, Kind.ROWS, Kind.OWN} and not has_effect(op) and self._row(op):
            self.early.append(op)
        else:
            self._be_late(op)

    def _be(self, op: Operator, kind: Kind) -> None:
        self.kind.update(dict.fromkeys(op.outputs, kind))

    def _row(self, op: Operator) -> bool:
        """Is it done for rows, each by itself, or a sum over them?"""
        rows = [self._has_rows(v) for v in op.operands]
        mentioned = [self.batch in symbols_of(v.shape) for v in op.operands]
        if rows != mentioned or op.blocks:
            return False
        if op.type in STATISTICS and self.own:
            return self._statistics(op)
        if any(self.kind[v] is Kind.OWN for v in op.operands):
            return False
        if op.type in ROW_BY_ROW and all(map(self._has_rows, op.outputs)):
            ranks = {v.ndim for v, r in zip(op.operands, rows, strict=True) if r}
            level = op.type not in POINTWISE or ranks <= {op.outputs[0].ndim}
            if level and ROW_BY_ROW[op.type](op, _for_inputs(op, rows)):
                self._be(op, Kind.ROWS)
                return True
        if op.type in SUMS and any(rows) and SUMS[op.type](op, rows):
            for v in op.outputs:
                self.kind[v] = Kind.ROWS if self._has_rows(v) else Kind.SUM
            return True
        return False

    def _statistics(self, op: Operator) -> bool:
        """Batch normalisation of a slice by itself, both ways."""
        for v in op.outputs:
            grads = op.type == "batch_norm_grad"
            other = Kind.SUM if grads else Kind.OWN
            self.kind[v] = Kind.ROWS if self._has_rows(v) else other
        return True

    def _be_late(self, op: Operator) -> None:
        self._be(op, Kind.LATE)
        self.late.append(op)
        if any(map(self._has_rows, op.outputs)):
            raise ArgumentError(
                "the batch cannot be cut into slices here",
                where=op.where(),
                expected="rows that depend on themselves and on state only",
                got=", ".join(f"{v.name}: {v}" for v in op.operands),
                hint="own_statistics=True takes the statistics of each slice"
                if op.type in STATISTICS
                else "one replica",
            )

    def _has_rows(self, v: Value) -> bool:
        """Is axis 0 the batch, or the batch times a size, and no other axis?"""
        if not v.ndim or self.batch not in symbols_of(v.shape[:1]):
            return False
        each = substitute(v.shape[0], {self.batch: 1})
        if self.batch in symbols_of(v.shape[1:]) or self.batch in symbols_of(each):
            return False
        return bool(v.shape[0] == symbol(self.batch) * each)

    # ---- the two Programs ----------------------------------------------------------------------

    def _part(self, name: str) -> Program:
        """The Program of the slices, or of the rest, still without what goes between them."""
        operators = self.early if name == "rows" else self.late
        block = Block([*self.program.block.inputs, *self.numbers], list(operators), [])
        return Program(f"{self.program.name}.{name}", block, dict(self.program.state))

    def _hand_over(self, out: Split) -> None:
        replaced: dict[Value, Value] = {}
        roots = [v for v in self.program.roots() if self.kind[v] not in (Kind.WHOLE, Kind.LATE)]
        wanted = [v for op in self.late for v in op.operands] + roots
        for v in dict.fromkeys(wanted):
            if v in self.program.block.inputs:
                continue  # all of it is fed
            if self.kind[v] is Kind.ROWS:
                self._join(out, v)
            elif self.kind[v] in (Kind.SUM, Kind.OWN):
                self._add(out, v, replaced)
        self._finish(out, replaced)

    def _join(self, out: Split, v: Value) -> None:
        """Rows are an input of the rest."""
        out.rows.outputs[v.name] = v
        out.whole.block.inputs.append(v)
        out.joined.append(v.name)

    def _add(self, out: Split, v: Value, replaced: dict[Value, Value]) -> None:
        """Sums are states of the rest, and added there."""
        out.rows.outputs[v.name] = v if self.kind[v] is Kind.SUM else self._weighted(out, v)
        parts = [Value(f"{v.name}.{k}", v.shape, v.dtype) for k in range(self.slices)]
        out.whole.state |= {p.name: State(p) for p in parts}
        out.sums[v.name] = [p.name for p in parts]
        before = len(out.whole.operators)
        with Builder(out.whole, made_by=NAME):
            total = parts[0]
            for part in parts[1:]:
                total = o.add(total, part)
        added = out.whole.operators[before:]
        out.whole.block.operators[:] = [*added, *out.whole.operators[:before]]
        replaced[v] = total

    def _weighted(self, out: Split, v: Value) -> Value:
        """A mean over a slice, times its share of the batch: these add up to the mean of all."""
        batch = symbol(self.batch)
        known = [k for k, dim in self.numbers.items() if dim == batch]
        number = known[0] if known else Value("batch.rows", (), "int64")
        if not known:
            self.numbers[number] = batch
            out.numbers[number.name] = batch
            for part in (out.rows, out.whole):
                part.block.inputs.append(number)
        with Builder(out.rows, made_by=NAME):
            share = o.div(
                o.cast(o.dim_value(dim=batch), dtype=v.dtype), o.cast(number, dtype=v.dtype)
            )
            return o.mul(v, share)

    def _finish(self, out: Split, replaced: Mapping[Value, Value]) -> None:
        whole, rows = out.whole, out.rows
        whole.block.operators[:] = [op.with_inputs(replaced) for op in whole.operators]
        whole.outputs = {n: replaced.get(v, v) for n, v in self.program.outputs.items()}
        whole.updates = {n: replaced.get(v, v) for n, v in self.program.updates.items()}
        # A state that stays what it is: it changes between steps, and nothing may be kept of it.
        rows.updates = {n: self.program.state[n].value for n in self.program.updates}
        whole.updates |= {n: whole.state[n].value for names in out.sums.values() for n in names}
        for part in (rows, whole):
            part.block.outputs = list(part.outputs.values())
            part.block.operators = needed(part.block, part.roots(), has_effect)
            used = {v for op in part.operators for v in op.operands} | set(part.roots())
            part.block.inputs = [v for v in part.block.inputs if v in used]
        inputs = self.program.block.inputs
        out.sliced = [v.name for v in inputs if self.kind[v] is Kind.ROWS]


def _batch_of(program: Program) -> str:
    """The symbol that axis 0 of the inputs shares."""
    leads = [v.shape[0] for v in program.block.inputs if v.ndim]
    found = {str(d) for d in leads if isinstance(d, Dim)}
    batch = found.pop() if len(found) == 1 else ""
    if batch not in {s for v in program.block.inputs for s in symbols_of(v.shape)}:
        raise ArgumentError(
            "there is no batch to cut into slices",
            where=f"Program '{program.name}'",
            expected="inputs that share one open size along axis 0",
            got=", ".join(f"{v.name}: {v}" for v in program.block.inputs) or "no inputs",
        )
    return batch


def _for_inputs(op: Operator, rows: Sequence[bool]) -> list[bool]:
    """`rows` of the operands, at the places of the inputs."""
    left = iter(rows)
    return [False if v is None else next(left) for v in op.inputs]
