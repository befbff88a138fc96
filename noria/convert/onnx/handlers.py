"""The table of ONNX operators, and what the function that converts one is told.

    @onnx_op("Gather")
    def gather(node, x, ids):
        return ops.gather(x, ids, axis=node.attr("axis", 0))

Inputs are noria Values or NumPy arrays (what is known when the model is converted); an absent one
is None, a sequence a Python list, an empty optional None. One result, or a tuple of them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from noria.convert.handlers import Handler, Handlers
from noria.core.dims import Size
from noria.core.errors import FormatError
from noria.ir.program import Value

onnx_op = Handlers("ONNX")

Body = Callable[..., list[Any]]


class Lookup(Protocol):
    """The values of a graph by name."""

    def __getitem__(self, name: str) -> Any: ...


class Frame(Protocol):
    """What a node may ask of the conversion it is part of (`reader.Conversion`).

    count: of nodes converted so far, those of functions and loops at each time
    """

    count: int

    def const(self, value: Any, what: str) -> np.ndarray: ...

    def sizes(self, value: Any, what: str) -> tuple[Size, ...]: ...

    def symbol(self, base: str) -> str: ...

    def value(self, value: Any) -> Value: ...


class Node:
    """One operator of an ONNX graph.

    op_type, domain, name: as in the file; opset: version of its domain
    inputs, outputs: names, "" where there is nothing or nobody asks
    graphs: attribute -> function that runs a nested graph: `graph(*inputs) -> list of outputs`
    """

    def __init__(
        self,
        op_type: str,
        frame: Frame,
        *,
        domain: str = "",
        opset: int = 1,
        name: str = "",
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        attrs: Mapping[str, Any] | None = None,
        graphs: Mapping[str, Body] | None = None,
        values: Lookup | None = None,
    ) -> None:
        self.op_type, self.domain, self.opset, self.name = op_type, domain, opset, name
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.attrs, self.graphs = dict(attrs or {}), dict(graphs or {})
        self.frame, self._values = frame, values

    def __str__(self) -> str:
        kind = f"{self.domain}.{self.op_type}" if self.domain else self.op_type
        told = self.name or next((n for n in self.outputs if n), "")
        return f"{kind} '{told}'" if told else kind

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute: int, float, str (bytes if it is no UTF-8), tuple or ndarray; a TypeProto.

        A float is the float32 of the file, as a Python float.
        """
        return self.attrs.get(name, default)

    def need(self, name: str) -> Any:
        """An attribute that must be there. Raises FormatError."""
        if name not in self.attrs:
            raise FormatError(f"the attribute '{name}' is missing", where=str(self))
        return self.attrs[name]

    def graph(self, name: str) -> Body:
        """A nested graph as a function of values. Raises FormatError where there is none."""
        if name not in self.graphs:
            raise FormatError(f"the graph '{name}' is missing", where=str(self))
        return self.graphs[name]

    def named(self, name: str) -> Any:
        """A value that an attribute names, of the graph the node is in. Raises FormatError."""
        if self._values is None:
            raise FormatError(f"'{name}' is not defined", where=str(self))
        return self._values[name]

    def wants(self, index: int) -> bool:
        """Whether anybody asks for this output."""
        return index < len(self.outputs) and bool(self.outputs[index])

    def const(self, value: Any, what: str = "a value") -> np.ndarray:
        """The numbers of an input that decides the form of the graph.

        Raises NeedsConstant, with the inputs of the model it depends on, if only a run tells them.
        """
        return self.frame.const(value, f"{what} of {self}")

    def ints(self, value: Any, what: str = "a value") -> tuple[int, ...]:
        """`const` as a tuple of integers, whatever its shape."""
        return tuple(int(v) for v in np.ravel(self.const(value, what)))

    def sizes(self, value: Any, what: str = "the sizes") -> tuple[Size, ...]:
        """Like `ints`, where what was worked out from symbolic shapes may stay symbolic."""
        return self.frame.sizes(value, f"{what} of {self}")

    def symbol(self, base: str) -> str:
        """A fresh name for a size that only the data tell."""
        return self.frame.symbol(base)

    def value(self, value: Any) -> Value:
        """A Value of the Program being built, made a constant if it is an array."""
        return self.frame.value(value)

    def axes(self, value: Any, default: Any = None) -> tuple[int, ...] | None:
        """Axes given as an input (newer opsets) or as the attribute `axes`; else `default`."""
        if value is not None:
            return self.ints(value, "the axes")
        return self.attr("axes", default)


def need_inputs(node: Node, handler: Handler, count: int) -> None:
    """Raises FormatError if the operator takes fewer inputs than `count`, or needs more."""
    least, most = _arity(handler)
    if not least <= count <= most:
        told = f"{least}" if least == most else f"{least} to {most}"
        told = f"{least} or more" if most == math.inf else told
        raise FormatError(
            "another number of inputs than the operator takes",
            where=str(node),
            expected=told,
            got=f"{count}: {', '.join(n or 'none' for n in node.inputs)}",
        )


@cache
def _arity(handler: Handler) -> tuple[int, float]:
    """(inputs that must be there, inputs that may) of what converts an operator."""
    inputs = list(inspect.signature(handler).parameters.values())[1:]
    several = any(p.kind is p.VAR_POSITIONAL for p in inputs)
    one = [p for p in inputs if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return sum(p.default is p.empty for p in one), math.inf if several else len(one)


def scalar(array: np.ndarray) -> Any:
    """The Python number of an array of one element. Raises FormatError for another size."""
    if array.size != 1:
        raise FormatError("a single number is needed", got=f"{array.dtype}{list(array.shape)}")
    return array.reshape(()).item()


__all__ = ["Body", "Frame", "Node", "need_inputs", "onnx_op", "scalar"]
