"""Blocks inside blocks: loops, conditions, recurrences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from noria.convert.fluid.arrays import Buffer, Recorder, TensorArray, as_buffer
from noria.convert.fluid.desc import TENSOR_ARRAY
from noria.convert.fluid.handlers import Lod, Op, fluid_op
from noria.convert.fluid.scope import Scope
from noria.core.dims import Size
from noria.core.errors import ProgramError
from noria.ir.emit import Builder, building, inner_name
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Block, Spec
from noria.ops import control, loops
from noria.ops.numeric import spec_of


def flag(value: Any) -> Any:
    """A condition, [1] or [], as a scalar bool."""
    scalar = o.reshape(value, shape=())
    return scalar if scalar.dtype == "bool" else o.cast(scalar, dtype="bool")


def _steps(op: Op, index: int) -> Iterator[Any]:
    """The operators of a block and of the blocks in it."""
    blocks = op.frame.reader.blocks
    for step in blocks[index].steps:
        yield step
        for inner in step.blocks:
            yield from _steps(op, inner)


def _written(op: Op, index: int) -> list[str]:
    """Variables around a block that it assigns to."""
    own, declared = op.frame.reader.blocks[index].variables, op.frame.reader.variables
    names = {n: None for s in _steps(op, index) for ns in s.outputs.values() for n in ns}
    arrays = {n for n in names if n in declared and declared[n].kind == TENSOR_ARRAY}
    return [n for n in names if n not in own and (n in arrays or op.frame.scope.find(n))]


# ---- carried values ----------------------------------------------------------------------------


def _opened(held: Any, name: str) -> tuple[Any, ...]:
    """What a name holds as values a loop can carry."""
    if isinstance(held, Lod):
        return (held.values, *held.splits)
    if isinstance(held, Buffer):
        return held.values, held.length
    raise ProgramError(f"'{name}' cannot change in a loop or a condition", got=type(held).__name__)


def _closed(like: Any, values: Sequence[Any]) -> Any:
    return (
        Buffer(values[0], values[1])
        if isinstance(like, Buffer)
        else Lod(values[0], tuple(values[1:]))
    )


def _inside(op: Op, index: int, names: Sequence[str], held: Sequence[Any]) -> Scope:
    """A scope in which the block has run, beginning with these values."""
    scope = Scope(op.frame.scope)
    scope.held.update(zip(names, held, strict=True))
    op.frame.run_block(index, scope)
    return scope


# ---- while -------------------------------------------------------------------------------------


@fluid_op("while")
def while_(op: Op) -> dict[str, Any]:
    """Arrays that the loop writes become buffers; how far it counts must be known for that."""
    index, scope = op.need_attr("sub_block"), op.frame.scope
    condition = op.bound["Condition"][0][0]
    names = list(dict.fromkeys([condition, *_written(op, index)]))
    buffers = {n: _buffer(op, index, n) for n in names if _is_list(scope.find(n))}
    scope.held.update(buffers)
    before = [scope.get(n) for n in names]

    def test(carry: Any) -> Any:
        return flag(carry[0][0])

    def body(carry: Any) -> Any:
        held = [_closed(like, values) for like, values in zip(before, carry, strict=True)]
        after = _inside(op, index, names, held)
        return [list(_opened(after.get(n), n)) for n in names]

    start = [list(_opened(h, n)) for h, n in zip(before, names, strict=True)]
    for name, like, values in zip(names, before, loops.while_loop(test, body, start), strict=True):
        scope.held[name] = _closed(like, values)
    return {}


def _is_list(held: Any) -> bool:
    return held is None or isinstance(held, TensorArray)


def _buffer(op: Op, index: int, name: str) -> Buffer:
    """The array before the loop, with room for what the loop writes."""
    array = op.frame.scope.find(name) or TensorArray()
    room = _bound(op, index)
    if room is None:
        raise ProgramError(
            f"the array '{name}' grows in a loop whose number of steps is not known",
            where=op.where,
            expected="a loop `while less_than(i, n)` with n known when the model is converted",
        )
    written = [item for item in array.items if item is not None]
    like = spec_of(written[0].values) if written else _first_write(op, index, name)
    return as_buffer(array, room, like)


def _bound(op: Op, index: int) -> Size | None:
    """An array is never written behind this position: the limit of the loop's counter."""
    condition = op.bound["Condition"][0][0]
    for step in reversed(list(_steps(op, index))):
        if condition in step.outputs.get("Out", ()) and step.type in ("less_than", "less_equal"):
            held = op.frame.scope.find(step.inputs["Y"][0])
            sizes = op.frame.known.sizes(held.values) if isinstance(held, Lod) else None
            return None if not sizes else sizes[0] + (2 if step.type == "less_equal" else 1)
    return None


def _first_write(op: Op, index: int, name: str) -> Spec:
    """What the loop writes to an empty array, found by converting its block for nothing."""
    builder = Builder(building().program, Block(), parent=building())
    recorder = Recorder()
    with builder:
        scope = Scope(op.frame.scope)
        for other in _written(op, index):
            held = op.frame.scope.find(other)
            if held is None or (isinstance(held, TensorArray) and not held.items):
                scope.held[other] = recorder if other == name else Recorder()
            elif isinstance(held, TensorArray):
                given = [item for item in held.items if item is not None]
                scope.held[other] = as_buffer(held, 1, spec_of(given[0].values))
            else:
                scope.held[other] = _unknown(builder, held, other)
        op.frame.run_block(index, scope)
    if recorder.spec is None:
        raise ProgramError(f"nothing is written to the array '{name}'", where=op.where)
    return recorder.spec


def _unknown(builder: Builder, held: Any, name: str) -> Any:
    """A value of the same spec that nothing is known of, as a loop's block has it."""
    opened = _opened(held, name)
    return _closed(
        held, [builder.input(inner_name(builder, name), v.shape, v.dtype) for v in opened]
    )


# ---- conditions --------------------------------------------------------------------------------


@fluid_op("conditional_block", "conditional_block_infer")
def conditional_block(op: Op) -> dict[str, Any]:
    """Where the block does not run its outputs keep their values, or are zeros without any."""
    index, scope = op.need_attr("sub_block"), op.frame.scope
    names = list(dict.fromkeys([*op.outputs.get("Out", ()), *_written(op, index)]))
    conditions = op.inputs("Cond")
    if not op.attr("is_scalar_condition", False):
        after = _inside(op, index, (), ())  # it runs on the rows there are, perhaps none
        scope.held.update((n, after.find(n)) for n in names if after.find(n) is not None)
        return {}
    known = op.frame.known.array(conditions[0])
    if known is not None:
        if bool(known.reshape(-1)[0]):
            op.frame.run_block(index, scope)
        return {}
    made: dict[str, Any] = {}

    def then() -> Any:
        after = _inside(op, index, (), ())
        made.update((n, after.find(n)) for n in names if after.find(n) is not None)
        return [list(_opened(h, n)) for n, h in made.items()]

    def otherwise() -> Any:
        return [list(_kept(scope.find(n), h, n)) for n, h in made.items()]

    results = control.cond(flag(conditions[0]), then, otherwise)
    for (name, like), values in zip(made.items(), results, strict=True):
        scope.held[name] = _closed(like, values)
    return {}


def _kept(before: Any, made: Any, name: str) -> Sequence[Any]:
    if before is not None:
        return _opened(before, name)
    return [o.fill(shape=v.shape, value=0, dtype=v.dtype) for v in _opened(made, name)]


@fluid_op("select_input")
def select_input(op: Op) -> dict[str, Any]:
    """The first value where the mask is 0, the second where it is 1."""
    first, second = op.held("X")
    if tuple(first.values.shape) != tuple(second.values.shape):
        raise ProgramError(
            "both branches must give one shape",
            got=f"{tuple(first.values.shape)} and {tuple(second.values.shape)}",
        )
    mask = o.reshape(op.input("Mask"), shape=())
    chosen = control.cond(
        o.equal(mask, 0), lambda: list(_opened(first, "X")), lambda: list(_opened(second, "X"))
    )
    return {"Out": _closed(first, chosen)}


@fluid_op("select_output")
def select_output(op: Op) -> dict[str, Any]:
    """The value under each of the names; only the branch the mask names looks at its own."""
    return {"Out": [op.held("X")[0]] * len(op.outputs["Out"])}


# ---- a step for each row -----------------------------------------------------------------------


@fluid_op("recurrent")
def recurrent(op: Op) -> dict[str, Any]:
    """StaticRNN: the block runs for each slice of the inputs, states go from step to step."""
    index, scope = op.need_attr("sub_block"), op.frame.scope
    sources = [n for n, _ in op.bound.get("inputs", ())]
    olds, news = list(op.attr("ex_states", ())), list(op.attr("states", ()))
    results = op.outputs.get("outputs", [])
    states = op.inputs("initial_states")
    if not (len(olds) == len(news) == len(states)):
        raise ProgramError("a recurrence names each state twice", got=f"{olds}, {news}")

    def step(carry: Any, slices: Any) -> tuple[Any, Any]:
        held = [Lod(v) for v in (*slices, *carry)]
        after = _inside(op, index, [*sources, *olds], held)
        return [after.get(n).values for n in news], [after.get(n).values for n in results]

    given = [scope.get(n).values for n in sources]
    if not given:
        raise ProgramError("a recurrence without inputs has no number of steps", where=op.where)
    _, stacked = loops.scan(step, states, given, reverse=bool(op.attr("reverse", False)))
    return {"outputs": [Lod(v) for v in stacked]}
