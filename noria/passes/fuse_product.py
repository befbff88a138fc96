"""A matrix product and the loop over what it gives become one operator."""

from __future__ import annotations

from collections.abc import Iterable

from noria.ir.index import Index
from noria.ir.program import Operator, Program, Value
from noria.ops.fused import ELEMENTWISE, reduction_axes
from noria.ops.fused_product import is_product_of_rows, space_of_loop
from noria.passes.liveness import fixed_values, unchanged_state
from noria.passes.nested import enclosed
from noria.passes.report import Report, publish

NAME = "fuse_product"
DTYPE = "float32"  # halves are multiplied by units that give whole blocks back
_CHEAP = """add sub mul neg abs square maximum minimum clip relu leaky_relu where equal not_equal
less less_equal greater greater_equal logical_and logical_or logical_not fill reduce_sum"""
CHEAP = frozenset(_CHEAP.split())
"""What takes less time than bringing its operands. With an exp or a GELU nothing was gained."""


def fuse_product(program: Program) -> Program:
    """A product of rows by a matrix that changes, and a short loop that reads it, become one
    `fused_product`: a kernel can do the loop on a part of the product that lies in the first cache.
    So gradients are masked, and sums of biases made, without a pass over memory of their own.

    Products with a matrix that never changes stay apart: of it a kernel has made what serves it
    best, once.

    Given:
        program p {
          input g: float32[N, 5]
          input y: float32[N, 4]
          state w: float32[5, 4] = fill(value=0.0) trainable
          matmul: float32[N, 4] = matmul(g, w)
          where, gb: float32[N, 4], float32[4] = fused(y, matmul) {
            body(y: float32[N, 4], matmul: float32[N, 4]) {
              fill: float32[] = fill(shape=(), value=0.0)
              greater: bool[N, 4] = greater(y, fill)
              where: float32[N, 4] = where(greater, matmul, fill)
              gb: float32[4] = reduce_sum(where, axis=(0,))
              return where, gb
            }
          }
          sub: float32[5, 4] = sub(w, w)
          output g = where
          output gb = gb
          update w = sub
        }
    Result:
        program p {
          input g: float32[N, 5]
          input y: float32[N, 4]
          state w: float32[5, 4] = fill(value=0.0) trainable
          where, gb: float32[N, 4], float32[4] = fused_product(g, w, y) {
            body(g: float32[N, 5], w: float32[5, 4], y: float32[N, 4]) {
              matmul: float32[N, 4] = matmul(g, w)
              where, gb: float32[N, 4], float32[4] = fused(y, matmul) {
                body(y: float32[N, 4], matmul: float32[N, 4]) {
                  fill: float32[] = fill(shape=(), value=0.0)
                  greater: bool[N, 4] = greater(y, fill)
                  where: float32[N, 4] = where(greater, matmul, fill)
                  gb: float32[4] = reduce_sum(where, axis=(0,))
                  return where, gb
                }
              }
              return where, gb
            }
          }
          sub: float32[5, 4] = sub(w, w)
          output g = where
          output gb = gb
          update w = sub
        }
    """
    report = Report(NAME)
    search = _Search(program, report)
    operators = [search.replaced(op) for op in program.operators]
    publish(report)
    if not search.gone:
        return program
    out = program.copy()
    out.block.operators = [op for op in operators if op not in search.gone]
    return out


class _Search:
    """Looks for the product in front of each loop. gone: products that are in a loop's operator."""

    def __init__(self, program: Program, report: Report) -> None:
        self.index = Index(program.block, program.roots())
        self.fixed = fixed_values(program.operators, unchanged_state(program))
        self.report = report
        self.gone: set[Operator] = set()

    def replaced(self, loop: Operator) -> Operator:
        """The operator of a product and this loop; the loop itself where there is none."""
        if loop.type != "fused" and loop.type not in ELEMENTWISE:
            return loop
        for value in loop.operands:
            product = self.index.producer.get(value)
            if product is None or not is_product_of_rows(product) or product in self.gone:
                continue
            reason = self._obstacle(product, loop)
            if reason:
                self.report.declined.append((loop.where(), f"apart from {product.type}: {reason}"))
                continue
            self.gone.add(product)
            self.report.fired.append(f"{loop.where()}: {product.type}, {loop.type}")
            return enclosed([product, loop], "fused_product", NAME, self._given(product, loop))
        return loop

    def _obstacle(self, product: Operator, loop: Operator) -> str:
        """Why the two stay apart; '' if they become one."""
        (value,) = product.outputs
        if _dtypes([*product.operands, *loop.operands, *loop.outputs]) != {DTYPE}:
            return f"not all is {DTYPE}"
        if product.operands[1] in self.fixed:
            return "its matrix never changes"
        if kinds := sorted(_kinds(loop) - CHEAP):
            return f"{kinds[0]} takes longer than bringing its operands"
        if space_of_loop(loop) != value.shape:
            return "the loop has another shape"
        if any(v.shape not in (value.shape, ()) for v in loop.operands):
            return "the loop repeats an operand along an axis"
        if any(axes != tuple(range(value.ndim - 1)) for axes in _reduced(loop)):
            return "the loop sums along other axes than those of the rows"
        place = self.index.position
        if any(place[user] < place[loop] for user in self.index.users[value]):
            return "the product is used before the loop"
        return ""

    def _given(self, product: Operator, loop: Operator) -> list[Value]:
        """The values the two make that something else needs."""
        (value,) = product.outputs
        kept = self.index.use_count(value) > sum(v is value for v in loop.operands)
        return [*([value] if kept else []), *loop.outputs]


def _dtypes(values: Iterable[Value]) -> set[str]:
    return {v.dtype for v in values}


def _kinds(loop: Operator) -> set[str]:
    return {op.type for op in loop.blocks["body"].operators} if loop.blocks else {loop.type}


def _reduced(loop: Operator) -> list[tuple[int, ...]]:
    """The axes of each reduction of a loop."""
    inner = loop.blocks["body"].operators if loop.type == "fused" else []
    return [axes for axes in map(reduction_axes, inner) if axes is not None]
