"""Branches and loops as ONNX: If and Loop, whose bodies see the names around them."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.export_blocks import as_graph, write_block
from noria.convert.onnx.export_graph import Graph, emitter
from noria.convert.onnx.export_shape import sliced
from noria.ir.program import Operator, Spec

FLAG, COUNT = Spec((), "bool"), Spec((), "int64")


@emitter("cond")
def cond(g: Graph, op: Operator, pred: str, *operands: str) -> Any:
    branches = {}
    for name, branch in (("then", "then_branch"), ("otherwise", "else_branch")):
        inner, block = Graph(g.shared, g), op.blocks[name]
        outs = write_block(inner, block, operands)
        branches[branch] = as_graph(inner, [], list(zip(outs, block.outputs, strict=True)))
    return g.node("If", pred, outputs=len(op.outputs), **branches)


@emitter("while_loop")
def while_loop(g: Graph, op: Operator, *operands: str) -> Any:
    """Whether to go on is asked before the loop, and in it with what a step gives."""
    carried, record = op.attrs["carried"], op.attrs["record"]
    test, body = op.blocks["cond"], op.blocks["body"]
    rest = operands[carried:]
    (first,) = write_block(g, test, operands)
    inner = Graph(g.shared, g)
    specs = body.inputs[:carried]
    step, flag, *names = [g.shared.names.fresh(h) for h in ("step", "go", *["carried"] * carried)]
    outs = write_block(inner, body, [*names, *rest])
    inner.names = {}  # the test has values of its own
    (again,) = write_block(inner, test, [*outs, *rest])
    kept = [(names[i], specs[i]) for i in record]
    graph = as_graph(
        inner,
        [(step, COUNT), (flag, FLAG), *zip(names, specs, strict=True)],
        [(again, FLAG), *zip(outs, body.outputs, strict=True), *kept],
    )
    return g.node("Loop", None, first, *operands[:carried], outputs=len(op.outputs), body=graph)


@emitter("scan")
def scan(g: Graph, op: Operator, *operands: str) -> Any:
    """A Loop that takes its slices by number: ONNX's own Scan may refuse to make no step."""
    carried, scanned, record = (op.attrs[k] for k in ("carried", "scanned", "record"))
    body, length, reverse = op.blocks["body"], g.size(op.attrs["length"]), op.attrs["reverse"]
    specs = body.inputs[:carried]
    step, flag, *names = [g.shared.names.fresh(h) for h in ("step", "go", *["carried"] * carried)]
    inner = Graph(g.shared, g)
    place = step
    if reverse:
        last = g.node("Sub", length, g.size(1))
        place = inner.node("Sub", last, step)
    stop = carried + scanned
    slices = [inner.node("Gather", xs, place, axis=0) for xs in operands[carried:stop]]
    outs = write_block(inner, body, [*names, *slices, *operands[stop:]])
    kept = [(names[i], specs[i]) for i in record]
    graph = as_graph(
        inner,
        [(step, COUNT), (flag, FLAG), *zip(names, specs, strict=True)],
        [(flag, FLAG), *zip(outs, body.outputs, strict=True), *kept],
    )
    given = [length, g.constant(True), *operands[:carried]]
    results = g.node("Loop", *given, outputs=len(op.outputs), body=graph)
    if not reverse:
        return results
    listed = [results] if isinstance(results, str) else list(results)
    return (*listed[:carried], *(sliced(g, y, 0, None, None, -1) for y in listed[carried:]))


@emitter("fused")
def fused(g: Graph, op: Operator, *operands: str) -> Any:
    return tuple(write_block(g, op.blocks["body"], operands))
