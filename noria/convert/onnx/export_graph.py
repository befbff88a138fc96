"""What emitters write with: the nodes, constants and sizes of one ONNX graph.

An emitter says how one op of noria is written:

    @emitter("silu")
    def silu(g, op, x):
        return g.node("Mul", x, g.node("Sigmoid", x))

It takes the graph, the Operator and the ONNX names of its inputs (None for an absent one), and
returns the name of its output, or a tuple. Where it returns None the op is written through its
`decompose` rule, as is an op that has no emitter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from noria.convert.handlers import Handlers
from noria.convert.messages import schema
from noria.core.dim_nodes import Atom, terms_of
from noria.core.dims import Dim, Size, symbols_of
from noria.core.dtypes import as_dtype, to_numpy
from noria.core.errors import DTypeError, ProgramError
from noria.ir.emit import Names
from noria.ir.program import Operator, Spec, Value

emitter = Handlers("ONNX")
"""The ops that are written by a function of their own; versions are those of ONNX's operators."""

ELEMENT_TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16,
}  # fmt: skip
FLOAT, INT, STRING, TENSOR, GRAPH, FLOATS, INTS, STRINGS = 1, 2, 3, 4, 5, 6, 7, 8
INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)


class Shared:
    """What all graphs of one model share.

    initializers: arrays by name; missing: op -> where it is used, for those nothing can write
    """

    def __init__(self, opset: int, taken: Iterable[str]) -> None:
        self.opset = opset
        self.names = Names(list(taken))
        self.initializers: dict[str, np.ndarray] = {}
        self.constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.missing: dict[str, list[str]] = {}
        self.messages = schema("onnx")


class Graph:
    """One graph: the model's, or the body of a loop or a branch, which sees its `parent`'s names.

    nodes:     those written so far
    names:     Value -> ONNX name; bound: all of these names
    preferred: names that outputs of the model must have
    symbols:   symbol of sizes -> writes what reads it from a shape
    made_by:   Value -> Operator; uses, roots: of the operators that are being written
    """

    def __init__(self, shared: Shared, parent: Graph | None = None) -> None:
        self.shared, self.parent = shared, parent
        self.opset = shared.opset
        self.nodes: list[Any] = []
        self.names: dict[Value, str] = {}
        self.symbols: dict[str, Callable[[], str]] = {}
        self.made_by: dict[Value, Operator] = {}
        self.uses: dict[Value, list[Operator]] = {}
        self.roots: set[Value] = set()
        self.preferred: dict[Value, str] = {}
        self.bound: set[str] = set()
        self.prefix = ""
        self._sizes: dict[Size, str] = {}
        self._written: dict[Any, Any] = {}  # what a node computes -> the node

    # ---- nodes ---------------------------------------------------------------------------------

    def node(self, op_type: str, *inputs: str | None, outputs: int = 1, **attrs: Any) -> Any:
        """Writes a node, unless there is one like it; the name of its output, or a tuple of them.

        Attributes of None are left out; numbers, texts, arrays, graphs and sequences of numbers
        become what they are in ONNX.
        """
        attributes = [self._attribute(k, v) for k, v in attrs.items() if v is not None]
        key = op_type, inputs, outputs, b"".join(a.SerializeToString() for a in attributes)
        same = self._same(key)
        if same is None:
            same = self._new(op_type, inputs, outputs, attributes)
            self._written[key] = same
        return same.output[0] if outputs == 1 else tuple(same.output)

    def _same(self, key: Any) -> Any:
        """A node that computes just this, here or in a graph around this one."""
        found = self._written.get(key)
        return found if found or self.parent is None else self.parent._same(key)

    def _new(self, op_type: str, inputs: Any, outputs: int, attributes: Any) -> Any:
        base = f"{self.prefix}/{op_type}" if self.prefix else op_type
        names = [self.shared.names.fresh(base) for _ in range(outputs)]
        present = list(inputs)
        while present and present[-1] is None:
            present.pop()
        node = self.shared.messages.NodeProto(
            op_type=op_type, name=names[0], input=[i or "" for i in present], output=names
        )
        node.attribute.extend(attributes)
        self.nodes.append(node)
        return node

    def copy(self, name: str, new: str = "") -> str:
        """The same value under another name, a given or a new one."""
        new = new or self.shared.names.fresh(name)
        self.nodes.append(
            self.shared.messages.NodeProto(op_type="Identity", name=new, input=[name], output=[new])
        )
        return new

    def _attribute(self, name: str, value: Any) -> Any:
        out = self.shared.messages.AttributeProto(name=name)
        if isinstance(value, (bool, int)):
            out.type, out.i = INT, int(value)
        elif isinstance(value, float):
            out.type, out.f = FLOAT, value
        elif isinstance(value, str):
            out.type, out.s = STRING, value.encode()
        elif isinstance(value, np.ndarray):
            out.type = TENSOR
            out.t.CopyFrom(tensor(self.shared.messages, "", value))
        elif isinstance(value, self.shared.messages.GraphProto):
            out.type = GRAPH
            out.g.CopyFrom(value)
        elif all(isinstance(v, str) for v in value):
            out.type = STRINGS
            out.strings.extend(v.encode() for v in value)
        elif all(isinstance(v, int) for v in value):
            out.type = INTS
            out.ints.extend(value)
        else:
            out.type = FLOATS
            out.floats.extend(float(v) for v in value)
        return out

    # ---- constants and sizes -------------------------------------------------------------------

    def constant(self, data: Any, dtype: str | None = None) -> str:
        """The name of an array of numbers; equal ones are kept once."""
        array = np.asarray(data, None if dtype is None else to_numpy(dtype))
        key = (as_dtype(array.dtype), array.shape, array.tobytes())
        found = self.shared.constants.get(key)
        if found is None:
            found = self.shared.names.fresh("constant")
            self.shared.constants[key] = found
            self.shared.initializers[found] = array
        return found

    def ints(self, *values: int) -> str:
        """An int64 vector."""
        return self.constant(np.asarray(values, np.int64))

    def like(self, number: float, value: Spec) -> str:
        """A scalar of the dtype of a value."""
        return self.constant(np.asarray(number, to_numpy(value.dtype)))

    def shape(self, sizes: Sequence[Size]) -> str:
        """Sizes, symbolic ones too, as an int64 vector."""
        if all(isinstance(d, int) for d in sizes):
            return self.ints(*sizes)  # type: ignore[arg-type]
        parts = [self.vector(d) for d in sizes]
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=0)

    def vector(self, size: Size) -> str:
        """A size as an int64 vector of one element."""
        if isinstance(size, int):
            return self.ints(size)
        return self.node("Unsqueeze", self.size(size), self.ints(0))

    def size(self, size: Size) -> str:
        """A size as an int64 scalar, computed from the shapes of the model's inputs."""
        if isinstance(size, int):
            return self.constant(np.asarray(size, np.int64))
        if self.parent is not None and all(self.parent.knows(s) for s in symbols_of(size)):
            return self.parent.size(size)  # once, not in each step of a loop
        if size not in self._sizes:
            terms = [self._term(m, c) for m, c in terms_of(size)]
            total = terms[0]
            for term in terms[1:]:
                total = self.node("Add", total, term)
            self._sizes[size] = total
        return self._sizes[size]

    def knows(self, symbol: str) -> bool:
        """Whether a symbol of sizes has a value here."""
        return symbol in self.symbols or (self.parent is not None and self.parent.knows(symbol))

    def learn(self, value: Spec, name: str) -> None:
        """The symbols that the shape of a value tells, where they were not known."""
        for axis, size in enumerate(value.shape):
            form = linear_form(size)
            if form is not None and not self.knows(form[0]):
                self.symbols[form[0]] = self._reader(name, axis, *form[1:])

    def _reader(self, name: str, axis: int, slope: int, constant: int) -> Callable[[], str]:
        def read() -> str:
            shape = self.node("Shape", name, start=axis, end=axis + 1)
            size = self.node("Squeeze", shape, self.ints(0))
            if constant:
                size = self.node("Sub", size, self.size(constant))
            return size if slope == 1 else self.node("Div", size, self.size(slope))

        return read

    def _term(self, atoms: tuple[Atom, ...], factor: int) -> str:
        parts = [self._atom(a) for a in atoms]
        if factor != 1 or not parts:
            parts.append(self.size(factor))
        product = parts[0]
        for part in parts[1:]:
            product = self.node("Mul", product, part)
        return product

    def _atom(self, atom: Atom) -> str:
        if atom.kind == "sym":
            return self._symbol(atom.args[0])
        a, *rest = [self.size(_plain(e)) for e in atom.args]
        if atom.kind in ("max", "min"):
            return self.node(atom.kind.capitalize(), a, *rest)
        remainder = self.node("Mod", a, rest[0])  # of the sign of the divisor, as Python's
        if atom.kind == "%":
            return remainder
        return self.node("Div", self.node("Sub", a, remainder), rest[0])

    def _symbol(self, name: str) -> str:
        if name not in self.symbols:
            if self.parent is not None:
                return self.parent._symbol(name)
            raise ProgramError(
                f"no shape tells the size '{name}'", hint="give it as a size of an input"
            )
        key = Dim((((Atom("sym", (name,)),), 1),))
        if key not in self._sizes:
            self._sizes[key] = self.symbols[name]()
        return self._sizes[key]

    # ---- values --------------------------------------------------------------------------------

    def name(self, value: Value) -> str:
        """The ONNX name of a value of this graph or one around it."""
        graph: Graph | None = self
        while graph is not None:
            if value in graph.names:
                return graph.names[value]
            graph = graph.parent
        raise ProgramError(f"value '{value.name}' is used before it is made")

    def bind(self, value: Value, name: str) -> None:
        """From now on the value has this name."""
        self.names[value] = name
        self.bound.add(name)
        self.learn(value, name)

    def maker(self, value: Value) -> Operator | None:
        """The operator that made a value, None for an input or state."""
        found = self.made_by.get(value)
        return found if found or self.parent is None else self.parent.maker(value)

    def used(self, value: Value) -> bool:
        """Whether an operator or an output needs it."""
        return value in self.roots or bool(self.uses.get(value))

    def is_temporary(self, name: str) -> bool:
        """Whether a name may be changed: nothing but the nodes of one operator knows it."""
        kept = self.bound, self.shared.initializers, self._sizes.values()
        return all(name not in names for names in kept)


def _plain(size: Any) -> Size:
    """A constant Expr as the integer it is."""
    terms = terms_of(size)
    if not terms:
        return 0
    return terms[0][1] if len(terms) == 1 and not terms[0][0] else Dim(terms)


def linear_form(size: Size) -> tuple[str, int, int] | None:
    """(symbol, slope, constant) of a size slope * symbol + constant, None for any other."""
    if isinstance(size, int):
        return None
    (atoms, slope), *rest = size.terms
    if len(atoms) != 1 or atoms[0].kind != "sym" or any(other for other, _ in rest):
        return None
    return atoms[0].args[0], slope, sum(c for _, c in rest)


def element_type(dtype: str) -> int:
    """ONNX's number of a dtype. Raises DTypeError where it has none."""
    if dtype not in ELEMENT_TYPES:
        raise DTypeError("ONNX has no such dtype", expected=", ".join(ELEMENT_TYPES), got=dtype)
    return ELEMENT_TYPES[dtype]


def tensor(messages: Any, name: str, array: np.ndarray) -> Any:
    """An array as a TensorProto."""
    return messages.TensorProto(
        name=name,
        dims=array.shape,
        data_type=element_type(as_dtype(array.dtype)),
        raw_data=np.ascontiguousarray(array).tobytes(),
    )


def value_info(messages: Any, name: str, value: Spec) -> Any:
    """Name, dtype and shape; symbolic sizes by their text."""
    out = messages.ValueInfoProto(name=name)
    out.type.tensor_type.elem_type = element_type(value.dtype)
    shape = out.type.tensor_type.shape
    shape.SetInParent()
    for size in value.shape:
        dim = shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        else:
            dim.dim_param = str(size)
    return out
