"""Parts of a value, borders around it, and moving it along its axes.

Positions are those of Python's slices: negative integers count from the end, None is the natural
end, and what lies outside is cut off. Positions and sizes may be symbolic.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.dims import Dim, Size, ceil_div, dim_max, dim_min, known_ge
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import op
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Shape, Spec, as_shape
from noria.ops.common import axes_of, axis_of, require_equal, shaped
from noria.ops.numeric import widen

# ---- slices ------------------------------------------------------------------------------------


@op
def slice(x, *, axes, starts, stops, steps=None):
    """x[start:stop:step] along each of `axes`; None for a start or stop: the natural end.

    A symbolic start or stop must be known not to be negative, as `dim_max(T-2, 0)` is.
    steps: integers, negative ones go backwards; None: all 1.
    Raises ArgumentError for a step of 0 and for lists of different lengths.
    """
    shape = list(x.shape)
    for a, start, stop, step in _cuts(x.ndim, axes, starts, stops, steps):
        shape[a] = sliced_size(shape[a], start, stop, step)
    return Spec(shape, x.dtype)


@slice.compute
def _(xp, x, axes, starts, stops, steps):
    return x[_index(x.ndim, axes, starts, stops, steps)]


@slice.work
def _(out):
    return 0.0, 2.0 * out.nbytes


@slice.grad
def _(x, g, axes, starts, stops, steps):
    return o.unslice(g, shape=x.shape, axes=axes, starts=starts, stops=stops, steps=steps)


@op
def unslice(x, *, shape, axes, starts, stops, steps=None):
    """Zeros of `shape`, with x where `slice` with the same attributes would have taken it from.

    The transpose of `slice`, and so its gradient. Raises ShapeError if x has not the slice's shape.
    """
    out = Spec(shape, x.dtype)
    part = slice.infer_fn(out, axes=axes, starts=starts, stops=stops, steps=steps)
    if part.ndim != x.ndim:
        raise ShapeError("x must have the rank of the slice", expected=str(part), got=str(x))
    for i, (size, cut) in enumerate(zip(x.shape, part.shape, strict=True)):
        require_equal(size, cut, f"axis {i} of x and of the slice it fills")
    return out


@unslice.compute
def _(xp, x, shape, axes, starts, stops, steps):
    whole = as_shape(shape)
    out = xp.zeros(whole, x.dtype)
    index = _index(len(whole), axes, starts, stops, steps)
    if xp is not np:
        return out.at[index].set(x)
    out[index] = x
    return out


@unslice.grad
def _(g, axes, starts, stops, steps):
    return o.slice(g, axes=axes, starts=starts, stops=stops, steps=steps)


def _cuts(
    ndim: int, axes: Any, starts: Any, stops: Any, steps: Any
) -> list[tuple[int, Size | None, Size | None, int]]:
    """(axis, start, stop, step) for each axis concerned, checked."""
    listed = [axes, starts, stops, *([] if steps is None else [steps])]
    if not all(isinstance(v, Sequence) and len(v) == len(axes) for v in listed):
        raise ArgumentError(
            "axes, starts, stops and steps must be tuples of one length",
            got=f"{axes=}, {starts=}, {stops=}, {steps=}",
        )
    steps = (1,) * len(axes) if steps is None else steps
    found = [axis_of(a, ndim, "an entry of axes") for a in axes]
    axes_of(found, ndim)  # raises if one is named twice
    for step in steps:
        if not isinstance(step, int) or step == 0:
            raise ArgumentError("a step must be an integer that is not 0", got=repr(step))
    for p in (*starts, *stops):
        if not (p is None or isinstance(p, (int, Dim))):
            raise ArgumentError("a position must be an integer, a size or None", got=repr(p))
        if isinstance(p, Dim) and known_ge(p, 0) is not True:
            raise ArgumentError(
                "a symbolic position must be known not to be negative",
                got=str(p),
                hint=f"dim_max({p}, 0); a negative integer counts from the end",
            )
    return list(zip(found, starts, stops, steps, strict=True))


def _index(ndim: int, axes: Any, starts: Any, stops: Any, steps: Any) -> tuple[Any, ...]:
    """The cuts as an index of NumPy's."""
    index = [builtins.slice(None)] * ndim
    for a, start, stop, step in _cuts(ndim, axes, starts, stops, steps):
        index[a] = builtins.slice(start, stop, step)
    return tuple(index)


def sliced_size(size: Size, start: Size | None, stop: Size | None, step: int) -> Size:
    """How many elements `start:stop:step` takes of `size`."""
    if isinstance(size, int) and not isinstance(start, Dim) and not isinstance(stop, Dim):
        return len(range(*builtins.slice(start, stop, step).indices(size)))
    if step > 0:
        last = size if stop is None else dim_min(_from_start(stop, size), size)
        first = 0 if start is None else _from_start(start, size)
        span = last - first
        if not known_ge(first, 0):
            span = dim_min(span, last)  # a start before the first element is that element
    else:
        first = size - 1 if start is None else dim_min(_from_start(start, size), size - 1)
        last = -1 if stop is None else _from_start(stop, size)
        span = first - last
        if not known_ge(last, -1):
            span = dim_min(span, first + 1)  # a stop before the first element includes that element
    return dim_max(ceil_div(span, builtins.abs(step)), 0)


def _from_start(position: Size, size: Size) -> Size:
    """A negative integer counts from the end."""
    return size + position if isinstance(position, int) and position < 0 else position


# ---- borders -----------------------------------------------------------------------------------

PAD_MODES = ("constant", "reflect", "edge")


@op
def pad(x, *, pads, mode="constant", value=0.0):
    """x with a border: pads[i] = (before, after) along axis i.

    mode: 'constant' fills it with `value`, 'edge' repeats the outermost elements, 'reflect' mirrors
    x at them without repeating them (so a border is smaller than x).
    Raises ArgumentError for another mode or bad pads, ShapeError for a border `x` cannot fill.
    """
    pairs = _pairs(pads, x.ndim)
    _need_source(x.shape, pairs, mode)
    if mode == "constant":
        o.fill.infer_fn(shape=(), value=value, dtype=x.dtype)  # raises if the dtype cannot hold it
    return Spec((b + d + a for d, (b, a) in zip(x.shape, pairs, strict=True)), x.dtype)


@pad.compute
def _(xp, x, pads, mode, value):
    pairs = _pairs(pads, x.ndim)
    _need_source(x.shape, pairs, mode)
    if not pairs:
        return x
    if mode == "constant":
        return xp.pad(x, pairs, constant_values=np.asarray(value, x.dtype))
    return xp.pad(x, pairs, mode=mode)


@pad.grad
def _(g, pads, mode):
    return o.unpad(g, pads=pads, mode=mode)


@op
def unpad(x, *, pads, mode="constant"):
    """x without the border that `pad` gave it: 'constant' drops the border, 'reflect' and 'edge'
    add each of its elements where it was copied from.

    The transpose of `pad` with the same attributes, and so its gradient.
    """
    pairs = _pairs(pads, x.ndim)
    out = Spec((d - b - a for d, (b, a) in zip(x.shape, pairs, strict=True)), x.dtype)
    _need_source(out.shape, pairs, mode)
    return out


@unpad.compute
def _(xp, x, pads, mode):
    dtype = x.dtype
    pairs = _pairs(pads, x.ndim)
    if mode == "constant":
        return x[tuple(builtins.slice(b, d - a) for d, (b, a) in zip(x.shape, pairs, strict=True))]
    x = widen(x)
    for axis, pair in enumerate(pairs):
        if any(pair):
            x = _fold(xp, x, axis, pair, mode)
    return x.astype(dtype)


@unpad.grad
def _(g, pads, mode):
    return o.pad(g, pads=pads, mode=mode)


def _fold(xp: Any, x: Any, axis: int, pair: Any, mode: Any) -> Any:
    """One axis of x without its border, which is added where it was copied from."""
    x = xp.moveaxis(x, axis, 0)
    source = np.pad(np.arange(x.shape[0] - sum(pair)), pair, mode=mode)
    out = xp.zeros((x.shape[0] - sum(pair), *x.shape[1:]), x.dtype)
    if xp is np:
        np.add.at(out, source, x)
    else:
        out = out.at[source].add(x)
    return xp.moveaxis(out, 0, axis)


def _pairs(pads: Any, ndim: int) -> tuple[tuple[Size, Size], ...]:
    pairs = tuple(as_shape(p) for p in pads) if isinstance(pads, Sequence) else ()
    if len(pairs) != ndim or any(len(p) != 2 for p in pairs):
        raise ArgumentError(
            "pads must be a pair (before, after) for each axis", expected=f"{ndim}", got=repr(pads)
        )
    return pairs  # type: ignore[return-value]


def _need_source(shape: Shape, pairs: Sequence[tuple[Size, Size]], mode: str) -> None:
    """A border that copies needs something to copy. Raises ShapeError if there is not enough."""
    if mode not in PAD_MODES:
        raise ArgumentError("unknown mode", expected=", ".join(PAD_MODES), got=repr(mode))
    if mode == "constant":
        return
    for axis, (size, pair) in enumerate(zip(shape, pairs, strict=True)):
        for border in pair:
            least = border + 1 if mode == "reflect" else 1
            if border != 0 and known_ge(size, least) is False:
                raise ShapeError(
                    f"axis {axis} is too small for a border of {border} by '{mode}'",
                    expected=f"a size of at least {least}",
                    got=f"{size}",
                )


# ---- moving ------------------------------------------------------------------------------------


@op
def roll(x, *, shift, axis=None):
    """Elements moved `shift` places on along an axis; those that fall off come in at the start.

    Several axes: one shift each. axis None: along the flattened x.
    """
    _shifts(shift, axis, x.ndim)
    return x


@roll.compute
def _(xp, x, shift, axis):
    return xp.roll(x, *_shifts(shift, axis, x.ndim))


@roll.grad
def _(g, shift, axis):
    back = tuple(-s for s in shift) if isinstance(shift, tuple) else -shift
    return o.roll(g, shift=back, axis=axis)


def _shifts(shift: Any, axis: Any, ndim: int) -> tuple[Any, Any]:
    """(shifts, axes), checked."""
    shifts = shift if isinstance(shift, tuple) else (shift,)
    if not all(isinstance(s, (int, Dim)) for s in shifts):
        raise ArgumentError("a shift must be an integer", got=repr(shift))
    if axis is None:
        if len(shifts) != 1:
            raise ArgumentError("several shifts need as many axes", got=f"{shift=}, {axis=}")
        return shifts[0], None
    axes = axis if isinstance(axis, tuple) else (axis,)
    if len(shifts) != len(axes):
        raise ArgumentError("there must be one shift for each axis", got=f"{shift=}, {axis=}")
    return shifts, tuple(axis_of(a, ndim) for a in axes)


# ---- composed ----------------------------------------------------------------------------------


def flip(x: Any, *, axis: int | Sequence[int] | None = None) -> Any:
    """x with the order along some axes (None: all) turned round."""
    axes = axes_of(axis, len(shaped(x).shape))
    ends = (None,) * len(axes)
    return slice(x, axes=axes, starts=ends, stops=ends, steps=(-1,) * len(axes))
