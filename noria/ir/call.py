"""Calling an op: emit an Operator when a Program is being built, compute at once on arrays.

Arguments are the same either way: Python numbers take the dtype of what stands beside them, dtypes
are promoted, and errors tell the op and the user's line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from noria.core import dims, dtypes
from noria.core.errors import ArgumentError, DTypeError, NoriaError
from noria.core.trace import caller
from noria.ir.emit import building, current, scalar_dtype
from noria.ir.opdef import OpDef, lookup, set_dispatch
from noria.ir.program import Spec, Value

_room: ContextVar[int | None] = ContextVar("noria_room", default=None)


@contextmanager
def bounded_arrays(nbytes: int) -> Iterator[None]:
    """Within it, an op called on arrays raises ArgumentError for a result of more bytes.

    For what reads files of others: a few bytes of a file may ask for more memory than there is.
    """
    token = _room.set(nbytes)
    try:
        yield
    finally:
        _room.reset(token)


def _call(definition: OpDef, args: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
    attrs = dict(attrs)
    try:
        if definition.blocks:
            raise ArgumentError(
                f"the op '{definition.name}' has blocks and is not called by itself",
                hint="ops.cond, ops.while_loop and ops.scan take functions",
            )
        inputs = [_resolved(a) for a in _arguments(definition, args, attrs)]
        builder = current()
        in_program = not inputs or any(_is_open(v) for v in attrs.values())
        if any(isinstance(a, Value) for a in inputs) or (builder is not None and in_program):
            return _emit_call(definition, inputs, attrs)
        return _compute_call(definition, inputs, attrs)
    except NoriaError as error:
        raise error.at(f"{definition.name} at {caller()}") from None


def _emit_call(definition: OpDef, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    builder = building()
    partners = _partners(definition, inputs)
    beside = _reference_dtype([a for a in partners if isinstance(a, Value)])
    beside = beside or _reference_dtype(partners)
    values: list[Value | None] = []
    for a in inputs:
        if a is None or isinstance(a, Value):
            values.append(a)
        elif _is_scalar(a):
            values.append(builder.constant(a, _weak(a, beside) if beside else None))
        else:
            values.append(builder.constant(a))
    if definition.promote:
        values = _promoted(definition, values)
    if definition.shortcut_fn is not None and builder.shortcuts:
        ready = definition.shortcut_fn(*values, **definition.bind_attrs(attrs))
        if ready is not None:
            return ready
    return builder.emit(definition, values, attrs)


def _compute_call(definition: OpDef, inputs: list[Any], attrs: dict[str, Any]) -> Any:
    beside = _reference_dtype(_partners(definition, inputs))
    arrays = [None if a is None else _as_array(a, beside) for a in inputs]
    if definition.promote:
        arrays = _promoted(definition, arrays)
    full = definition.bind_attrs(attrs)
    specs = [None if a is None else Spec(a.shape, a.dtype) for a in arrays]
    inferred = definition.infer(specs, full)
    _need_room(definition, inferred)
    with np.errstate(all="ignore"):
        outs = definition.run(np, arrays, full)
    outs = tuple(
        np.asarray(o, dtype=dtypes.to_numpy(s.dtype)) for o, s in zip(outs, inferred, strict=True)
    )
    return outs[0] if len(outs) == 1 else outs


def _need_room(definition: OpDef, specs: Sequence[Spec]) -> None:
    limit = _room.get()
    if limit is not None:
        for s in specs:
            if (size := dims.product(s.shape) * dtypes.itemsize(s.dtype)) > limit:
                raise ArgumentError(
                    f"what {definition.name} gives is too large to be computed here",
                    expected=f"at most {limit:,} bytes",
                    got=f"{s}: {size:,} bytes",
                )


def _arguments(definition: OpDef, args: tuple[Any, ...], attrs: dict[str, Any]) -> list[Any]:
    """Positional and by-name inputs in schema order; names used are removed from `attrs`."""
    out = list(args)
    fixed = [i for i in definition.inputs if not i.variadic]
    if len(out) > len(fixed) and not definition.variadic:
        raise ArgumentError(
            f"{definition.name} takes at most {len(fixed)} inputs",
            got=f"{len(out)} positional arguments",
            hint=f"attributes are given by name: {definition.name}{definition.__signature__}",
        )
    if len(out) == len(fixed) + 1 and definition.variadic and _is_list_of_inputs(out[-1]):
        out[len(fixed) :] = out[-1]
    elif definition.variadic and any(map(_is_list_of_inputs, out)):
        raise ArgumentError(
            f"{definition.name} takes inputs one by one, or one list of them",
            got=f"{len(out)} positional arguments, a list among them",
            hint=f"attributes are given by name: {definition.name}{definition.__signature__}",
        )
    for i in fixed[len(out) :]:
        out.append(attrs.pop(i.name, None))
    for i, a in zip(fixed, out, strict=False):
        if a is None and not i.optional:
            raise ArgumentError(f"{definition.name} needs the input '{i.name}'")
    return out


def _is_list_of_inputs(a: Any) -> bool:
    """`concat([x, y])` means `concat(x, y)`; a list of numbers is one array, as everywhere."""
    return isinstance(a, list | tuple) and any(
        isinstance(x, Value | np.ndarray) or hasattr(type(x), "__noria_value__") for x in a
    )


def _resolved(a: Any) -> Any:
    """What stands for an argument: a Parameter of `noria.nn` gives its Value (or its array)."""
    resolve = getattr(type(a), "__noria_value__", None)
    return a if resolve is None else resolve(a)


def _is_open(attr: Any) -> bool:
    """An attribute with symbolic sizes, which have no value while a Program is built."""
    return isinstance(attr, dims.Dim) or (
        isinstance(attr, tuple | list) and any(isinstance(v, dims.Dim) for v in attr)
    )


def _partners(definition: OpDef, args: list[Any]) -> list[Any]:
    """The inputs that share a dtype: all, unless the op promotes only some of them."""
    chosen = definition.promote
    return args if isinstance(chosen, bool) else [args[i] for i in chosen]


def _promoted(definition: OpDef, args: list[Any]) -> list[Any]:
    """Inputs cast to their common dtype."""
    partners = _partners(definition, args)
    present = [a.dtype for a in partners if a is not None]
    names = [d if isinstance(d, str) else dtypes.as_dtype(d) for d in present]
    if len(set(names)) <= 1:
        return args
    common = names[0]
    for n in names[1:]:
        common = dtypes.promote(common, n)
    cast = lookup("cast")
    concerned = {id(a) for a in partners if a is not None and a.dtype != common}
    return [cast(a, dtype=common) if id(a) in concerned else a for a in args]


def _reference_dtype(inputs: Sequence[Any]) -> str | None:
    for a in inputs:
        if a is not None and not _is_scalar(a) and hasattr(a, "dtype"):
            return a.dtype if isinstance(a.dtype, str) else dtypes.as_dtype(a.dtype)
    return None


def _is_scalar(a: Any) -> bool:
    return isinstance(a, (bool, int, float)) and not isinstance(a, np.generic)


def _weak(scalar: bool | int | float, dtype: str) -> str:
    """dtype a Python scalar takes beside an array of `dtype`: the array's, if the kind fits."""
    if isinstance(scalar, bool):
        return dtype
    if isinstance(scalar, int):
        return "int64" if dtype == "bool" else dtype
    return dtype if dtypes.is_float(dtype) else "float32"


def _as_array(a: Any, beside: str | None) -> np.ndarray:
    if _is_scalar(a):
        return np.asarray(a, dtypes.to_numpy(_weak(a, beside) if beside else scalar_dtype(a)))
    array = np.asarray(a)
    if array.dtype.kind in "OUSMm":
        raise DTypeError("an op takes numbers", got=f"{type(a).__name__} of {array.dtype}")
    return array


set_dispatch(_call)
