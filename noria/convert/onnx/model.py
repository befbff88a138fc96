"""An ONNX file as a checked model: versions, functions, names defined before they are used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from noria.convert.handlers import Handlers
from noria.convert.messages import parse_message, read_message, schema
from noria.core.errors import FormatError

MAX_NODES = 1_000_000  # those of functions at each call
FunctionKey = tuple[str, str, str]  # domain, name, overload


NEWEST = 28  # opset that the operators were written from


class Model:
    """A ModelProto whose graphs make sense.

    opsets: domain -> version; functions: the model's own operators; folder: of its external data
    """

    def __init__(self, proto: Any, folder: Path | None = None, where: str = "the model") -> None:
        self.proto, self.folder, self.where = proto, folder, where
        if not proto.HasField("graph"):
            raise FormatError("an ONNX model without a graph", where=where)
        self.opsets = opsets_of(proto.opset_import, where)
        self.functions: dict[FunctionKey, Any] = {
            (domain_of(f), f.name, f.overload): f for f in proto.functions
        }
        try:
            self._check()
        except RecursionError:
            raise FormatError(
                "functions or graphs inside each other too deep", where=where
            ) from None

    def _check(self) -> None:
        _check_graph(self.proto.graph, set(), self.where)
        for function in self.proto.functions:
            names = set(function.input)
            _check_nodes(function.node, names, f"function {function.name}")
            _need_defined(function.output, names, f"function {function.name}")
        if (count := self._count(self.proto.graph.node, {}, ())) > MAX_NODES:
            raise FormatError(
                "too many nodes",
                where=self.where,
                expected=f"at most {MAX_NODES:,}",
                got=f"{count:,}",
            )

    @classmethod
    def read(cls, source: str | os.PathLike[str] | bytes) -> Model:
        """From a file or its bytes. Raises FormatError for what is no ONNX model."""
        empty = schema("onnx").ModelProto()
        if isinstance(source, bytes):
            return cls(parse_message(empty, source, "the model"))
        path = Path(source)
        return cls(read_message(empty, path), path.parent, str(path))

    def require(self, handlers: Handlers) -> None:
        """Raises UnsupportedOperators, naming all operators no handler or function stands for."""
        handlers.require(self._used(self.proto.graph.node, self.opsets, set()))

    def function(self, node: Any) -> Any | None:
        """The model's own definition of a node's operator."""
        key = domain_of(node), node.op_type, node.overload
        return self.functions.get(key) if self.functions else None

    def _count(self, nodes: Any, known: dict[int, int], inside: tuple[int, ...]) -> int:
        """Nodes, with those of functions at each call.

        known: of each function; inside: the functions this one is called from. Raises FormatError
        for one that calls itself.
        """
        total = 0
        for node in nodes:
            function, total = self.function(node), total + 1
            for graph in graphs_of(node):
                total += self._count(graph.node, known, inside)
            if function is None:
                continue
            key = id(function)
            if key in inside:
                raise FormatError("a function calls itself without end", where=function.name)
            if key not in known:
                known[key] = self._count(function.node, known, (*inside, key))
            total += known[key]
        return total

    def _used(
        self, nodes: Any, opsets: Mapping[str, int], seen: set[int]
    ) -> Iterator[tuple[str, str, int, str]]:
        for node in nodes:
            function = self.function(node)
            if function is None:
                domain = domain_of(node)
                version = version_of(domain, opsets, node_name(node))
                yield domain, node.op_type, version, node_name(node)
            elif id(function) not in seen:
                seen.add(id(function))
                inner = opsets_of(function.opset_import, function.name) or self.opsets
                yield from self._used(function.node, inner, seen)
            for graph in graphs_of(node):
                yield from self._used(graph.node, opsets, seen)


def domain_of(proto: Any) -> str:
    """The domain of a node or function; ONNX's own has two names."""
    return "" if proto.domain == "ai.onnx" else proto.domain


def node_name(node: Any) -> str:
    """What a node is called in messages."""
    told = node.name or next((o for o in node.output if o), "")
    return f"{node.op_type} '{told}'" if told else str(node.op_type)


def opsets_of(imports: Any, where: str) -> dict[str, int]:
    """Domain -> version. Raises FormatError for a version that is none."""
    found = {domain_of(i): i.version for i in imports}
    for domain, version in found.items():
        if not 0 < version < 1000:
            raise FormatError(
                f"the opset of '{domain or 'ai.onnx'}' is no version", where=where, got=f"{version}"
            )
    if found.get("", 0) > NEWEST:
        raise FormatError(
            "this model uses operators newer than those noria knows",
            where=where,
            expected=f"opset {NEWEST} or older",
            got=f"opset {found['']}",
            hint="export it for an older opset",
        )
    return found


def version_of(domain: str, opsets: Mapping[str, int], where: str) -> int:
    """The version of a domain. Raises FormatError if it was not imported."""
    if domain not in opsets:
        raise FormatError(
            f"no opset of the domain '{domain or 'ai.onnx'}' is imported",
            where=where,
            got=", ".join(f"{d or 'ai.onnx'} {v}" for d, v in opsets.items()) or "none at all",
        )
    return opsets[domain]


def graphs_of(node: Any) -> Iterator[Any]:
    """The nested graphs of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def statistics_of(graph: Any) -> set[str]:
    """Names of the means and variances of batch normalisation, which nobody learns by gradients."""
    nodes = (n for n in graph.node if n.op_type == "BatchNormalization")
    return {name for n in nodes for name in n.input[3:5]}


def _check_graph(graph: Any, outer: set[str], where: str) -> None:
    names = set(outer)
    names.update(v.name for v in graph.input)
    names.update(t.name for t in graph.initializer)
    names.update(t.values.name for t in graph.sparse_initializer)
    _check_nodes(graph.node, names, where)
    _need_defined((v.name for v in graph.output), names, where)


def _check_nodes(nodes: Any, names: set[str], where: str) -> None:
    """Every input is defined before; `names` grows by the outputs."""
    made: set[str] = set()
    for node in nodes:
        for name in node.input:
            if name and name not in names:
                raise _undefined(name, node, nodes, where)
        for graph in graphs_of(node):
            _check_graph(graph, names, f"{where}, {node_name(node)}")
        for name in node.output:
            if name in made:
                raise FormatError(f"'{name}' is made twice", where=f"{where}, {node_name(node)}")
            if name:
                made.add(name)
                names.add(name)


def _undefined(name: str, node: Any, nodes: Any, where: str) -> FormatError:
    makers = [node_name(n) for n in nodes if name in n.output]
    got = "no node, input or initialiser makes it"
    if makers:
        got = f"it is made only later, by {makers[0]}: the graph is cyclic or not sorted"
    return FormatError(
        f"'{name}' is used before it is defined", where=f"{where}, {node_name(node)}", got=got
    )


def _need_defined(outputs: Any, names: set[str], where: str) -> None:
    for name in outputs:
        if name not in names:
            raise FormatError(f"the output '{name}' is not defined", where=where)
