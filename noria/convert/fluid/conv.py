"""Convolution, its transpose, and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.convert.fluid.handlers import Op, fluid_op
from noria.core.dims import Dim, Size, ceil_div, dim_max
from noria.core.errors import ArgumentError
from noria.ir.opdef import lookup
from noria.ir.opdef import vocabulary as o
from noria.ops import activation


def channels_first(op: Op, x: Any, name: str = "data_format") -> tuple[Any, bool]:
    """(x with its channels along axis 1, whether they were last)."""
    last = str(op.attr(name, "NCHW")).upper() in ("NHWC", "NDHWC", "NLC")
    if not last:
        return x, False
    rank = len(x.shape)
    return o.transpose(x, perm=(0, rank - 1, *range(1, rank - 1))), True


def channels_last(x: Any, last: bool) -> Any:
    """The inverse of `channels_first`."""
    if not last:
        return x
    rank = len(x.shape)
    return o.transpose(x, perm=(0, *range(2, rank), 1))


def _pads(op: Op, n: int) -> tuple[tuple[int, int], ...]:
    """`paddings`: n numbers, for both sides of each axis, or 2n: before, after, before, ..."""
    given = tuple(op.attr("paddings", (0,) * n))
    if len(given) == n:
        return tuple((p, p) for p in given)
    if len(given) != 2 * n:
        raise ArgumentError(
            "paddings has another length", expected=f"{n} or {2 * n}", got=f"{given}"
        )
    return tuple(zip(given[::2], given[1::2], strict=True))


def _same(size: Size, kernel: int, stride: int) -> tuple[Any, Any]:
    total = dim_max((ceil_div(size, stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _padding(
    op: Op, sizes: Sequence[Size], kernel: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[Any, Any], ...]:
    """(before, after) along each axis."""
    algorithm = op.attr("padding_algorithm", "EXPLICIT")
    if algorithm == "VALID":
        return ((0, 0),) * len(sizes)
    if algorithm == "SAME":
        return tuple(_same(*each) for each in zip(sizes, kernel, strides, strict=True))
    return _pads(op, len(sizes))


def _listed(pairs: Sequence[tuple[Any, Any]]) -> tuple[Any, ...]:
    """In front of each axis, then behind each."""
    return (*(a for a, _ in pairs), *(b for _, b in pairs))


def _dilations(op: Op, n: int) -> tuple[int, ...]:
    if op.attr("padding_algorithm", "EXPLICIT") == "SAME":
        return (1,) * n  # as Fluid has it
    return tuple(op.attr("dilations", (1,) * n))


CONVOLUTIONS = ("conv2d", "conv3d", "depthwise_conv2d")
TRANSPOSED = ("conv2d_transpose", "conv3d_transpose", "depthwise_conv2d_transpose")


@fluid_op(*CONVOLUTIONS)
def conv(op: Op) -> dict[str, Any]:
    x, last = channels_first(op, op.input("Input"))
    weight = op.input("Filter")
    n = len(weight.shape) - 2
    strides = tuple(op.attr("strides", (1,) * n))
    algorithm = op.attr("padding_algorithm", "EXPLICIT")
    padding: Any = "same"
    if algorithm != "SAME":
        padding = _listed(_padding(op, x.shape[2:], weight.shape[2:], strides))
    out = lookup(f"conv{n}d")(
        x,
        weight,
        op.get("Bias"),
        stride=strides,
        padding=padding,
        dilation=_dilations(op, n),
        groups=op.attr("groups", 1),
    )
    return {"Output": _finished(op, channels_last(out, last))}


def _finished(op: Op, out: Any) -> Any:
    """What a fusing pass of Paddle put behind the convolution."""
    residual = op.get("ResidualData")
    if residual is not None:
        out = o.add(out, residual)
    name = op.attr("fuse_activation", "") or ("relu" if op.attr("fuse_relu", False) else "")
    if op.attr("fuse_brelu", False):
        return o.clip(out, low=0.0, high=float(op.attr("fuse_brelu_threshold", 6.0)))
    return out if name in ("", "identity", "linear") else activated(out, name, op)


def activated(x: Any, name: str, op: Op) -> Any:
    """An activation named by an attribute. Raises ArgumentError for one nobody knows."""
    alpha = float(op.attr("fuse_alpha", op.attr("alpha", 0.0)))
    known = {
        "relu": lambda: o.relu(x),
        "relu6": lambda: o.clip(x, low=0.0, high=alpha or 6.0),
        "leaky_relu": lambda: o.leaky_relu(x, negative_slope=alpha),
        "sigmoid": lambda: o.sigmoid(x),
        "tanh": lambda: o.tanh(x),
        "elu": lambda: o.elu(x, alpha=alpha),
        "swish": lambda: activation.swish(x, beta=alpha or 1.0),
        "hard_swish": lambda: o.hard_swish(x),
    }
    if name not in known:
        raise ArgumentError("unknown activation", expected=", ".join(known), got=repr(name))
    return known[name]()


@fluid_op(*TRANSPOSED)
def conv_transpose(op: Op) -> dict[str, Any]:
    x, last = channels_first(op, op.input("Input"))
    weight = op.input("Filter")
    n = len(weight.shape) - 2
    strides, dilations = tuple(op.attr("strides", (1,) * n)), _dilations(op, n)
    pads = _padding(op, x.shape[2:], weight.shape[2:], strides)
    extra = _output_padding(op, x.shape[2:], weight.shape[2:], strides, dilations, pads)
    out = lookup(f"conv_transpose{n}d")(
        x,
        weight,
        op.get("Bias"),
        stride=strides,
        padding=_listed(pads),
        output_padding=extra,
        dilation=dilations,
        groups=op.attr("groups", 1),
    )
    return {"Output": _finished(op, channels_last(out, last))}


def _output_padding(
    op: Op, sizes: Any, kernel: Any, strides: Any, dilations: Any, pads: Any
) -> tuple[int, ...]:
    """What `output_size` asks for beyond the smallest result."""
    asked = tuple(op.attr("output_size", ()) or ())
    if not asked:
        return tuple(op.attr("output_padding", ()) or (0,) * len(sizes))
    extra = []
    for want, size, k, s, d, (a, b) in zip(
        asked, sizes, kernel, strides, dilations, pads, strict=True
    ):
        more = want - ((size - 1) * s + (k - 1) * d + 1 - a - b)
        if isinstance(more, Dim) or not 0 <= more < s:
            raise ArgumentError(
                "output_size does not fit", expected=f"0 to {s - 1} more", got=f"{more} more"
            )
        extra.append(more)
    return tuple(extra)


# ---- pooling -----------------------------------------------------------------------------------


@fluid_op("pool2d", "pool3d")
def pool(op: Op) -> dict[str, Any]:
    x, last = channels_first(op, op.input("X"))
    n = 2 if op.type == "pool2d" else 3
    kind = op.attr("pooling_type", "max")
    if kind not in ("max", "avg"):
        raise ArgumentError("pooling_type must be max or avg", got=repr(kind))
    size = tuple(op.attr("ksize", (1,) * n))
    everything = op.attr("global_pooling", False)
    if op.attr("adaptive", False) and not everything:
        out = lookup(f"adaptive_{kind}_pool{n}d")(x, size=size)
    elif everything:
        over = {"axis": tuple(range(2, n + 2)), "keepdims": True}
        out = o.reduce_max(x, **over) if kind == "max" else o.reduce_mean(x, **over)
    else:
        out = _windows(op, x, kind, size)
    return {"Out": channels_last(out, last)}


def _windows(op: Op, x: Any, kind: str, size: tuple[int, ...]) -> Any:
    n = len(size)
    strides = tuple(op.attr("strides", (1,) * n))
    algorithm = op.attr("padding_algorithm", "EXPLICIT")
    pads = _padding(op, x.shape[2:], size, strides)
    ceil = bool(op.attr("ceil_mode", False)) and algorithm == "EXPLICIT"
    how = {"kernel": size, "stride": strides}
    if kind == "max":
        padding: Any = "same" if algorithm == "SAME" else _listed(pads)
        return lookup(f"max_pool{n}d")(x, padding=padding, ceil_mode=ceil, **how)
    if op.attr("exclusive", True):
        padding = "same" if algorithm == "SAME" else _listed(pads)
        return lookup(f"avg_pool{n}d")(
            x, padding=padding, ceil_mode=ceil, count_include_pad=False, **how
        )
    if ceil:  # every window counts whole, also what is behind the padding
        pads = tuple(
            (a, b + _missing(d + a + b, k, s))
            for d, k, s, (a, b) in zip(x.shape[2:], size, strides, pads, strict=True)
        )
    around = o.pad(x, pads=((0, 0), (0, 0), *pads)) if any(map(any, pads)) else x
    return lookup(f"avg_pool{n}d")(around, padding=0, **how)


def _missing(size: Size, kernel: int, stride: int) -> Size:
    """What the last window lacks."""
    return (ceil_div(size - kernel, stride)) * stride + kernel - size
