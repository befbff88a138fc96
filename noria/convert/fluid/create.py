"""Values made from attributes; random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from noria.convert.fluid.handlers import Lod, Op, dtype_of, fluid_op
from noria.convert.fluid.shape import numbers_of
from noria.core.dims import Dim, Size
from noria.core.dtypes import is_float, is_integer, to_numpy
from noria.core.errors import ArgumentError, ShapeError
from noria.ir.opdef import vocabulary as o
from noria.ops import random
from noria.ops.numeric import spec_of

SMALL = 1 << 12  # elements of what is kept as numbers, for others to look at


def filled(shape: tuple[Size, ...], value: Any, dtype: str) -> Any:
    """One number everywhere, as an array if that is small."""
    known = [d for d in shape if not isinstance(d, Dim)]
    if any(d < 0 for d in known):
        raise ShapeError("a size cannot be negative", got=str(shape))
    number = _as(value, dtype)
    if len(known) == len(shape) and np.prod(known, dtype=float) <= SMALL:
        return np.full(known, number, to_numpy(dtype))
    return o.fill(shape=shape, value=number, dtype=dtype)


def _as(value: Any, dtype: str) -> Any:
    if dtype == "bool":
        return bool(value)
    return int(value) if is_integer(dtype) else float(value)


def _shape(op: Op, default: tuple[int, ...] = ()) -> tuple[Size, ...]:
    found = numbers_of(op, "shape", "ShapeTensor", "ShapeTensorList", "the shape")
    return found or default


def _like(op: Op) -> tuple[Size, ...]:
    """`shape` with one size taken from the input; that of rows where it is ragged."""
    x, shape = op.input("Input"), list(op.need_attr("shape"))
    source, target = op.attr("input_dim_idx", 0), op.attr("output_dim_idx", 0)
    splits = op.lod("Input")
    shape[target] = splits[-1].shape[0] - 1 if splits and source == 0 else x.shape[source]
    return tuple(shape)


# ---- numbers -----------------------------------------------------------------------------------


@fluid_op("fill_constant", "fill_constant_batch_size_like")
def fill_constant(op: Op) -> dict[str, Any]:
    dtype = op.dtype("dtype")
    shape = _shape(op) if op.type == "fill_constant" else _like(op)
    given = op.get("ValueTensor")
    if given is not None:
        number = o.cast(o.reshape(given, shape=()), dtype=dtype)
        return {"Out": Lod(o.broadcast_to(number, shape=shape))}
    text = op.attr("str_value", "")
    value = _parsed(text, dtype) if text else op.attr("value", 0.0)
    return {"Out": Lod(filled(shape, value, dtype))}


def _parsed(text: str, dtype: str) -> Any:
    try:
        return int(text) if is_integer(dtype) else float(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise ArgumentError("str_value is no number", got=repr(text[:50])) from None


@fluid_op("fill")
def fill(op: Op) -> dict[str, Any]:
    values = np.array(op.need_attr("value"), np.float64)
    return {"Out": values.astype(to_numpy(op.dtype("dtype"))).reshape(op.need_attr("shape"))}


@fluid_op("fill_any_like", "fill_zeros_like", "fill_zeros_like2")
def fill_like(op: Op) -> dict[str, Any]:
    x = spec_of(op.input("X"))
    code = op.attr("dtype", -1)
    dtype = x.dtype if code is None or code < 0 else dtype_of(code)
    value = op.attr("value", 0.0) if op.type == "fill_any_like" else 0.0
    return {"Out": o.fill(shape=x.shape, value=_as(value, dtype), dtype=dtype)}


@fluid_op("assign", "rnn_memory_helper", "print", "share_data", "memcpy")
def assign(op: Op) -> dict[str, Any]:
    """The same value under another name (`print` prints nothing here)."""
    slot = "In" if op.type == "print" else "X"
    held = op.held(slot)
    if not held:
        return {}
    value = held[0]
    return {"Out": Lod(o.identity(value.values), value.splits) if isinstance(value, Lod) else value}


@fluid_op("assign_value")
def assign_value(op: Op) -> dict[str, Any]:
    dtype = op.dtype("dtype")
    names = {"bool": "bool_values", "int32": "int32_values", "int64": "int64_values"}
    values = op.attr(names.get(dtype, "fp32_values"), ()) or op.attr("values", ())
    return {"Out": np.array(values, to_numpy(dtype)).reshape(op.need_attr("shape"))}


@fluid_op("eye")
def eye(op: Op) -> dict[str, Any]:
    rows, columns = int(op.need_attr("num_rows")), int(op.attr("num_columns", -1))
    return {"Out": o.eye(n=rows, m=rows if columns < 0 else columns, dtype=op.dtype("dtype"))}


@fluid_op("range")
def range_(op: Op) -> dict[str, Any]:
    """Start, Start + Step, ... before End; sizes among them may be symbolic."""
    values = [op.input(n) for n in ("Start", "End", "Step")]
    dtype = spec_of(values[0]).dtype
    if is_float(dtype):
        start, stop, step = (float(op.const(v, "a bound of range").reshape(-1)[0]) for v in values)
        return {"Out": o.arange(start=start, stop=stop, step=step, dtype=dtype)}
    bounds = [op.sizes(v, "a bound of range")[0] for v in values]
    return {"Out": o.arange(start=bounds[0], stop=bounds[1], step=bounds[2], dtype=dtype)}


@fluid_op("linspace")
def linspace(op: Op) -> dict[str, Any]:
    start, stop = op.input("Start"), op.input("Stop")
    count = int(op.const(op.input("Num"), "the number of points").reshape(-1)[0])
    dtype = spec_of(start).dtype
    if count <= 0:
        raise ArgumentError("linspace needs a point or more", got=str(count))
    if count == 1:
        return {"Out": o.reshape(start, shape=(1,))}
    places = o.div(o.arange(stop=count, dtype="float64"), float(count - 1))
    wide = [o.cast(o.reshape(v, shape=(1,)), dtype="float64") for v in (start, stop)]
    return {"Out": o.cast(o.add(wide[0], o.mul(o.sub(wide[1], wide[0]), places)), dtype=dtype)}


@fluid_op("tril_triu")
def tril_triu(op: Op) -> dict[str, Any]:
    x, k = op.input("X"), op.attr("diagonal", 0)
    rows, columns = (o.arange(stop=d) for d in x.shape[-2:])
    apart = o.sub(columns, o.unsqueeze(rows, axis=1))
    kept = o.less_equal(apart, k) if op.attr("lower", True) else o.greater_equal(apart, k)
    return {"Out": o.where(kept, x, 0)}


# ---- random ------------------------------------------------------------------------------------


@fluid_op("uniform_random", "uniform_random_batch_size_like")
def uniform(op: Op) -> dict[str, Any]:
    shape = _like(op) if op.type.endswith("_like") else _shape(op)
    low, high = float(op.attr("min", -1.0)), float(op.attr("max", 1.0))
    out = random.uniform(shape=shape, low=low, high=high, dtype=op.dtype("dtype"))
    count, step = op.attr("diag_num", 0), op.attr("diag_step", 0)
    if count:
        out = _with_diagonal(out, count, step, float(op.attr("diag_val", 1.0)))
    return {"Out": Lod(out)}


def _with_diagonal(x: Any, count: int, step: int, value: float) -> Any:
    """`count` elements set, `step` + 1 apart in row-major order."""
    flat = o.reshape(x, shape=(-1,))
    size = flat.shape[0]
    if isinstance(size, Dim) or (count - 1) * (step + 1) >= size or step < 0:
        raise ArgumentError("the diagonal is longer than the value", got=f"{count} of {size}")
    places = (np.arange(count, dtype=np.int64) * (step + 1))[:, None]
    numbers = np.full(count, value, to_numpy(spec_of(x).dtype))
    return o.reshape(o.scatter_nd(flat, places, numbers), shape=x.shape)


@fluid_op("gaussian_random", "gaussian_random_batch_size_like", "truncated_gaussian_random")
def gaussian(op: Op) -> dict[str, Any]:
    shape = _like(op) if op.type.endswith("_like") else _shape(op)
    mean, std = float(op.attr("mean", 0.0)), float(op.attr("std", 1.0))
    draw = random.truncated_normal if op.type.startswith("truncated") else random.normal
    return {"Out": Lod(draw(shape=shape, mean=mean, std=std, dtype=op.dtype("dtype")))}


@fluid_op("randint")
def randint(op: Op) -> dict[str, Any]:
    low, high = int(op.attr("low", 0)), int(op.need_attr("high"))
    return {"Out": random.randint(shape=_shape(op), low=low, high=high, dtype=op.dtype("dtype", 3))}


@fluid_op("randperm")
def randperm(op: Op) -> dict[str, Any]:
    return {"Out": o.cast(random.permutation(n=op.need_attr("n")), dtype=op.dtype("dtype", 3))}


@fluid_op("bernoulli")
def bernoulli(op: Op) -> dict[str, Any]:
    x = op.input("X")
    drawn = random.uniform(shape=x.shape)
    return {"Out": o.cast(o.less(drawn, x), dtype=spec_of(x).dtype)}


@fluid_op("sampling_id")
def sampling_id(op: Op) -> dict[str, Any]:
    """For each row of probabilities [N, C] the column where a random number falls."""
    x = op.input("X")
    low, high = float(op.attr("min", 0.0)), float(op.attr("max", 1.0))
    drawn = random.uniform(shape=(x.shape[0], 1), low=low, high=high, dtype=spec_of(x).dtype)
    below = o.less(o.cumsum(x, axis=1), drawn)
    ids = o.reduce_sum(o.cast(below, dtype="int64"), axis=1)
    return {"Out": o.minimum(ids, o.dim_value(dim=x.shape[1] - 1))}


@fluid_op("seed")
def seed(op: Op) -> dict[str, Any]:
    given = op.attr("seed", 0)
    if given:
        return {"Out": np.array([given], np.int32)}
    return {"Out": random.randint(shape=(1,), low=1, high=(1 << 31) - 1, dtype="int32")}


@fluid_op("shuffle_batch")
def shuffle_batch(op: Op) -> dict[str, Any]:
    """All rows (every axis but the last) in random order."""
    x = op.input("X")
    flat = o.reshape(x, shape=(-1, x.shape[-1]))
    order = random.permutation(n=flat.shape[0])
    return {
        "Out": o.reshape(o.gather(flat, order), shape=x.shape),
        "ShuffleIdx": order,
        "SeedOut": o.identity(op.input("Seed")) if op.bound.get("Seed") else None,
    }


@fluid_op("random_crop")
def random_crop(op: Op) -> dict[str, Any]:
    """A part of the last axes from a random place, another one for each element of the others."""
    x, shape = op.input("X"), tuple(op.need_attr("shape"))
    outer = len(x.shape) - len(shape)
    if outer < 0 or any(isinstance(d, Dim) for d in x.shape):
        raise ShapeError("random_crop needs known sizes", got=str(tuple(x.shape)))
    count = int(np.prod(x.shape[:outer], dtype=int))
    out = o.reshape(x, shape=(count, *x.shape[outer:]))
    for axis, (size, crop) in enumerate(zip(x.shape[outer:], shape, strict=True), start=1):
        first = random.randint(shape=(count, 1), low=0, high=size - crop + 1)
        places = o.add(first, o.arange(stop=crop))
        spread = (count, *(crop if k == axis else 1 for k in range(1, len(shape) + 1)))
        ids = o.broadcast_to(
            o.reshape(places, shape=spread),
            shape=tuple(crop if k == axis else d for k, d in enumerate(out.shape)),
        )
        out = o.take_along_axis(out, ids, axis=axis)
    return {
        "Out": o.reshape(out, shape=(*x.shape[:outer], *shape)),
        "SeedOut": o.identity(op.input("Seed")) if op.bound.get("Seed") else None,
    }


@fluid_op("dropout")
def dropout(op: Op) -> dict[str, Any]:
    """Two kinds: `downgrade_in_infer` scales at test time, `upscale_in_train` in training."""
    x, p = op.input("X"), float(op.attr("dropout_prob", 0.5))
    upscale = op.attr("dropout_implementation", "downgrade_in_infer") == "upscale_in_train"
    if op.attr("is_test", False):
        return {"Out": o.identity(x) if upscale else o.mul(x, 1.0 - p)}
    if p == 1.0:
        kept = o.fill(shape=x.shape, value=0, dtype="uint8")
    else:
        kept = random.bernoulli(shape=x.shape, p=1.0 - p, dtype="uint8")
    scale = 1.0 / (1.0 - p) if upscale and p < 1.0 else 1.0
    out = o.mul(x, o.cast(kept, dtype=spec_of(x).dtype))
    return {"Out": out if scale == 1.0 else o.mul(out, scale), "Mask": kept}
