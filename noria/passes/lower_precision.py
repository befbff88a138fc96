"""`precision="bf16"`: a Program of float32 becomes one of mixed precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from noria.core.dtypes import to_numpy
from noria.core.flags import flags
from noria.ir.emit import Names, names_of
from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Program, Value
from noria.ops.precision import FOLLOWS, HALF, MOVES, POINTWISE, PRODUCTS
from noria.passes.liveness import live
from noria.passes.report import Report, publish

NAME = "lower_precision"
FULL = "float32"
_VIEWS = ("reshape", "squeeze", "unsqueeze", "flatten")
SUFFIX = {HALF: "bf16", FULL: "f32"}


def lower_precision(program: Program) -> Program:
    """With the flag `precision` at bf16, products run on bfloat16 and what lies between them too.

    Which operators those are, `ops/precision.py` says. State and outputs stay float32: a weight is
    cast once a step for all that read it, a gradient of a parameter comes out of its product as
    float32. Operators marked by `noria.full_precision()`, and nested blocks, stay as they are.
    Casts meet no second time: of each value there is at most one float32 and one bfloat16 form.

    Given:
        program p {
          input x: float32[N, 3]
          input g: float32[N, 4]
          state w: float32[4, 3] = fill(value=0.0) trainable
          linear: float32[N, 4] = linear(x, w)
          relu: float32[N, 4] = relu(linear)
          mul: float32[N, 4] = mul(relu, g)
          matmul: float32[N, 3] = matmul(relu, w)
          matmul_1: float32[4, 3] = matmul(relu, x, transpose_x=true)
          output y = matmul
          output z = mul
          update w = matmul_1
        }
    Result:
        program p {
          input x: float32[N, 3]
          input g: float32[N, 4]
          state w: float32[4, 3] = fill(value=0.0) trainable
          "x.bf16": bfloat16[N, 3] = cast(x, dtype="bfloat16")
          "w.bf16": bfloat16[4, 3] = cast(w, dtype="bfloat16")
          linear: bfloat16[N, 4] = linear("x.bf16", "w.bf16")
          relu: bfloat16[N, 4] = relu(linear)
          "relu.f32": float32[N, 4] = cast(relu, dtype="float32")
          mul: float32[N, 4] = mul("relu.f32", g)
          matmul: float32[N, 3] = matmul(relu, "w.bf16", dtype="float32")
          matmul_1: float32[4, 3] = matmul(relu, "x.bf16", transpose_x=true, dtype="float32")
          output y = matmul
          output z = mul
          update w = matmul_1
        }
    """
    report = Report(NAME)
    out = program
    if flags.precision == "bf16":
        out = _Lowering(program, report).run()
    publish(report)
    return out


class _Lowering:
    """One walk through the main block.

    forms:  old value -> dtype -> the value that holds it in that dtype
    halves: old values that the new Program computes as halves, and masks made of such
    spread: old values that repeat smaller ones; they cost nothing and ask for nothing
    wanted: old values of which a product, or what follows one, takes halves
    """

    def __init__(self, program: Program, report: Report) -> None:
        self.program, self.report = program, report
        self.names: Names = names_of(program)
        self.forms: dict[Value, dict[str, Value]] = {}
        self.halves: set[Value] = set()
        self.spread: set[Value] = set()
        self.makers: dict[Value, Operator] = {}
        self.wanted = _wanted(program.block)
        self.out: list[Operator] = []

    def run(self) -> Program:
        for operator in self.program.block.operators:
            self.add(operator)
            self.makers.update((v, operator) for v in operator.outputs)
        roots = {v: self.form(v, v.dtype) for v in self.program.roots()}
        out = self.program.replaced(self.out, roots)
        out.block.operators = live(out.block, out.roots())
        return out

    # ---- values --------------------------------------------------------------------------------

    def form(self, value: Value, dtype: str) -> Value:
        """The value in that dtype, if it is a float32 of the old Program; else as it is."""
        if value.dtype != FULL:
            return value if value not in self.forms else self.forms[value][value.dtype]
        forms = self.forms.setdefault(value, {FULL: value})
        if dtype not in forms:
            (known,) = forms.values()
            forms[dtype] = self.cast(known, dtype)
        return forms[dtype]

    def cast(self, value: Value, dtype: str) -> Value:
        maker = self.makers.get(value)
        name = self.names.fresh(f"{value.name}.{SUFFIX[dtype]}")
        out = Value(name, value.shape, dtype)
        if maker is not None and maker.type == "fill":
            made = replace(maker, outputs=(out,), attrs={**maker.attrs, "dtype": dtype})
        elif maker is not None and maker.type in _VIEWS:  # what it shows may be cast anyhow
            made = replace(maker, inputs=(self.form(maker.operands[0], dtype),), outputs=(out,))
        else:
            source = maker.source if maker else None
            made = Operator("cast", (value,), (out,), {"dtype": dtype}, {}, source, NAME)
        self.out.append(made)
        return out

    def is_full(self, value: Value, user: Operator) -> bool:
        """Whether it is a float32 as large as what the user makes, and stored as such."""
        small = value.shape != user.outputs[0].shape or value in self.spread
        return value.dtype == FULL and value not in self.halves and not small

    # ---- operators -----------------------------------------------------------------------------

    def add(self, operator: Operator) -> None:
        kind, takes = operator.type, operator.operands
        halves = [v in self.halves for v in takes]
        if kind in ("fill", "broadcast_to") and not any(halves):
            self.spread.update(operator.outputs)
        if kind == "later":
            return self.wait(operator)
        if operator.full_precision:
            return self.keep(operator, "marked to stay float32")
        if kind in PRODUCTS:
            return self.product(operator)
        if kind in FOLLOWS and takes[FOLLOWS[kind][0]] in self.halves:
            return self.lower(operator, FOLLOWS[kind])
        if kind in POINTWISE | MOVES and any(halves):
            if any(self.is_full(v, operator) for v in takes):
                return self.keep(operator, "beside something as large that is float32")
            return self.follow(operator)
        self.keep(operator, f"'{kind}' stays float32" if any(halves) else "")

    def keep(self, operator: Operator, reason: str) -> None:
        """The operator on float32, as it was."""
        if reason:
            self.report.declined.append((operator.where(), reason))
        moved = {v: self.form(v, v.dtype) for v in operator.operands}
        self.out.append(operator.with_inputs({v: w for v, w in moved.items() if v is not w}))

    def wait(self, operator: Operator) -> None:
        """`later(x, after)` is x; neither needs another form than the one it has."""
        inputs = tuple(
            next(iter(self.forms.get(v, {v.dtype: v}).values())) for v in operator.operands
        )
        self.renew(operator, inputs)

    def product(self, operator: Operator) -> None:
        positions = PRODUCTS[operator.type]
        if operator.type == "fused_linear" and self.halves.intersection(operator.operands[3:]):
            positions = (*positions, 3)  # a residual that is rounded already
        taken = [v for i, v in enumerate(operator.inputs) if v is not None and i in positions]
        if any(v.dtype != FULL for v in taken):
            return self.keep(operator, "its operands are not float32")
        has_dtype = "dtype" in lookup(operator.type).attrs
        if has_dtype and operator.outputs[0] not in self.wanted:
            operator = replace(operator, attrs={**operator.attrs, "dtype": FULL})
        self.lower(operator, positions)

    def follow(self, operator: Operator) -> None:
        """On halves if that loses nothing but the rounding of results, else by way of float32."""
        if operator.type in MOVES or all(map(self.is_exact, operator.operands)):
            return self.lower(operator, tuple(range(len(operator.inputs))))
        self.keep(operator, "")
        for v in operator.outputs:
            self.halves.add(v)
            if v.dtype == FULL:
                self.forms[v] = {HALF: self.cast(v, HALF)}

    def is_exact(self, value: Value) -> bool:
        """Whether halves hold the value as it is."""
        if value in self.halves or value.dtype != FULL:
            return True
        maker = self.makers.get(value)
        if maker is None or maker.type != "fill":
            return False
        number = np.float32(maker.attrs["value"])
        return bool(number.astype(to_numpy(HALF)) == number) or bool(np.isnan(number))

    def lower(self, operator: Operator, positions: tuple[int, ...]) -> None:
        """The operator with halves at these inputs; its outputs as it then infers them."""
        inputs = tuple(
            None if v is None else self.form(v, HALF if i in positions else v.dtype)
            for i, v in enumerate(operator.inputs)
        )
        self.renew(operator, inputs)
        self.report.fired.append(operator.where())

    def renew(self, operator: Operator, inputs: tuple[Value | None, ...]) -> None:
        """The operator on other inputs."""
        specs = lookup(operator.type).infer(inputs, operator.attrs)
        outputs = tuple(
            Value(v.name, v.shape, s.dtype) for v, s in zip(operator.outputs, specs, strict=True)
        )
        for old, new in zip(operator.outputs, outputs, strict=True):
            self.forms[old] = {new.dtype: new}
            if new.dtype in (HALF, "bool"):
                self.halves.add(old)
        self.out.append(replace(operator, inputs=inputs, outputs=outputs))


def _wanted(block: Block) -> set[Value]:
    """Values of which something takes halves, perhaps after operators that follow."""
    wanted: set[Value] = set()
    for operator in reversed(block.operators):
        if not operator.full_precision:
            wanted.update(_taken(operator, wanted))
    return wanted


def _taken(operator: Operator, wanted: set[Value]) -> Iterator[Value]:
    positions = PRODUCTS.get(operator.type) or FOLLOWS.get(operator.type)
    if positions is not None:
        for i in positions:
            if i < len(operator.inputs) and (v := operator.inputs[i]) is not None:
                yield v
    elif operator.type in POINTWISE | MOVES and any(v in wanted for v in operator.outputs):
        yield from operator.operands
