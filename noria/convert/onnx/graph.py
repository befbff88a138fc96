"""Names of a graph and their values; attributes; nested graphs as functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from noria.convert.onnx.tensors import array_of, dense_of
from noria.core.errors import FormatError


class Names:
    """The values of one graph by name; what it does not know the scope around it may.

    opsets: domain -> version, of the model or of a function
    attrs: inside a function: name -> AttributeProto, those of the node that calls it
    """

    def __init__(
        self,
        opsets: Mapping[str, int],
        outer: Names | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.opsets, self.outer = opsets, outer
        self.attrs: dict[str, Any] = dict(attrs or {})
        self.values: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        scope: Names | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        raise FormatError(f"'{name}' is not defined")


class Body:
    """A nested graph as a function of values: `body(*inputs) -> list of outputs`.

    inputs, outputs: their names; types: of the outputs, TypeProtos
    """

    def __init__(self, proto: Any, outer: Names, frame: Any) -> None:
        self.proto, self.outer, self.frame = proto, outer, frame
        self.inputs = [v.name for v in proto.input]
        self.outputs = [v.name for v in proto.output]
        self.types = [v.type for v in proto.output]

    def __call__(self, *args: Any) -> list[Any]:
        if len(args) != len(self.inputs):
            raise FormatError(
                f"the graph '{self.proto.name}' takes another number of inputs",
                expected=str(len(args)),
                got=str(len(self.inputs)),
            )
        scope = Names(self.outer.opsets, self.outer, self.outer.attrs)
        self.frame.enter(self.proto, scope)
        scope.values.update(zip(self.inputs, args, strict=True))
        self.frame.nodes(self.proto.node, scope)
        return [scope[name] for name in self.outputs]


def attributes(node: Any, scope: Names, frame: Any) -> tuple[dict[str, Any], dict[str, Body]]:
    """The attributes of a NodeProto as plain data, and its nested graphs."""
    attrs: dict[str, Any] = {}
    graphs: dict[str, Body] = {}
    for proto in node.attribute:
        given = resolved(proto, scope)
        if given is None:
            continue
        if given.HasField("g"):
            graphs[proto.name] = Body(given.g, scope, frame)
        else:
            attrs[proto.name] = _plain(given, frame)
    return attrs, graphs


def resolved(attribute: Any, scope: Names) -> Any:
    """The attribute itself, or the one of the calling node that it names; None if there is none."""
    name = attribute.ref_attr_name
    return scope.attrs.get(name) if name else attribute


_KINDS = {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings", 9: "tensors"}
_KINDS |= {11: "sparse_tensor", 12: "sparse_tensors", 13: "tp", 14: "type_protos"}
_REPEATED = ("ints", "floats", "strings", "tensors", "sparse_tensors", "type_protos")


def _plain(attribute: Any, frame: Any) -> Any:
    kind = _KINDS.get(attribute.type) or _guessed(attribute)
    value = getattr(attribute, kind)
    if kind in _REPEATED:
        return tuple(_item(v, kind[:-1], frame) for v in value)
    return _item(value, kind, frame)


def _guessed(attribute: Any) -> str:
    """The field that is filled: files older than 2017 do not say which."""
    for kind in ("f", "i", "s", "t", "sparse_tensor", "tp"):
        if attribute.HasField(kind):
            return kind
    return next((k for k in _REPEATED if len(getattr(attribute, k))), "ints")


def _item(value: Any, kind: str, frame: Any) -> Any:
    if kind in ("s", "string"):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if kind in ("t", "tensor"):
        return array_of(value, frame.model.folder)
    return dense_of(value) if kind == "sparse_tensor" else value


def outputs_of(names: Iterable[str], scope: Names) -> list[Any]:
    """The values of these names."""
    return [scope[name] for name in names]
