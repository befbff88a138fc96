"""Loops: `while_loop` (as long as data say so), `scan` (over the first axis), `map_`.

The functions given may use any value around them. Gradients run a loop backwards: the forward
operator is widened in place so that it also gives the history of the carried values it needs, and
a reversed `scan` computes each step anew from its history (Griewank & Walther, 2008, chapter 4).
On arrays these functions are Python loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from noria.core.dims import Dim, Size, evaluate
from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError, ProgramError, ShapeError
from noria.core.structure import Form, flatten
from noria.ir.emit import Builder, building, current
from noria.ir.nested import (
    Nested,
    close,
    is_scalar,
    need_flag,
    require_spec,
    resolved,
    scalar_dtype,
    value_of,
)
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Spec, Value
from noria.ops.loop_ops import scan_op, slice_spec, while_op


def while_loop(cond_fn: Callable[[Any], Any], body_fn: Callable[[Any], Any], init: Any) -> Any:
    """`while cond_fn(carry): carry = body_fn(carry)`, from `init`; the last carry.

    init:    a value, or tuples, lists and dicts of values, arrays and scalars
    cond_fn: carry -> bool scalar
    body_fn: carry -> carry of the same structure, dtypes and shapes
    The number of steps may depend on data and may be 0. Gradients keep the carried values of each
    step that they need. Raises ProgramError, DTypeError or ShapeError, naming the carried value,
    if body_fn gives something else than it takes.

        n, x = ops.while_loop(lambda c: c[1] > 1.0, lambda c: (c[0] + 1, c[1] / 2.0), (0, x))
    """
    leaves, form = flatten(init)
    if not _is_traced(leaves):
        return _eager_while(cond_fn, body_fn, leaves, form)
    values = [value_of(leaf) for leaf in leaves]
    names = [v.name for v in values]
    test, body = (_LoopBody(values, names) for _ in range(2))
    with test:
        pred = value_of(cond_fn(form.build(test.inputs)))
        need_flag(pred, "what cond_fn gives")
        test.block.outputs = [pred]
    with body:
        body.block.outputs = _new_carry(body_fn(form.build(body.inputs)), form, values)
    body.check_sizes(form.paths("carry"))
    if any(part.counter is not None for part in (test, body)):
        values.append(_count_steps([test, body], form.count))
    blocks, operands = close([test, body], values, fixed=len(values))
    attrs = {"carried": len(values)}
    outs = building().emit(while_op, operands, attrs, {"cond": blocks[0], "body": blocks[1]})
    return form.build(_listed(outs)[: form.count])


def scan(
    fn: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    *,
    reverse: bool = False,
    length: int | Dim | None = None,
) -> tuple[Any, Any]:
    """`for x in xs: carry, y = fn(carry, x)`, from `init`: (the last carry, all y stacked).

    fn:      (carry, one slice of xs) -> (carry of the same structure and specs, y)
    init, y: a value, None, or tuples, lists and dicts of them
    xs:      the same of values [T, ...]; T may be symbolic, and 0; None: `length` steps
    reverse: from the last slice to the first; each y keeps the place of its slice
    Gradients keep the carried values of each step that they need. Raises ProgramError, DTypeError
    or ShapeError, naming the value, where structures, dtypes or sizes do not fit.

        total, sums = ops.scan(lambda s, x: (s + x, s + x), 0.0, x)
    """
    carry, form = flatten(init)
    slices, slices_form = flatten(xs)
    if not _is_traced([*carry, *slices]):
        return _eager_scan(fn, carry, form, slices, slices_form, reverse, length)
    values, scanned = ([value_of(leaf) for leaf in leaves] for leaves in (carry, slices))
    size = _length(scanned, slices_form.paths("xs"), length)
    paths = slices_form.paths("xs")
    specs = [slice_spec(v, size, p) for v, p in zip(scanned, paths, strict=True)]
    body = _LoopBody([*values, *specs], [v.name for v in (*values, *scanned)])
    with body:
        mine, theirs = body.inputs[: form.count], body.inputs[form.count :]
        new, ys = _pair(fn(form.build(mine), slices_form.build(theirs)))
        new_carry = _new_carry(new, form, values)
        given, given_form = flatten(ys)
        each = [value_of(leaf) for leaf in given]
        body.block.outputs = new_carry + each
    body.check_sizes(form.paths("carry") + given_form.paths("y"))
    if body.counter is not None:
        values.append(_count_steps([body], form.count))
    attrs = {
        "carried": len(values),
        "scanned": len(scanned),
        "length": size,
        "reverse": bool(reverse),
        "each": tuple((v.dtype, v.shape) for v in each),
    }
    operands = [*values, *scanned]
    blocks, operands = close([body], operands, fixed=len(operands))
    outs = _listed(building().emit(scan_op, operands, attrs, {"body": blocks[0]}))
    return form.build(outs[: form.count]), given_form.build(outs[len(values) :])


def map_(fn: Callable[[Any], Any], xs: Any) -> Any:
    """`fn` of each slice along the first axis, stacked: [T, ...]. One slice at a time.

    xs: a value [T, ...], or tuples, lists and dicts of them. Raises as `scan` does.
    """
    return scan(lambda _, x: (None, fn(x)), None, xs)[1]


class _LoopBody(Nested):
    """A block that runs once a step. A step counter is made if something inside asks for it."""

    def __init__(self, specs: Sequence[Spec], names: Sequence[str]) -> None:
        super().__init__(specs, names)
        self.counter: Value | None = None
        self.builder.loop_index = self.count

    def count(self) -> Value:
        """The number of the step, as the last of the inputs until `_count_steps` places it."""
        if self.counter is None:
            self.counter = self.input(Spec((), "int64"), "step")
        return self.counter


def _count_steps(parts: Sequence[_LoopBody], at: int) -> Value:
    """Carry a step counter as carried value `at`; its first value. The last part is the body."""
    for part in parts:
        counter = part.count()
        part.inputs.remove(counter)
        part.inputs.insert(at, counter)
    body = parts[-1]
    with body:
        body.block.outputs.insert(at, o.add(body.count(), 1))
    return value_of(0)


def _new_carry(result: Any, form: Form, old: Sequence[Value]) -> list[Value]:
    """What a step gave for the carried values, as Values of their specs."""
    leaves, got = flatten(result)
    _same_structure(got, form)
    triples = zip(leaves, old, form.paths("carry"), strict=True)
    return [_kept(value_of(a, scalar_dtype(a, v)), v, path) for a, v, path in triples]


def _kept(new: Any, old: Any, path: str) -> Any:
    require_spec(Spec(new.shape, new.dtype), Spec(old.shape, old.dtype), f"{path} after a step")
    return new


def _same_structure(got: Form, form: Form) -> None:
    if got != form:
        raise ProgramError(
            "a step of a loop must give the structure that it takes",
            expected=str(form),
            got=str(got),
        )


def _pair(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise ProgramError(
            "the function of a scan returns (carry, y)",
            got=str(flatten(result)[1]),
            hint="return carry, None where a step gives nothing",
        )
    return result


def _length(shapes: Sequence[Any], paths: Sequence[str], length: Size | None) -> Size:
    """The number of steps: `length`, else the first axis of what is scanned."""
    if (
        length is not None
        and not isinstance(length, Dim)
        and (type(length) is not int or length < 0)
    ):
        raise ArgumentError("the length of a scan is a size", got=repr(length))
    for value, path in zip(shapes, paths, strict=True):
        if not value.shape:
            raise ShapeError(f"{path} has no axis to loop over", got=f"{value.dtype}[]")
        return value.shape[0] if length is None else length
    if length is None:
        raise ArgumentError("a scan needs something to loop over, or a length")
    return length


def _listed(outs: Any) -> list[Value]:
    return [outs] if isinstance(outs, Value) else list(outs)


# ---- on arrays ---------------------------------------------------------------------------------


def _is_traced(leaves: Sequence[Any]) -> bool:
    return current() is not None or any(isinstance(resolved(a), Value) for a in leaves)


def _array(leaf: Any, dtype: str | None = None) -> np.ndarray:
    if is_scalar(leaf):
        plain = {bool: "bool", int: "int64", float: "float32"}[type(leaf)]
        return np.asarray(leaf, to_numpy(dtype or plain))
    return np.asarray(resolved(leaf))


def _eager_while(cond_fn: Any, body_fn: Any, leaves: list[Any], form: Form) -> Any:
    carry = [_array(leaf) for leaf in leaves]
    while bool(cond_fn(form.build(carry))):
        carry = _new_arrays(body_fn(form.build(carry)), form, carry)
    return form.build(carry)


def _new_arrays(result: Any, form: Form, old: Sequence[np.ndarray]) -> list[np.ndarray]:
    leaves, got = flatten(result)
    _same_structure(got, form)
    triples = zip(leaves, old, form.paths("carry"), strict=True)
    return [_kept(_array(a, scalar_dtype(a, v)), v, path) for a, v, path in triples]


def _eager_scan(
    fn: Any,
    init: list[Any],
    form: Form,
    slices: list[Any],
    slices_form: Form,
    reverse: bool,
    length: Any,
) -> tuple[Any, Any]:
    carry, xs = [_array(a) for a in init], [np.asarray(a) for a in slices]
    paths = slices_form.paths("xs")
    count = evaluate(_length(xs, paths, length), {})
    for x, path in zip(xs, paths, strict=True):
        slice_spec(Spec(x.shape, x.dtype), count, path)
    if count == 0:
        return form.build(carry), _empty_results(fn, carry, form, xs, slices_form)
    given: list[Any] = [None] * count
    ys_form: Form | None = None
    for t in reversed(range(count)) if reverse else range(count):
        new, y = _pair(fn(form.build(carry), slices_form.build([x[t, ...] for x in xs])))
        carry = _new_arrays(new, form, carry)
        given[t], this_form = flatten(y)
        ys_form = this_form if ys_form is None else ys_form
        _same_structure(this_form, ys_form)
    stacked = [np.stack([_array(leaf) for leaf in leaves]) for leaves in zip(*given, strict=True)]
    return form.build(carry), ys_form and ys_form.build(stacked)


def _empty_results(fn: Any, carry: Any, form: Form, xs: Any, slices_form: Form) -> Any:
    """The results of no steps: what one gives is learned by tracing it."""
    with Builder(Program("empty")) as builder:
        inputs = [builder.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate([*carry, *xs])]
        init = form.build(inputs[: form.count])
        _, ys = scan(fn, init, slices_form.build(inputs[form.count :]), length=0)
    leaves, ys_form = flatten(ys)
    return ys_form.build([np.empty(v.shape, to_numpy(v.dtype)) for v in leaves])
