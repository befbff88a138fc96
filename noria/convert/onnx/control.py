"""Control flow of ONNX: If, Loop and Scan.

What is known when a model is converted decides at once: a branch is chosen, a loop unrolled.
Otherwise they become `ops.cond`, `ops.scan` and `ops.while_loop`, whose values keep their dtypes
and shapes; where a model's do not, the numbers that decide must be given as constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from noria.convert.handlers import NeedsConstant
from noria.convert.onnx.graph import Body
from noria.convert.onnx.handlers import Node, onnx_op, scalar
from noria.convert.onnx.shape import sizes_of
from noria.core.dims import Size
from noria.core.errors import DTypeError, FormatError, ProgramError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Value
from noria.ops.control import cond
from noria.ops.create import zeros_like
from noria.ops.loops import scan, while_loop
from noria.ops.slicing import flip

FEW = 32  # steps of a loop that is unrolled although not all it works on is known
UNROLLED = 50_000  # nodes converted, after which no loop is unrolled any further
ROWS = 1 << 28  # bytes of what the steps of an unrolled loop give
_UNFIT = (ProgramError, ShapeError, DTypeError)  # another structure, shape or dtype


def known(node: Node, value: Any) -> Any:
    """The numbers of a value, None if only a run tells them."""
    try:
        return None if value is None else node.const(value)
    except NeedsConstant:
        return None


def settled(node: Node, value: Any) -> Any:
    """What a nested graph gave, as `cond` and loops take it."""
    if isinstance(value, list):
        return [settled(node, v) for v in value]
    return value if value is None else node.value(value)


# ---- If ----------------------------------------------------------------------------------------


@onnx_op("If")
def if_(node: Node, condition: Any) -> Any:
    then, otherwise = node.graph("then_branch"), node.graph("else_branch")
    chosen = known(node, condition)
    if chosen is not None:
        return tuple((then if scalar(chosen) else otherwise)())
    try:
        return cond(
            o.reshape(condition, shape=()),
            lambda: tuple(settled(node, v) for v in then()),
            lambda: tuple(settled(node, v) for v in otherwise()),
        )
    except NeedsConstant:
        raise
    except _UNFIT:  # the branches give different things
        node.const(condition, "the condition")
        raise


# ---- Loop --------------------------------------------------------------------------------------


class _Undecided(Exception):
    """Whether a loop goes on is known only when it runs."""


@onnx_op("Loop")
def loop(node: Node, trips: Any = None, condition: Any = None, *carried: Any) -> Any:
    body: Any = node.graph("body")
    count = len(carried)
    if len(body.inputs) != count + 2 or len(body.outputs) < count + 1:
        raise FormatError("the body of a loop takes and gives what it carries", where=str(node))
    limit, going = _limit(node, trips), _going(node, condition)
    if going is not None and (limit is not None or trips is None):
        unrolled = _unrolled(node, body, limit, going, carried)
        if unrolled is not None:
            return unrolled
    try:
        return _traced(node, body, trips, condition, carried)
    except NeedsConstant:
        raise
    except _UNFIT:  # a step gives other shapes than it takes
        for value in (trips, condition, *carried):
            if isinstance(value, Value):
                node.const(value, "what a loop depends on")
        raise


def _limit(node: Node, trips: Any) -> int | None:
    """The trip count, None if it is not known or there is none."""
    found = known(node, trips)
    return None if found is None else max(0, int(scalar(found)))


def _going(node: Node, condition: Any) -> bool | None:
    """Whether the first step is taken, None if that is not known."""
    found = np.array(True) if condition is None else known(node, condition)
    return None if found is None else bool(scalar(found))


def _traced(
    node: Node, body: Body, trips: Any, condition: Any, carried: Sequence[Any]
) -> tuple[Any, ...]:
    """The loop as an operator of a Program."""
    count = _size(node, trips)
    if count is not None and _going(node, condition):
        with suppress(_Undecided):
            return _counted(node, body, count, carried)
    return _dynamic(node, body, trips, condition, carried)


def _size(node: Node, trips: Any) -> Size | None:
    """The trip count, if it is a number or a symbolic size."""
    try:
        size = None if trips is None else node.sizes(trips, "the trip count")[0]
    except NeedsConstant:
        return None
    return max(0, size) if isinstance(size, int) else size


def _unrolled(
    node: Node, body: Body, limit: int | None, going: bool, carried: Sequence[Any]
) -> tuple[Any, ...] | None:
    """The loop step by step; None if it is too long for that, or its end is not known."""
    constant = not any(isinstance(v, Value) for v in carried)
    if not constant and (limit is None or limit > FEW):
        return None
    state, rows, step, room = list(carried), [], 0, ROWS
    while going and (limit is None or step < limit):
        if node.frame.count > UNROLLED or room < 0:
            return None
        flag, *given = body(np.array(step), np.array(True), *state)
        state, row = given[: len(state)], given[len(state) :]
        rows.append(row)
        room -= sum(v.nbytes for v in row if isinstance(v, np.ndarray))
        step += 1
        goes_on = known(node, flag)
        if goes_on is None:
            return None
        going = bool(scalar(goes_on))
    if not rows and len(body.outputs) > len(state) + 1:
        return None  # what a step would have given is learned by a loop of no steps
    joined = (_stacked(node, column) for column in zip(*rows, strict=True))
    return (*state, *joined)


def _stacked(node: Node, values: Sequence[Any]) -> Any:
    values = [v if isinstance(v, np.ndarray) else node.value(v) for v in values]
    if all(isinstance(v, np.ndarray) for v in values):
        return np.stack(values)
    return o.concat(*(o.unsqueeze(v, axis=0) for v in values), axis=0)


def _counted(node: Node, body: Body, count: Size, carried: Sequence[Any]) -> tuple[Any, ...]:
    """A loop that nothing but its trip count ends."""

    def step(carry: Any, _: Any) -> Any:
        number, state = carry
        flag, *given = body(number, np.array(True), *state)
        goes_on = known(node, flag)
        if goes_on is None or not bool(scalar(goes_on)):
            raise _Undecided
        given = [settled(node, v) for v in given]
        return (o.add(number, 1), given[: len(state)]), given[len(state) :]

    start = [settled(node, v) for v in carried]
    (_, last), rows = scan(step, (np.array(0), start), length=count)
    return (*last, *rows)


def _dynamic(
    node: Node,
    body: Body,
    trips: Any,
    condition: Any,
    carried: Sequence[Any],
) -> tuple[Any, ...]:
    """A loop that data end; what it gives at each step needs a known bound of steps."""
    start = [settled(node, v) for v in carried]
    going = np.array(True) if condition is None else o.reshape(condition, shape=())
    if len(body.outputs) > len(start) + 1:
        bound = int(scalar(node.const(trips, "the trip count")))
        return _bounded(node, body, max(0, bound), going, start)
    last = None if trips is None else o.reshape(o.cast(trips, dtype="int64"), shape=())

    def goes_on(carry: Any) -> Any:
        number, flag, _ = carry
        return flag if last is None else o.logical_and(flag, o.less(number, last))

    def step(carry: Any) -> Any:
        number, flag, state = carry
        new, *given = body(number, flag, *state)
        new = o.reshape(node.value(new), shape=())
        return o.add(number, 1), new, [settled(node, v) for v in given]

    return tuple(while_loop(goes_on, step, (np.array(0), going, start))[2])


def _bounded(
    node: Node, body: Body, bound: int, going: Any, start: Sequence[Any]
) -> tuple[Any, ...]:
    """All `bound` steps, of which those after the end change nothing and are cut off."""
    count = len(start)

    def step(carry: Any, number: Any) -> Any:
        flag, done, state = carry

        def work() -> Any:
            new, *given = body(number, flag, *state)
            given = [settled(node, v) for v in given]
            return o.reshape(node.value(new), shape=()), given[:count], given[count:]

        def rest() -> Any:
            rows = work()[2]
            return flag, list(state), [zeros_like(v) for v in rows]

        new, kept, rows = cond(flag, work, rest)
        return (new, o.add(done, o.cast(flag, dtype="int64")), kept), rows

    init = (going, np.array(0), list(start))
    (_, done, last), rows = scan(step, init, np.arange(bound))
    inside = o.nonzero(o.less(np.arange(bound), done), size=node.symbol("steps"))
    ids = o.squeeze(inside, axis=1)
    return (*last, *(o.gather(r, ids, axis=0) for r in rows))


# ---- Scan --------------------------------------------------------------------------------------


@onnx_op("Scan", since=9)
def scan_(node: Node, *given: Any) -> Any:
    body: Any = node.graph("body")
    count = len(given) - node.need("num_scan_inputs")
    results = len(body.outputs) - count
    if count < 0 or results < 0:
        raise FormatError("a scan has fewer inputs than it scans", where=str(node))
    how = {
        "in_axes": node.attr("scan_input_axes", (0,) * (len(given) - count)),
        "out_axes": node.attr("scan_output_axes", (0,) * results),
        "in_ways": node.attr("scan_input_directions", (0,) * (len(given) - count)),
        "out_ways": node.attr("scan_output_directions", (0,) * results),
    }
    return _scanned(node, body, given[:count], given[count:], **how)


def _scanned(
    node: Node,
    body: Body,
    states: Sequence[Any],
    scanned: Sequence[Any],
    *,
    in_axes: Any,
    out_axes: Any,
    in_ways: Any,
    out_ways: Any,
) -> tuple[Any, ...]:
    count = len(states)
    xs = [
        _turned(_axis_first(x, axis), way)
        for x, axis, way in zip(scanned, in_axes, in_ways, strict=True)
    ]

    def step(carry: Any, parts: Any) -> Any:
        out = [settled(node, v) for v in body(*carry, *parts)]
        return out[:count], out[count:]

    last, rows = scan(step, [settled(node, v) for v in states], [node.value(x) for x in xs])
    ys = [
        _axis_back(_turned(y, way), axis)
        for y, axis, way in zip(rows, out_axes, out_ways, strict=True)
    ]
    return (*last, *ys)


def _turned(x: Any, way: int) -> Any:
    return flip(x, axis=0) if way else x


def _axis_first(x: Any, axis: int) -> Any:
    rank = len(sizes_of(x))
    at = axis % rank
    return x if at == 0 else o.transpose(x, perm=(at, *(i for i in range(rank) if i != at)))


def _axis_back(x: Any, axis: int) -> Any:
    rank = len(sizes_of(x))
    at = axis % rank
    return x if at == 0 else o.transpose(x, perm=(*range(1, at + 1), 0, *range(at + 1, rank)))


@onnx_op("Scan")
def scan_before_9(node: Node, lengths: Any = None, *given: Any) -> Any:
    """Example by example of a batch, along axis 1."""
    if lengths is not None:
        raise FormatError("sequence_lens of Scan, as before opset 9", where=str(node))
    body: Any = node.graph("body")
    count = len(given) - node.need("num_scan_inputs")
    results = len(body.outputs) - count
    how = {
        "in_axes": (0,) * (len(given) - count),
        "out_axes": (0,) * results,
        "in_ways": node.attr("directions", (0,) * (len(given) - count)),
        "out_ways": (0,) * results,
    }

    def one(_: Any, example: Any) -> Any:
        return None, list(_scanned(node, body, example[:count], example[count:], **how))

    return tuple(scan(one, None, [node.value(x) for x in given])[1])
