"""Reading a Caffe2 model: an init net that makes the parameters, and a net that uses them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noria.convert.caffe2 import library
from noria.convert.caffe2.frame import Frame, Shared, assigned_by, nets_of, operators_of
from noria.convert.caffe2.handlers import caffe2_op
from noria.convert.caffe2.tensors import dtype_of, sizes_of
from noria.convert.messages import parse_message, parse_text, read_message, schema
from noria.core.dims import parse_dim, product
from noria.core.dtypes import is_float, to_numpy
from noria.core.errors import ArgumentError, FormatError, MissingError
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.program import Operator, Program, Spec, Value, needed
from noria.ir.verify import verify
from noria.ops.random import STATE as RANDOM

_library = library  # kept: importing it registers every handler

MAX_BYTES = 1 << 31  # of what an init net computes beyond plain fills
FILLS = ("fill", "uniform", "normal", "constant")
STATISTICS = {"SpatialBN": (3, 4)}  # inputs that are running statistics, not parameters

Net = Any  # a NetDef message


def load(
    init: Any,
    predict: Any,
    inputs: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> tuple[Program, dict[str, np.ndarray]]:
    """A Caffe2 model as (Program, its state as arrays).

    init, predict: paths (text form where they end in .pbtxt or .prototxt), bytes, or NetDef
                messages; init None: a net without parameters
    inputs:     name -> Spec or shape (then float32) of each input; sizes may be symbols. Default: a
                `value_info.json` beside the predict net
    constants:  name -> array of inputs that are the same in every run
    Blobs that the init net makes are state; one that the predict net assigns again is updated.
    What the init net draws at random is left to the Scope, by the same distribution.
    Raises UnsupportedOperators, which names all that are missing; NeedsConstant; FormatError for
    what is not such a file; MissingError for an input without a shape.
    """
    predict_net, init_net = _net(predict), None if init is None else _net(init)
    specs = _specs(inputs, predict)
    caffe2_op.require(
        [op for net in (init_net, predict_net) if net is not None for op in operators_of(net)]
    )
    made, scales = ({}, {}) if init_net is None else _initialised(init_net)
    return _converted(predict_net, specs, dict(constants or {}), made, scales)


# ---- files -------------------------------------------------------------------------------------


def _net(source: Any) -> Net:
    message = schema("caffe2").NetDef()
    if isinstance(source, type(message)):
        return source
    if isinstance(source, (bytes, bytearray)):
        return parse_message(message, bytes(source), "the net")
    if not isinstance(source, (str, os.PathLike)):
        raise ArgumentError("a net is a path, bytes or a NetDef", got=type(source).__name__)
    path = Path(source)
    if path.suffix in (".pbtxt", ".prototxt"):
        return parse_text(message, path.read_text("utf-8", "replace"), str(path))
    return read_message(message, path)


def _specs(inputs: Mapping[str, Any] | None, predict: Any) -> dict[str, Spec]:
    if inputs is None:
        inputs = _value_info(predict)
    return {n: s if isinstance(s, Spec) else Spec(_symbolic(s)) for n, s in inputs.items()}


def _symbolic(shape: Any) -> list[Any]:
    return [parse_dim(n) if isinstance(n, str) else n for n in shape]


def _value_info(predict: Any) -> dict[str, Spec]:
    """{"data": [1, [1, 3, 224, 224]]} beside the net: a dtype and a shape for each input."""
    if not isinstance(predict, (str, os.PathLike)):
        return {}
    path = Path(predict).with_name("value_info.json")
    if not path.is_file():
        return {}
    try:
        listed = json.loads(path.read_text("utf-8"))
        return {
            n: Spec(sizes_of(shape, str(path)), dtype_of(code, str(path)))
            for n, (code, shape) in listed.items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(
            "not a table of inputs",
            where=str(path),
            expected='{"data": [1, [1, 3]]}',
            got=f"{error}",
        ) from None


# ---- the init net ------------------------------------------------------------------------------


class _Fill:
    """How a blob begins: an op that fills a shape, and its attributes."""

    def __init__(self, spec: Spec, init: tuple[str, dict[str, Any]]) -> None:
        self.spec, self.init = spec, init


def _initialised(net: Net) -> tuple[dict[str, Any], dict[str, tuple[float, int]]]:
    """What an init net makes: name -> array, _Fill, or None for what is no tensor; scales and zero
    points of tensors of 8 bits."""
    program = Program("init")
    with Builder(program):
        frame = Frame(Shared(), {})
        frame.run(net)
    made: dict[str, Any] = {n: None for n, v in frame.blobs.items() if v is None}
    blobs = {n: v for n, v in frame.blobs.items() if isinstance(v, Value)}
    makers = {out: op for op in program.operators for out in op.outputs}
    for name, value in blobs.items():
        if makers[value].type in FILLS:
            made[name] = _fill(makers[value])
        else:
            program.outputs[name] = value
    made.update(_computed(program))
    scales = frame.shared.scales
    return made, {n: scales[v] for n, v in blobs.items() if v in scales}


def _fill(operator: Operator) -> Any:
    if operator.type == "constant":
        return operator.attrs["value"]
    value = operator.outputs[0]
    kept = {k: v for k, v in operator.attrs.items() if k not in ("shape", "dtype", "stream")}
    return _Fill(Spec(value.shape, value.dtype), (operator.type, kept))


def _computed(program: Program) -> dict[str, np.ndarray]:
    """What an init net computes from its fills. Raises FormatError where that is too much."""
    if not program.outputs:
        return {}
    program.block.outputs = list(program.outputs.values())
    program.updates = {}
    program.block.operators = needed(program.block, program.block.outputs)
    if (total := sum(map(_bytes, program.operators))) > MAX_BYTES:
        raise FormatError("the init net computes too much", got=f"{total:,} bytes")
    outputs, _ = run_program(program, {}, {RANDOM: np.zeros(2, np.int64)})
    return {name: np.asarray(array) for name, array in outputs.items()}


def _bytes(operator: Operator) -> int:
    """What an operator writes, as far as that is known."""
    sizes = [(product(v.shape), np.dtype(to_numpy(v.dtype)).itemsize) for v in operator.outputs]
    return sum(n * width for n, width in sizes if isinstance(n, int))


# ---- the predict net ---------------------------------------------------------------------------


def _converted(
    net: Net,
    specs: dict[str, Spec],
    constants: dict[str, Any],
    made: dict[str, Any],
    scales: dict[str, tuple[float, int]],
) -> tuple[Program, dict[str, np.ndarray]]:
    program = Program(net.name or "caffe2")
    with Builder(program) as builder:
        blobs: dict[str, Any] = {}
        wanted = _read_first(net)
        _check_inputs(wanted, specs, constants, made)
        for name in wanted:
            if name not in constants and name not in made:
                blobs[name] = builder.input(name, specs[name].shape, specs[name].dtype)
        shared = Shared(list(blobs.values()))
        for name in wanted:
            if name in constants:
                blobs[name] = builder.constant(np.asarray(constants[name]))
        kept = _declare(builder, net, wanted, constants, made, blobs, shared)
        shared.scales.update({blobs[n]: s for n, s in scales.items() if n in blobs})
        frame = Frame(shared, blobs)
        frame.run(net)
        for name in kept:
            _update(builder, program, name, frame.blobs[name])
    _name_outputs(program, net, frame)
    verify(program)
    return program, {n: made[n] for n in kept if isinstance(made[n], np.ndarray)}


def _read_first(net: Net) -> list[str]:
    """Names that the net, or a net within it, reads before this one assigns them, in order."""
    assigned: set[str] = set()
    found: dict[str, None] = {}
    for message in net.op:
        inner = {n for inside in nets_of(message) for n in inside.external_input}
        names = [*message.input, *(n for n in net.external_input if n in inner)]
        found.update({n: None for n in names if n not in assigned})
        assigned.update(message.output)
    given_back = [n for n in net.external_output if n not in assigned]
    return list(dict.fromkeys([*found, *given_back]))


def _check_inputs(wanted: list[str], *given: Mapping[str, Any]) -> None:
    missing = [n for n in wanted if not any(n in g for g in given)]
    if missing:
        raise MissingError(
            "inputs of this Caffe2 net have no shape",
            got=", ".join(missing[:20]),
            hint=f'inputs={{"{missing[0]}": noria.spec(1, 3, 224, 224)}}',
        )


def _declare(
    builder: Builder,
    net: Net,
    wanted: list[str],
    constants: Mapping[str, Any],
    made: Mapping[str, Any],
    blobs: dict[str, Any],
    shared: Shared,
) -> list[str]:
    """State for what the init net made and this net reads; their names."""
    statistics = _statistics(net)
    assigned = {name for message in net.op for name in assigned_by(message)}
    kept = [n for n in wanted if made.get(n) is not None and n not in constants]
    blobs.update({n: None for n in wanted if n in made and n not in kept and n not in constants})
    for name in kept:
        start = made[name]
        if isinstance(start, _Fill):
            spec, init = start.spec, start.init
        else:
            spec, init = Spec(start.shape, start.dtype), ("fill", {"value": 0})
        trainable = is_float(spec.dtype) and name not in statistics
        value = builder.state(name, spec.shape, spec.dtype, init=init, trainable=trainable)
        blobs[name] = value
        if isinstance(start, np.ndarray) and name not in assigned:
            shared.numbers[value] = start
    return kept


def _statistics(net: Net) -> set[str]:
    return {
        message.input[i]
        for message in net.op
        for i in STATISTICS.get(message.type, ())
        if i < len(message.input)
    }


def _update(builder: Builder, program: Program, name: str, value: Any) -> None:
    """A state that the net assigned again takes the new value when a step ends."""
    old = program.state[name].value
    if value is old or value is None:
        return
    if (old.shape, old.dtype) == (value.shape, value.dtype):
        builder.update(name, value)


def _name_outputs(program: Program, net: Net, frame: Frame) -> None:
    names = list(net.external_output)
    if not names:
        read = {n for message in net.op for n in message.input}
        given = dict.fromkeys(n for message in net.op for n in message.output)
        names = [n for n in given if n not in read] or list(given)[-1:]
    for name in names:
        value = frame.blobs.get(name)
        if value is not None:
            program.outputs[name] = value
    program.block.outputs = list(program.outputs.values())


# ---- one operator ------------------------------------------------------------------------------


def net_of_one_operator(op: str, args: Mapping[str, Any], inputs: int, outputs: int) -> Net:
    """A NetDef that holds one operator: its inputs are called x0, x1, ..., its outputs y0, y1, ...

    args: name -> int, float, str, bytes, or a list of them
    """
    net = schema("caffe2").NetDef(name=op)
    net.external_input.extend(f"x{i}" for i in range(inputs))
    net.external_output.extend(f"y{i}" for i in range(outputs))
    message = net.op.add(type=op, input=net.external_input, output=net.external_output)
    for name, value in args.items():
        _set_argument(message.arg.add(name=name), value)
    return net


def _set_argument(argument: Any, value: Any) -> None:
    if isinstance(value, (str, bytes)):
        argument.s = value.encode() if isinstance(value, str) else value
    elif isinstance(value, float):
        argument.f = value
    elif isinstance(value, int):
        argument.i = int(value)
    elif all(isinstance(v, (str, bytes)) for v in value):
        argument.strings.extend(v.encode() if isinstance(v, str) else v for v in value)
    elif any(isinstance(v, float) for v in value):
        argument.floats.extend(value)
    else:
        argument.ints.extend(value)
