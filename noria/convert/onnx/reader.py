"""From an ONNX model to a Program.

Nodes are converted in their order. What does not depend on an input of the model is computed at
once; arithmetic on shapes stays with sizes (`sizes.py`); the rest becomes operators. Weights
become state, under their names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from noria.convert.handlers import NeedsConstant
from noria.convert.onnx.graph import Names, attributes, outputs_of, resolved
from noria.convert.onnx.handlers import Node, need_inputs, onnx_op
from noria.convert.onnx.knowledge import Knowledge
from noria.convert.onnx.model import (
    Model,
    domain_of,
    node_name,
    opsets_of,
    statistics_of,
    version_of,
)
from noria.convert.onnx.sizes import Sizes, fold
from noria.convert.onnx.tensors import array_of, dense_of
from noria.convert.onnx.types import checked_constant, program_dtype, spec_of, symbols_told
from noria.core.dtypes import is_float
from noria.core.errors import FormatError, MissingError, NoriaError, nearest
from noria.core.trace import Source
from noria.ir.call import bounded_arrays
from noria.ir.emit import Builder, building
from noria.ir.program import Program, Value
from noria.runtime.scope import Scope

MAX_BYTES = 1 << 30  # of an array that is computed while a model is converted
FEW = 1024  # integers: as many are numbers of the graph, more are weights
_WRONG = (AttributeError, IndexError, KeyError, TypeError, ValueError, ArithmeticError, MemoryError)


def load(
    source: str | os.PathLike[str] | bytes,
    constants: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> tuple[Program, dict[str, np.ndarray]]:
    """An ONNX model as a Program and its state, by name.

    source:    a file, or its bytes (then external data cannot be read)
    constants: input -> array: inputs that are fixed, and no inputs of the Program any more
    sizes:     symbol of the model -> number: symbolic sizes that are fixed
    Weights of floats are parameters, which optimisers train; statistics of batch normalisation
    are none. A size without a name is called after its input and axis: `x_0`. A sequence among the
    outputs gives outputs `name[0]`, `name[1]`, ...

    Raises FormatError for what is no sound model, UnsupportedOperators (all at once) before
    anything is converted, NeedsConstant naming the inputs to fix, MissingError for an unknown name.

        program, state = noria.convert.onnx.load("model.onnx")
        predictor = noria.Predictor(program, state)
    """
    found = convert(Model.read(source), constants, sizes)
    with Builder(found.program) as builder:
        for name, result in found.results.items():
            _add_output(builder, name, result)
    found.program.block.outputs = list(found.program.outputs.values())
    return found.program, found.state | _first_values(found)


def _first_values(found: Converted) -> dict[str, np.ndarray]:
    """Of state that is no weight of the model: the key of random numbers."""
    others = Program()
    others.state = {n: s for n, s in found.program.state.items() if n not in found.state}
    return Scope().initialize(others).state()


def _add_output(builder: Builder, name: str, result: Any) -> None:
    if isinstance(result, list):
        for i, item in enumerate(result):
            _add_output(builder, f"{name}[{i}]", item)
        return
    if isinstance(result, np.ndarray) and program_dtype(result.dtype) is not None:
        result = builder.constant(result)
    if not isinstance(result, Value):
        kind = "nothing" if result is None else str(getattr(result, "dtype", type(result).__name__))
        raise FormatError(f"the output '{name}' is nothing a Program can give", got=kind)
    builder.program.outputs[name] = result


def _constant(value: Any, info: Any) -> Any:
    """What a caller gives for an input: a tensor, a sequence as a list, None for no optional."""
    if value is None:
        return None
    if info.type.WhichOneof("value") == "tensor_type":
        return checked_constant(value, info)
    if isinstance(value, list):
        return [_constant(v, info) for v in value]
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


@dataclass(eq=False)
class Converted:
    """A model as a Program whose outputs were not chosen yet.

    results: output -> Value, array, list of these, or None
    """

    program: Program
    state: dict[str, np.ndarray]
    results: dict[str, Any]


def convert(
    model: Model,
    constants: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    *,
    measure: bool = True,
) -> Converted:
    """What `load` does, but outputs may be of any kind. Raises as it does.

    measure: sizes may come from data (`measured.py`); otherwise NeedsConstant names the inputs
    """
    conversion = Conversion(model, dict(constants or {}), dict(sizes or {}), measure)
    try:
        model.require(onnx_op)
        with conversion.builder, bounded_arrays(MAX_BYTES), np.errstate(all="ignore"):
            results = conversion.run()
    except RecursionError:
        raise FormatError("graphs are nested too deep", where=model.where) from None
    return Converted(conversion.program, conversion.state, results)


class Conversion(Knowledge):
    """One model being converted: the Frame that nodes ask."""

    def __init__(
        self, model: Model, constants: dict[str, Any], sizes: dict[str, Any], measure: bool
    ) -> None:
        name = model.proto.graph.name
        self.program = Program(name if name.isidentifier() else "model")
        self.builder = Builder(self.program)
        super().__init__(self.builder, sizes, measure)
        self.model, self.constants = model, constants
        self.state: dict[str, np.ndarray] = {}
        self.count = 0

    def run(self) -> dict[str, Any]:
        graph = self.model.proto.graph
        scope = Names(self.model.opsets)
        self._need_sizes(graph)
        given = self._given(graph)
        self._declare(graph, given, scope)
        self.enter(graph, scope)
        scope.values.update(given)
        self.nodes(graph.node, scope)
        return {v.name: self._result(scope[v.name]) for v in graph.output}

    # ---- inputs and weights --------------------------------------------------------------------

    def _given(self, graph: Any) -> dict[str, Any]:
        names = [v.name for v in graph.input]
        for name in self.constants:
            if name not in names:
                raise MissingError(f"the model has no input '{name}'", hint=nearest(name, names))
        infos = {v.name: v for v in graph.input}
        return {name: _constant(value, infos[name]) for name, value in self.constants.items()}

    def _need_sizes(self, graph: Any) -> None:
        known = set().union(*map(symbols_told, graph.input))
        for name in self.symbols:
            if name not in known:
                raise MissingError(
                    f"no input of the model has a size '{name}'", hint=nearest(name, known)
                )

    def _declare(self, graph: Any, given: Mapping[str, Any], scope: Names) -> None:
        weights = {t.name for t in graph.initializer} | {
            t.values.name for t in graph.sparse_initializer
        }
        for info in graph.input:
            if info.name in given:
                self._fix_sizes(info, given[info.name])
        unknown = []
        for info in graph.input:
            if info.name in weights or info.name in given:
                continue
            spec = spec_of(info, self.symbols)
            if spec is None:
                unknown.append(info.name)
            else:
                scope.values[info.name] = self.builder.input(info.name, spec.shape, spec.dtype)
        if unknown:
            raise NeedsConstant(unknown[0], "what is no tensor of a known rank and dtype", unknown)

    def _fix_sizes(self, info: Any, value: Any) -> None:
        """Symbols of a constant's shape stand for its sizes, in other inputs too."""
        dims = info.type.tensor_type.shape.dim
        if isinstance(value, np.ndarray) and len(dims) == value.ndim:
            for dim, size in zip(dims, value.shape, strict=True):
                if dim.dim_param:
                    self.symbols.setdefault(dim.dim_param, int(size))

    def enter(self, graph: Any, scope: Names) -> None:
        """Defines the weights of a graph."""
        statistics = statistics_of(graph)
        for tensor in graph.initializer:
            name, array = tensor.name, array_of(tensor, self.model.folder)
            scope.values[name] = self.weight(name, array, learned=name not in statistics)
        for sparse in graph.sparse_initializer:
            name = sparse.values.name
            scope.values[name] = self.weight(name, dense_of(sparse, f"tensor '{name}'"))

    def weight(self, name: str, array: np.ndarray, *, learned: bool = False) -> Any:
        """An array of the file as state, or as itself if it is a number of the graph's form.

        learned: optimisers find it, if it has floats
        """
        dtype = program_dtype(array.dtype)
        few = 1 if array.dtype.kind not in "iub" else FEW
        if dtype is None or array.size <= few:
            return array
        root = self.builder
        fresh = root.names.fresh(name or "weight")
        root.names.taken.discard(fresh)
        value = root.state(fresh, array.shape, dtype, trainable=learned and is_float(dtype))
        self.state[fresh] = array
        self.origins.arrays[value] = array
        return building().capture(value)

    def _result(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._result(v) for v in value]
        return self.value(value) if isinstance(value, Sizes) else value

    # ---- nodes ---------------------------------------------------------------------------------

    def nodes(self, nodes: Any, scope: Names) -> None:
        """Converts nodes in their order; their results join the scope."""
        for index, proto in enumerate(nodes):
            self.count += 1
            args = [scope[name] if name else None for name in proto.input]
            with self._at(proto, index):
                results = self._node(proto, args, scope)
            for name, result in zip(proto.output, results, strict=False):
                if name:
                    scope.values[name] = result

    @contextmanager
    def _at(self, proto: Any, index: int) -> Iterator[None]:
        """Operators emitted inside say which node they come from, and so do errors."""
        builder, name = building(), node_name(proto)
        before = builder.source
        builder.source = Source(f"{os.path.basename(self.model.where)}:{name}", index, "")
        try:
            yield
        except NoriaError as error:
            raise error.at(name) from None
        except _WRONG as error:
            told = f"{type(error).__name__}: {error}"
            raise FormatError("a node makes no sense", where=name, got=told) from error
        finally:
            builder.source = before

    def _node(self, proto: Any, args: list[Any], scope: Names) -> Sequence[Any]:
        function = self.model.function(proto)
        attrs, graphs = attributes(proto, scope, self)
        if function is not None:
            return self._call(function, proto, args, attrs, scope)
        domain = domain_of(proto)
        node = Node(
            proto.op_type,
            self,
            domain=domain,
            opset=version_of(domain, scope.opsets, node_name(proto)),
            name=proto.name,
            inputs=proto.input,
            outputs=proto.output,
            attrs=attrs,
            graphs=graphs,
            values=scope,
        )
        return self._listed(node, self._apply(node, args))

    def _apply(self, node: Node, args: list[Any]) -> Any:
        if any(isinstance(a, Sizes) for a in args):
            folded = fold(node, args)
            if folded is not NotImplemented:
                return folded
        handler = onnx_op.find(node.op_type, version=node.opset, domain=node.domain)
        assert handler is not None  # Model.require has looked
        while args and args[-1] is None:  # left out at the end: the handler's defaults stand
            args = args[:-1]
        need_inputs(node, handler, len(args))
        return handler(node, *(self._plain(a) for a in args))

    def _plain(self, value: Any) -> Any:
        return self.value(value) if isinstance(value, Sizes) else value

    def _listed(self, node: Node, result: Any) -> Sequence[Any]:
        results = result if isinstance(result, tuple) else (result,)
        if node.op_type == "Constant" and isinstance(results[0], np.ndarray):
            results = (self.weight(node.outputs[0], results[0]),)
        missing = [n for n in node.outputs[len(results) :] if n]
        if missing:
            raise FormatError("a node has more outputs than its operator", got=", ".join(missing))
        return results

    def _call(
        self, function: Any, proto: Any, args: list[Any], attrs: dict[str, Any], scope: Names
    ) -> Sequence[Any]:
        """A function of the model, as if its nodes stood here."""
        opsets = opsets_of(function.opset_import, function.name) or scope.opsets
        inner = Names(opsets, attrs=dict.fromkeys(function.attribute))
        for default in function.attribute_proto:
            inner.attrs[default.name] = default
        inner.attrs.update({a.name: resolved(a, scope) for a in proto.attribute})
        names = list(function.input)
        inner.values.update(dict.fromkeys(names))
        inner.values.update(zip(names, args, strict=False))
        self.nodes(function.node, inner)
        return outputs_of(function.output, inner)
