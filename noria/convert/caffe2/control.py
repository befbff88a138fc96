"""Nets within nets: If, While, Do, and ONNX's loop.

In Caffe2 an inner net assigns blobs of the outer one. Here a branch or a loop gives back the new
values of those the outer net has, and of the operator's outputs.
"""

from __future__ import annotations

from typing import Any

from noria.convert.caffe2.common import scalar
from noria.convert.caffe2.frame import Frame, as_value, assigned_by
from noria.convert.caffe2.handlers import Node, caffe2_op
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.ops.control import cond
from noria.ops.loops import while_loop
from noria.ops.ragged import ragged_range


def _assigned(*nets: Any) -> list[str]:
    """Blobs that nets assign, in order."""
    return list(
        dict.fromkeys(n for net in nets if net is not None for m in net.op for n in assigned_by(m))
    )


def _flag(x: Any) -> Any:
    return scalar(x if x.dtype == "bool" else o.not_equal(x, 0))


def _run(frame: Frame, net: Any, blobs: dict[str, Any], names: list[str]) -> list[Any]:
    """The values of some blobs after a net has run on others."""
    inner = frame.inner(blobs)
    if net is not None:
        inner.run(net)
    return [as_value(inner.read(name)) for name in names]


def _need_net(op: Node, name: str) -> Any:
    net = op.net(name)
    if net is None:
        raise ArgumentError(f"the argument '{name}' is missing", where=op.where())
    return net


def _keep(op: Node, names: list[str], values: Any) -> Any:
    """New values of blobs: those of the outer net at once, those of the outputs as a result."""
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    found = dict(zip(names, values, strict=True))
    op.frame.blobs.update(found)
    return tuple(found.get(name, op.frame.blobs.get(name)) for name in op.outputs)


# ---- If ----------------------------------------------------------------------------------------


@caffe2_op("If")
def if_(op, condition, *others):
    """One of two nets; without else_net nothing, so that the outputs must be there before."""
    then, other = _need_net(op, "then_net"), op.net("else_net")
    changed = [set(_assigned(net)) for net in (then, other)]
    everywhere = changed[0] & changed[1]
    names = [n for n in _assigned(then, other) if n in everywhere or n in op.frame.blobs]
    missing = [n for n in op.outputs if n not in names and n not in op.frame.blobs]
    if missing:
        raise ArgumentError("only one branch assigns an output", got=", ".join(missing))
    if not names:
        return tuple(op.frame.blobs[n] for n in op.outputs)
    frame = op.frame
    values = cond(
        _flag(condition),
        lambda: tuple(_run(frame, then, {}, names)),
        lambda: tuple(_run(frame, other, {}, names)),
    )
    return _keep(op, names, values)


# ---- While -------------------------------------------------------------------------------------


@caffe2_op("While")
def while_(op, condition, *others):
    """loop_net as long as the condition holds; cond_net, if any, tells it anew before each turn."""
    loop, test = _need_net(op, "loop_net"), op.net("cond_net")
    frame, flag = op.frame, op.inputs[0]
    names = [n for n in dict.fromkeys([flag, *_assigned(test, loop)]) if n in frame.blobs]
    start = {n: as_value(frame.blobs[n]) for n in names}
    if test is not None:
        start.update(zip(names, _run(frame, test, start, names), strict=True))

    def turn(carry: Any) -> Any:
        inner = frame.inner(dict(zip(names, carry, strict=True)))
        inner.run(loop)
        if test is not None:
            inner.run(test)
        return tuple(as_value(inner.read(n)) for n in names)

    values = while_loop(
        lambda carry: _flag(carry[names.index(flag)]), turn, tuple(start[n] for n in names)
    )
    return _keep(op, names, values)


# ---- Do ----------------------------------------------------------------------------------------


@caffe2_op("Do")
def do(op, *blobs):
    """A net on blobs of its own, some of which are bound to outer ones. The last input and output
    is a workspace."""
    net, inner_names = _need_net(op, "net"), op.names("inner_blobs")
    outer_names = [*op.inputs[:-1], *op.outputs[:-1]]
    places = op.ints("outer_blobs_idx")
    if len(places) != len(inner_names) or not all(0 <= i < len(outer_names) for i in places):
        raise ArgumentError("bindings do not fit the blobs", got=f"{inner_names}: {places}")
    bound = [(name, outer_names[i]) for name, i in zip(inner_names, places, strict=True)]
    given = {name: op.frame.blobs[outer] for name, outer in bound if outer in op.frame.blobs}
    inner = op.frame.inner(given)
    inner.blobs = dict(given)
    inner.run(net)
    for name, outer in bound:
        if name in inner.blobs:
            op.frame.blobs[outer] = inner.blobs[name]
    return (*(op.frame.blobs.get(n) for n in op.outputs[:-1]), None)


@caffe2_op("CreateScope", "CreateMutex")
def nothing(op):
    """A workspace, or a lock: nothing here, since names are resolved when the net is converted and
    a step runs as one."""
    return None


# ---- ONNX's loop -------------------------------------------------------------------------------


@caffe2_op("ONNXWhile")
def onnx_while(op, trips, condition, *carried):
    """body(iteration, condition, carried...) -> (condition, carried..., scanned...), again and
    again; scanned outputs are stacked."""
    body = _need_net(op, "body")
    inputs, outputs = list(body.external_input), list(body.external_output)
    count = op.attr("num_loop_carried_deps", -1)
    count = len(carried) if count == -1 else count
    if len(inputs) < count + 2 or len(outputs) < count + 1:
        raise ArgumentError("the body has too few blobs", got=f"{inputs} -> {outputs}")
    frame, scanned = op.frame, outputs[count + 1 :]
    start = dict(zip(inputs[2 : count + 2], (as_value(v) for v in carried), strict=False))
    counted, tested = bool(op.attr("has_trip_count", 0)), bool(op.attr("has_cond", 0))
    limit = _limit(op, trips) if scanned else None

    def run(step: Any, flag: Any, values: Any) -> list[Any]:
        blobs = dict(zip(inputs, (step, flag, *values), strict=False))
        return _run(frame, body, blobs, outputs)

    def go_on(carry: Any) -> Any:
        step, flag = carry[0], carry[1]
        below = o.less(step, scalar(trips)) if counted else o.less_equal(step, step)
        return o.logical_and(below, _flag(flag)) if tested else below

    def turn(carry: Any) -> Any:
        step, flag, values, stacks = carry
        new = run(step, flag, values)
        at = o.reshape(step, shape=(1, 1))
        stacks = tuple(
            o.scatter_nd(s, at, o.unsqueeze(v, axis=0))
            for s, v in zip(stacks, new[count + 1 :], strict=True)
        )
        return o.add(step, 1), _like(new[0], flag), tuple(new[1 : count + 1]), stacks

    zero = o.fill(shape=(), value=0, dtype="int64")
    flag = as_value(condition)
    stacks: tuple[Any, ...] = ()
    if scanned:  # traced once for the shapes, on what the first turn sees
        first = run(zero, flag, tuple(start.values()))[count + 1 :]
        stacks = tuple(o.fill(shape=(limit, *v.shape), value=0, dtype=v.dtype) for v in first)
    steps, _, values, stacks = while_loop(go_on, turn, (zero, flag, tuple(start.values()), stacks))
    return (*values, *(_first(op, s, steps) for s in stacks))


def _like(flag: Any, old: Any) -> Any:
    return o.reshape(o.cast(flag, dtype=old.dtype), shape=old.shape)


def _limit(op: Node, trips: Any) -> int:
    """The largest number of turns, which scanned outputs need. Raises NeedsConstant."""
    return max(int(op.const(trips, "the largest number of turns").item()), 0)


def _first(op: Node, stack: Any, count: Any) -> Any:
    """The first `count` of what was stacked."""
    zero = o.fill(shape=(1,), value=0, dtype="int64")
    size = op.symbol("turns")
    return o.gather(stack, ragged_range(zero, o.reshape(count, shape=(1,)), size=size))
