"""Quantisation of Fluid: what training pretends, and what an int8 model computes."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.handlers import Op, fluid_op
from noria.core.dims import Size
from noria.ir.opdef import vocabulary as o
from noria.ops.numeric import spec_of
from noria.ops.quantize import (
    abs_max,
    dequantize_rows,
    fake_quantize,
    integer_limits,
    quantized_range,
    quantized_steps,
)

Result = dict[str, Any]


def _scalar(x: Any) -> Any:
    return o.reshape(x, shape=())


def _vector(x: Any) -> Any:
    return o.reshape(x, shape=(1,))


def _bits(op: Op) -> int:
    return op.attr("bit_length", 8)


# ---- to whole numbers --------------------------------------------------------------------------


@fluid_op("fake_quantize_abs_max")
def by_largest(op: Op) -> Result:
    x = op.input("X")
    scale = abs_max(x)
    return {"Out": quantized_steps(x, scale, bits=_bits(op)), "OutScale": _vector(scale)}


@fluid_op("fake_channel_wise_quantize_abs_max")
def by_largest_of_channels(op: Op) -> Result:
    x = op.input("X")
    scale = abs_max(x, axis=0)
    return {"Out": quantized_steps(x, scale, bits=_bits(op)), "OutScale": scale}


@fluid_op("fake_quantize_range_abs_max")
def by_range(op: Op) -> Result:
    """The largest of a window of steps, of which this operator is given the last largest only."""
    x, last = op.input("X"), _scalar(op.input("InScale"))
    if op.attr("is_test", False):
        return {"Out": quantized_steps(x, last, bits=_bits(op)), "OutScale": _vector(last)}
    now, window = abs_max(x), op.attr("window_size", 10000)
    scale = o.maximum(now, last)
    count = op.get("Iter")
    place = 0 if count is None else o.remainder(_scalar(count), window)
    here = o.equal(o.arange(stop=window), place)
    return {
        "Out": quantized_steps(x, scale, bits=_bits(op)),
        "OutScale": _vector(scale),
        "OutScales": o.where(here, now, 0.0),
    }


def _moving(op: Op) -> tuple[Any, Result]:
    """(scale, state): a mean of the largest values, old ones counting less."""
    if op.attr("is_test", False) and op.get("InScale") is not None:
        scale = _scalar(op.input("InScale"))
        return scale, {"OutScale": _vector(scale)}
    now, rate = abs_max(op.input("X")), op.attr("moving_rate", 0.9)
    before = (op.get("InState"), op.get("InAccum"))
    state, total = (0.0 if v is None else _scalar(v) for v in before)
    state, total = (
        o.add(o.mul(now, 0.0), o.add(o.mul(state, rate), 1.0)),
        o.add(o.mul(total, rate), now),
    )
    scale = o.div(total, state)
    named = {"OutScale": scale, "OutState": state, "OutAccum": total}
    return scale, {k: _vector(v) for k, v in named.items()}


@fluid_op("fake_quantize_moving_average_abs_max")
def by_moving_mean(op: Op) -> Result:
    scale, state = _moving(op)
    return {"Out": quantized_steps(op.input("X"), scale, bits=_bits(op)), **state}


@fluid_op("fake_quantize_dequantize_moving_average_abs_max")
def there_and_back(op: Op) -> Result:
    scale, state = _moving(op)
    return {"Out": fake_quantize(op.input("X"), scale, bits=_bits(op)), **state}


@fluid_op("moving_average_abs_max_scale")
def moving_scale(op: Op) -> Result:
    _, state = _moving(op)
    return {"Out": op.input("X"), **state}


# ---- and back ----------------------------------------------------------------------------------


@fluid_op("fake_dequantize_max_abs", "dequantize_abs_max")
def from_range(op: Op) -> Result:
    scale = _scalar(op.input("Scale"))
    whole = o.cast(op.input("X"), dtype=spec_of(scale).dtype)
    return {"Out": o.div(o.mul(whole, scale), float(op.need_attr("max_range")))}


@fluid_op("fake_channel_wise_dequantize_max_abs")
def from_ranges_of_channels(op: Op) -> Result:
    """One vector of scales belongs to axis 0; of two, the first to axis 1, the second to all."""
    x, scales = op.input("X"), op.inputs("Scales")
    ranges = [quantized_range(bits) for bits in op.attr("quant_bits", (8,))]
    rank, at = spec_of(x).ndim, len(scales) - 1
    size = spec_of(scales[0]).shape[0]
    shape: tuple[Size, ...] = tuple(size if i == at else 1 for i in range(rank))
    out = o.div(o.mul(x, o.reshape(scales[0], shape=shape)), ranges[0])
    for scale, span in zip(scales[1:], ranges[1:], strict=False):
        out = o.div(o.mul(out, _scalar(scale)), span)
    return {"Out": out}


@fluid_op("dequantize_log")
def from_logarithms(op: Op) -> Result:
    """A table of 128 numbers; its negatives are the codes below 0, which count from -128."""
    codes = o.cast(op.input("X"), dtype="int64")
    table = o.reshape(op.input("Dict"), shape=(-1,))
    negative = o.less(codes, 0)
    found = o.gather(table, o.where(negative, o.add(codes, 128), codes))
    return {"Out": o.where(negative, o.neg(found), found)}


@fluid_op("lookup_table_dequant")
def from_bytes(op: Op) -> Result:
    ids, table = op.input("Ids"), op.input("W")
    if spec_of(ids).ndim > 1:
        ids = o.squeeze(ids, axis=-1)
    blank = op.attr("padding_idx", -1)
    if blank < 0:
        return {"Out": dequantize_rows(table, ids)}
    rows = dequantize_rows(table, o.where(o.equal(ids, blank), 0, ids))
    return {"Out": o.where(o.unsqueeze(o.equal(ids, blank), axis=-1), 0.0, rows)}


# ---- int8 models -------------------------------------------------------------------------------


@fluid_op("quantize")
def to_bytes(op: Op) -> Result:
    dtype = "int8" if op.attr("is_negative_input", False) else "uint8"
    return {"Output": _rounded(o.mul(op.input("Input"), float(op.attr("Scale", 1.0))), dtype)}


def _rounded(x: Any, dtype: str) -> Any:
    low, high = integer_limits(dtype)
    return o.cast(o.clip(o.round(x), low=float(low), high=float(high)), dtype=dtype)


@fluid_op("dequantize")
def from_whole(op: Op) -> Result:
    whole = o.cast(op.input("Input"), dtype="float32")
    return {"Output": o.div(whole, float(op.attr("Scale", 1.0)))}


@fluid_op("requantize")
def between_scales(op: Op) -> Result:
    x = op.input("Input")
    factor = float(op.attr("Scale_out", 1.0)) / float(op.attr("Scale_in", 1.0))
    scaled = o.mul(o.cast(x, dtype="float32"), factor)
    return {"Output": _rounded(scaled, str(spec_of(x).dtype))}
