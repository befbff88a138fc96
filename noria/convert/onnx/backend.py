"""noria as a back end of ONNX: the interface of `onnx.backend.base.Backend`.

    prepared = Backend.prepare(model)
    outputs = prepared.run([x, y])

What a Program must know when it is built (axes, target shapes, lengths of sequences) may be an
input in ONNX. Such inputs are learned from the first call that gives them; a call with other
numbers in them converts again, and what was converted is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from noria.convert.handlers import NeedsConstant
from noria.convert.onnx.handlers import onnx_op
from noria.convert.onnx.model import Model
from noria.convert.onnx.reader import Converted, convert
from noria.core.errors import ArgumentError, MissingError
from noria.core.structure import flatten
from noria.ir.emit import Builder
from noria.ir.program import Value
from noria.runtime.executor import Executor
from noria.runtime.scope import Scope

KEPT = 16  # conversions of one model


class Backend:
    """`prepare`, `run_model`, `run_node` and `supports_device`, as the interface has them."""

    @classmethod
    def prepare(cls, model: Any, device: str = "CPU", **options: Any) -> Prepared:
        """A model (a ModelProto, bytes or a path), ready to run.

        options: `threads`, of each call. Raises UnsupportedOperators or FormatError.
        """
        if not cls.supports_device(device):
            raise ArgumentError("noria runs on the CPU", got=repr(device))
        source = model.SerializeToString() if hasattr(model, "SerializeToString") else model
        return Prepared(Model.read(source), options.get("threads"))

    @classmethod
    def run_model(
        cls, model: Any, inputs: Any, device: str = "CPU", **options: Any
    ) -> tuple[Any, ...]:
        """The outputs of one run."""
        return cls.prepare(model, device, **options).run(inputs)

    @classmethod
    def run_node(
        cls, node: Any, inputs: Any, device: str = "CPU", outputs_info: Any = None, **options: Any
    ) -> tuple[Any, ...]:
        """The outputs of one operator; `opset_version` is by default the newest onnx knows."""
        from onnx import helper
        from onnx.defs import onnx_opset_version

        names = [n for n in node.input if n]
        arrays = dict(zip(names, inputs, strict=True))
        given = [
            helper.make_tensor_value_info(
                n, helper.np_dtype_to_tensor_dtype(np.asarray(a).dtype), np.shape(a)
            )
            for n, a in arrays.items()
        ]
        wanted = [helper.make_tensor_value_info(n, 1, None) for n in node.output if n]
        version = options.pop("opset_version", onnx_opset_version())
        opset = helper.make_opsetid(node.domain, version)
        graph = helper.make_graph([node], "node", given, wanted)
        return cls.run_model(
            helper.make_model(graph, opset_imports=[opset]), list(arrays.values()), device
        )

    @classmethod
    def is_compatible(cls, model: Any, device: str = "CPU", **options: Any) -> bool:
        """Whether all its operators can be converted."""
        try:
            cls.prepare(model, device)
        except (ArgumentError, ValueError):
            return False
        return True

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return device.split(":")[0] == "CPU"


class Prepared:
    """A model ready to run. Not to be used by several threads at once."""

    def __init__(self, model: Model, threads: int | None = None) -> None:
        model.require(onnx_op)
        self.model, self.threads = model, threads
        graph = model.proto.graph
        weights = {t.name for t in graph.initializer}
        weights |= {t.values.name for t in graph.sparse_initializer}
        self.inputs = [v.name for v in graph.input if v.name not in weights]
        self.outputs = [v.name for v in graph.output]
        self._fixed: list[str] = []  # inputs that must be known
        self._ready: OrderedDict[Any, Ready] = OrderedDict()

    def run(self, inputs: Sequence[Any] | Mapping[str, Any], **_: Any) -> tuple[Any, ...]:
        """Outputs in order, from inputs in order or by name.

        Raises NeedsConstant for what no input can settle, MissingError for an input left out.
        """
        feeds = self._named(inputs)
        while True:
            try:
                ready = self._find(feeds)
            except NeedsConstant as error:
                more = [n for n in error.inputs if n in feeds and n not in self._fixed]
                if not more:
                    raise
                self._fixed += more
                continue
            results = ready.run({n: a for n, a in feeds.items() if n not in self._fixed})
            return tuple(results[n] for n in self.outputs)

    def _named(self, inputs: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(inputs, Mapping):
            return dict(inputs)
        if len(inputs) > len(self.inputs):
            raise MissingError(
                "more inputs than the model has", expected=str(self.inputs), got=str(len(inputs))
            )
        return dict(zip(self.inputs, inputs, strict=False))

    def _find(self, feeds: Mapping[str, Any]) -> Ready:
        fixed = {n: feeds[n] for n in self._fixed}
        key = tuple(_key(v) for v in fixed.values()), tuple(self._fixed)
        found = self._ready.get(key)
        if found is None:
            found = self._ready[key] = Ready(
                convert(self.model, fixed, measure=False), self.threads
            )
            if len(self._ready) > KEPT:
                self._ready.popitem(last=False)
        return found


def _key(value: Any) -> Any:
    """What tells two constants apart."""
    if isinstance(value, (list, tuple)):
        return tuple(_key(v) for v in value)
    if value is None:
        return None
    array = np.asarray(value)
    numbers = tuple(array.reshape(-1)) if array.dtype == object else array.tobytes()
    return array.dtype.str, array.shape, numbers


class Ready:
    """A converted model with an Executor for what is not known yet."""

    def __init__(self, found: Converted, threads: int | None) -> None:
        self.leaves, self.form = flatten(found.results)
        program = found.program
        with Builder(program) as builder:
            for i, leaf in enumerate(self.leaves):
                if isinstance(leaf, Value):
                    program.outputs[f"output_{i}"] = builder.capture(leaf)
        program.block.outputs = list(program.outputs.values())
        self.executor: Executor | None = None
        if program.outputs:
            scope = Scope().initialize(program, values=found.state)
            self.executor = Executor(program, scope, threads=threads)

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """The results by name."""
        got: Mapping[str, Any] = {}
        if self.executor is not None:
            got = self.executor.run({n: np.asarray(a) for n, a in feeds.items()})
        leaves = [got.get(f"output_{i}", leaf) for i, leaf in enumerate(self.leaves)]
        return self.form.build(leaves)
