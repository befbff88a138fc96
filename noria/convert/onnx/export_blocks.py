"""Operators written one after another, with the blocks inside them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from noria.convert.onnx.export_graph import Graph, emitter, value_info
from noria.core.errors import NoriaError
from noria.ir.emit import Builder
from noria.ir.opdef import lookup
from noria.ir.program import Block, Operator, Program, Spec, Value, needed, symbols_used

NAME = "onnx"
IMPLIED = {
    "arange": ("dtype",),
    "argmax": ("keepdims",),
    "argmin": ("keepdims",),
    "batch_norm": ("momentum",),
    "embedding": ("padding_idx", "sparse"),
    "eye": ("m", "dtype"),
    "flatten": ("start", "end"),
    "gru": ("recompute",),
    "layer_norm": ("axes",),
    "linear": ("dtype",),
    "lstm": ("recompute",),
    "matmul": ("dtype",),
    "multiclass_nms": ("size",),
    "non_max_suppression": ("size",),
    "nonzero": ("size",),
    "one_hot": ("dtype",),
    "resize": ("beyond", "cubic_a", "rounding", "single"),
    "scan": ("each",),
    "split": ("num", "sizes"),
    "unique": ("size",),
    "while_loop": ("steps",),
}
"""Attributes that need not be asked for: specs of outputs tell them, other attributes that they do
not matter, or only gradients need them."""
MAX_COMPUTED = 1 << 24  # elements of a constant


def write_operators(graph: Graph, operators: Sequence[Operator], roots: Iterable[Value]) -> None:
    """Writes operators of one block into a graph that knows the names of what they use."""
    before = graph.uses, graph.roots
    graph.uses, graph.roots = _uses(operators), set(roots)
    for operator in operators:
        for value in operator.outputs:
            graph.made_by[value] = operator
        _write(graph, operator)
    graph.uses, graph.roots = before


def _uses(operators: Sequence[Operator]) -> dict[Value, list[Operator]]:
    uses: dict[Value, list[Operator]] = {}
    for operator in operators:
        for value in operator.operands:
            uses.setdefault(value, []).append(operator)
    return uses


def _write(graph: Graph, operator: Operator) -> None:
    first, outer = len(graph.nodes), graph.prefix
    graph.prefix = f"{outer}/{operator.type}" if outer else operator.outputs[0].name
    try:
        names = _emitted(graph, operator)
        if names is None:
            names = _computed(graph, operator) or _decomposed(graph, operator)
    except NoriaError as error:
        raise error.at(operator.where()) from None
    graph.prefix = outer
    listed = (names,) if isinstance(names, str) else tuple(names)
    for value, name in zip(operator.outputs, listed, strict=False):
        if not outer:
            name = _renamed(graph, first, name, value)
        graph.bind(value, name)


def _emitted(graph: Graph, operator: Operator) -> Any:
    """What the op's emitter gives. None where there is none, or where it has not asked for an
    attribute that changes what the op does: a later one, or one that ONNX has nothing for."""
    handler = emitter.find(operator.type, version=graph.opset)
    if handler is None:
        return None
    attrs = _Asked(operator.attrs)
    names = handler(graph, replace(operator, attrs=attrs), *_inputs(graph, operator))
    defaults = lookup(operator.type).attrs
    overlooked = (
        name
        for name, value in operator.attrs.items()
        if name not in attrs.asked
        and name not in IMPLIED.get(operator.type, ())
        and defaults[name] is not inspect.Parameter.empty
        and value != defaults[name]
    )
    return None if any(overlooked) else names


class _Asked(dict[str, Any]):
    """Attributes that know which of them were asked for."""

    def __init__(self, attrs: Mapping[str, Any]) -> None:
        super().__init__(attrs)
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)


def _inputs(graph: Graph, operator: Operator) -> list[str | None]:
    return [None if v is None else graph.name(v) for v in operator.inputs]


def _computed(graph: Graph, operator: Operator) -> Sequence[str] | None:
    """What an op without inputs gives, if it gives it in every run and all sizes are known."""
    definition = lookup(operator.type)
    sizes = [d for v in operator.outputs for d in v.shape] + list(symbols_used(operator))
    if operator.operands or definition.effect != "pure" or definition.decompose_fn is not None:
        return None
    if not operator.outputs or not all(isinstance(d, int) for d in sizes):
        return None
    if any(math.prod(v.shape) > MAX_COMPUTED for v in operator.outputs):
        return None
    arrays = definition.run(np, [], operator.attrs)
    return [
        graph.constant(np.asarray(a), v.dtype)
        for a, v in zip(arrays, operator.outputs, strict=True)
    ]


def _decomposed(graph: Graph, operator: Operator) -> Sequence[str]:
    """The operator in simpler ones; where there are none it is noted as missing."""
    rule = lookup(operator.type).decompose_fn
    if rule is None:
        graph.shared.missing.setdefault(operator.type, []).append(operator.where())
        return [v.name for v in operator.outputs]
    program = Program()
    builder = Builder(program)
    builder.known.update(operator.operands)
    with builder, builder.on_behalf_of(operator, NAME):
        result = rule(*operator.inputs, **operator.attrs)
    outs = list(result) if isinstance(result, (tuple, list)) else [result]
    wanted = [v for v, old in zip(outs, operator.outputs, strict=True) if graph.used(old)]
    write_operators(graph, needed(program.block, wanted), wanted)
    return [graph.name(v) if v in wanted else "" for v in outs]


def _renamed(graph: Graph, first: int, name: str, value: Value) -> str:
    """What the nodes since `first` call `name` gets the name that the Program gave it."""
    if not graph.is_temporary(name):
        return name
    for node in graph.nodes[first:]:
        if name in node.output:
            break
    else:
        return name
    new = graph.preferred.get(value) or graph.shared.names.fresh(value.name)
    for node in graph.nodes[first:]:
        _rename(node, name, new)
    return new


def _rename(node: Any, old: str, new: str) -> None:
    node.name = new if node.name == old else node.name
    for names in (node.input, node.output):
        for i, name in enumerate(names):
            if name == old:
                names[i] = new
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, old, new)


def write_block(graph: Graph, block: Block, inputs: Sequence[str]) -> list[str]:
    """The block's operators written in place, on inputs that have these names; its outputs."""
    for value, name in zip(block.inputs, inputs, strict=True):
        graph.bind(value, name)
    write_operators(graph, block.operators, block.outputs)
    return [graph.name(v) for v in block.outputs]


def as_graph(
    graph: Graph, inputs: Sequence[tuple[str, Spec]], outputs: Sequence[tuple[str, Spec]]
) -> Any:
    """A finished nested graph as a message; what passes through it gets a name of its own."""
    out = graph.shared.messages.GraphProto(name=graph.shared.names.fresh("body"))
    made = {name for node in graph.nodes for name in node.output}
    taken: set[str] = set()
    for name, spec in outputs:
        if name not in made or name in taken:
            name = graph.copy(name)
        taken.add(name)
        out.output.append(value_info(graph.shared.messages, name, spec))
    out.input.extend(value_info(graph.shared.messages, n, s) for n, s in inputs)
    out.node.extend(without_unused(graph.nodes, taken))
    return out


def without_unused(nodes: Sequence[Any], roots: Iterable[str]) -> list[Any]:
    """The nodes that the roots depend on."""
    wanted, kept = set(roots), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted |= mentioned(node)
    return kept[::-1]


def mentioned(node: Any) -> set[str]:
    """All names that a node or a graph inside it reads."""
    found = set(node.input)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            found |= mentioned(inner)
        found |= {v.name for v in attribute.g.output}
    return found
