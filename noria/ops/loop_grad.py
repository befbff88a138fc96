"""The gradient of a loop: a scan over its steps in the opposite order.

    forward:   c[t+1], y[t] = body(c[t], x[t], w)
    backward:  gc[t], gx[t], gw += vjp of body at (c[t], x[t], w), for (gc[t+1], gy[t])

Each backward step computes the forward one anew, so only the carried values c[t] are kept, and of
these only the ones a step needs. Carried values that do not change the result, or that nothing
wanted changes, have no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from noria.core.dims import Size, symbol
from noria.core.dtypes import is_float, promote
from noria.ir.emit import building
from noria.ir.nested import Nested, close, follows_from, leads_to
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Operator, Spec, Value, needed

Grads = Sequence[Value | None]
Pairs = list[tuple[Value, Value]]  # (value inside the block, value outside)


def loop_gradient(
    op: Operator,
    g_last: Grads,
    g_each: Grads,
    g_history: Mapping[int, Value | None],
    vjp: Callable[..., list[Value | None]],
    wanted: Sequence[bool],
) -> list[Value | None]:
    """Gradients of a `while_loop` or `scan`, one per operand.

    g_last, g_each, g_history: gradients of its last carried values, of what its steps gave, and
    of the histories it recorded, by carried index.
    """
    loop = _Loop(op, wanted)
    moving = loop.moving(g_last, g_each, g_history)
    step = _BackwardStep(loop, moving, g_each, g_history)
    step.trace(vjp)
    if not (moving or step.summed or step.sliced):
        return [None] * len(op.inputs)
    return step.emit(g_last)


class _Loop:
    """The parts of a loop operator."""

    def __init__(self, op: Operator, wanted: Sequence[bool]) -> None:
        self.op, self.body = op, op.blocks["body"]
        self.carried: int = op.attrs["carried"]
        self.stop: int = self.carried + op.attrs.get("scanned", 0)
        floats = [is_float(v.dtype) for v in self.body.inputs]
        self.wanted = [w and f for w, f in zip(wanted, floats, strict=True)]

    def moving(
        self, g_last: Grads, g_each: Grads, g_history: Mapping[int, Value | None]
    ) -> list[int]:
        """Carried values through which a gradient has to be carried."""
        body, carried = self.body, range(self.carried)
        wanted = [v for v, w in zip(body.inputs, self.wanted, strict=True) if w]
        given = [
            v for v, g in zip(body.outputs[self.carried :], g_each, strict=True) if g is not None
        ]

        def changed(by: set[int]) -> set[int]:
            found = follows_from(body, [*wanted, *(body.inputs[i] for i in by)])
            return {i for i in carried if body.outputs[i] in found}

        def leading(to: set[int]) -> set[int]:
            found = leads_to(body, [*given, *(body.outputs[i] for i in to)])
            return {i for i in carried if body.inputs[i] in found}

        live = _closure({i for i in carried if self.wanted[i]}, changed)
        pulled = {i for i in carried if g_last[i] is not None}
        pulled |= {i for i, g in g_history.items() if g is not None}
        both = live & _closure(pulled, leading)
        return sorted(i for i in both if is_float(body.inputs[i].dtype))

    def length(self, op: Operator) -> Size:
        """Number of steps, of the operator as it has become."""
        return symbol(op.attrs["steps"]) if op.type == "while_loop" else op.attrs["length"]

    def record(self, indices: Sequence[int]) -> tuple[Operator, dict[int, Value]]:
        """Make the forward operator give these histories too: (operator, index -> history)."""
        op = self.op
        have: tuple[int, ...] = op.attrs["record"]
        more = [i for i in indices if i not in have]
        if more:
            op = _widened(op, self, (*have, *more))
        base = len(op.outputs) - len(op.attrs["record"])
        return op, dict(zip(op.attrs["record"], op.outputs[base:], strict=True))


def _closure(found: set[int], step: Callable[[set[int]], set[int]]) -> set[int]:
    """What is found, and what the step finds from it, again and again."""
    while True:
        more = step(found)
        if more <= found:
            return found
        found = found | more


def _widened(op: Operator, loop: _Loop, record: tuple[int, ...]) -> Operator:
    """The operator, replaced in its block by one with more histories; old outputs stay."""
    builder = building()
    attrs = {**op.attrs, "record": record}
    if op.type == "while_loop" and not attrs["steps"]:
        attrs["steps"] = "steps_" + "".join(c if c.isalnum() else "_" for c in op.outputs[0].name)
    length = loop.length(replace(op, attrs=attrs))
    more = tuple(
        Value(
            builder.names.fresh(f"{op.type}.history"),
            (length, *loop.body.inputs[i].shape),
            loop.body.inputs[i].dtype,
        )
        for i in record[len(op.attrs["record"]) :]
    )
    new = replace(op, attrs=attrs, outputs=(*op.outputs, *more))
    builder.block.operators[builder.block.operators.index(op)] = new
    builder.known.update(more)
    return new


@dataclass(slots=True)
class _Input:
    """An input of the backward step, and the outer value it takes (known later for a history)."""

    inner: Value
    outer: Value | None = None


class _BackwardStep:
    """The block of one step backwards, and how the scan that runs it is called.

    summed: operands that stay in the loop, whose gradients are summed: index -> (before, after)
    sliced: scanned operands whose gradients are stacked: index -> gradient
    """

    def __init__(
        self, loop: _Loop, moving: list[int], g_each: Grads, g_history: Mapping[int, Value | None]
    ) -> None:
        body, operands = loop.body, [v for v in loop.op.inputs if v is not None]
        self.loop, self.moving = loop, moving
        self.part = Nested([], [])
        self.grads = {i: self._input(body.inputs[i], "g") for i in moving}
        staying = range(loop.stop, len(operands))
        self.sums = {
            j: self._input(_summing(body.inputs[j]), "sum") for j in staying if loop.wanted[j]
        }
        self.history = [self._input(v, v.name) for v in body.inputs[: loop.carried]]
        self.slices = [
            _Input(self._input(body.inputs[j], body.inputs[j].name), operands[j])
            for j in range(loop.carried, loop.stop)
        ]
        self.g_each = [
            None if g is None else _Input(self._input(v, "g"), g)
            for v, g in zip(body.outputs[loop.carried :], g_each, strict=True)
        ]
        self.g_history = {
            i: _Input(self._input(body.inputs[i], "g"), g)
            for i, g in g_history.items()
            if g is not None and i in moving
        }
        self.rest = [
            _Input(self._input(body.inputs[j], body.inputs[j].name), operands[j]) for j in staying
        ]
        self.summed: dict[int, tuple[Value, Value]] = {}
        self.sliced: dict[int, Value] = {}

    def _input(self, spec: Spec, name: str) -> Value:
        return self.part.input(spec, name)

    def trace(self, vjp: Callable[..., list[Value | None]]) -> None:
        """Emit the step into the block."""
        loop = self.loop
        with self.part:
            inputs = [*self.history, *(x.inner for x in (*self.slices, *self.rest))]
            seeds = [self.grads.get(i) for i in range(loop.carried)]
            seeds += [None if g is None else g.inner for g in self.g_each]
            asked = [i in self.moving for i in range(loop.carried)] + loop.wanted[loop.carried :]
            found = vjp(loop.body, inputs, seeds, asked)
            new = [self._new_grad(i, found[i]) for i in self.moving]
            for j, total in self.sums.items():
                g = found[j]
                if g is not None:
                    wide = g if g.dtype == total.dtype else o.cast(g, dtype=total.dtype)
                    self.summed[j] = total, o.add(total, wide)
        places = range(loop.carried, loop.stop)
        self.sliced = {j: g for j in places if (g := found[j]) is not None}
        block = self.part.block
        block.outputs = [*new, *(after for _, after in self.summed.values()), *self.sliced.values()]
        block.operators = needed(block, block.outputs)

    def _new_grad(self, index: int, found: Value | None) -> Value:
        """Gradient of a carried value before the step."""
        extra = self.g_history.get(index)
        if found is None:
            like = self.loop.body.inputs[index]
            zeros = o.fill(shape=like.shape, value=0.0, dtype=like.dtype)
            return zeros if extra is None else extra.inner
        return found if extra is None else o.add(found, extra.inner)

    def emit(self, g_last: Grads) -> list[Value | None]:
        """Emit the scan; the gradient of each operand of the loop."""
        loop, block = self.loop, self.part.block
        used = {v for op in block.operators for v in op.operands} | set(block.outputs)
        wanted = [i for i, v in enumerate(self.history) if v in used]
        if loop.op.type == "while_loop" and not wanted:  # something must tell how often it ran
            wanted = [min(range(loop.carried), key=lambda i: loop.body.inputs[i].ndim)]
        forward, histories = loop.record(wanted)
        carried: Pairs = [(self.grads[i], _or_zeros(g_last[i], self.grads[i])) for i in self.moving]
        carried += [(before, _or_zeros(None, before)) for before, _ in self.summed.values()]
        scanned: Pairs = [(self.history[i], histories[i]) for i in wanted]
        others = [*self.slices, *(g for g in self.g_each if g), *self.g_history.values()]
        scanned += [(x.inner, x.outer) for x in others if x.inner in used and x.outer is not None]
        staying: Pairs = [(x.inner, x.outer) for x in self.rest if x.outer is not None]
        pairs = [*carried, *scanned, *staying]
        block.inputs = [inner for inner, _ in pairs]
        fixed = len(carried) + len(scanned)
        blocks, operands = close([self.part], [outer for _, outer in pairs], fixed)
        attrs = {
            "carried": len(carried),
            "scanned": len(scanned),
            "length": loop.length(forward),
            "reverse": not forward.attrs.get("reverse", False),
            "each": tuple((g.dtype, g.shape) for g in self.sliced.values()),
        }
        result = building().emit(lookup("scan"), operands, attrs, {"body": blocks[0]})
        outs = [result] if isinstance(result, Value) else list(result)
        found = dict(zip([*self.moving, *self.summed, *self.sliced], outs, strict=True))
        return [found.get(i) for i in range(len(loop.op.inputs))]


def _summing(spec: Spec) -> Spec:
    """In what a gradient is summed over the steps: never less than float32."""
    return Spec(spec.shape, promote(spec.dtype, "float32"))


def _or_zeros(grad: Value | None, like: Value) -> Value:
    return o.fill(shape=like.shape, value=0.0, dtype=like.dtype) if grad is None else grad
