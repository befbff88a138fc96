"""Convolutions and poolings of ONNX."""

from __future__ import annotations

from typing import Any

from noria.convert.onnx.handlers import Node, onnx_op
from noria.core.dims import Size, dim_max, product
from noria.core.errors import FormatError, ShapeError
from noria.ir.opdef import OpDef, lookup
from noria.ir.opdef import vocabulary as o
from noria.ops.deform import deform_conv2d
from noria.ops.unpool import global_lp_pool, lp_pool, max_pool_with_indices, max_unpool
from noria.ops.window import Padding, explicit_pads, per_axis

_AUTO_PAD: dict[str, Padding] = {"SAME_UPPER": "same", "SAME_LOWER": "same_lower", "VALID": 0}


def _spatial(name: str, x: Any) -> tuple[OpDef, int]:
    """The op `name` over as many axes as x has behind the first two, and that number."""
    n = len(x.shape) - 2
    if not 1 <= n <= 3:
        raise ShapeError("1 to 3 spatial axes are supported", got=f"rank {n + 2}")
    return lookup(f"{name}{n}d"), n


def _padding(node: Node) -> Padding:
    auto = node.attr("auto_pad", "NOTSET")
    if auto in _AUTO_PAD:
        return _AUTO_PAD[auto]
    if auto != "NOTSET":
        raise FormatError(f"unknown auto_pad '{auto}'", where=str(node))
    pads: Padding = node.attr("pads") or 0
    return pads


def _windows(node: Node) -> dict[str, Any]:
    return {
        "stride": node.attr("strides") or 1,
        "padding": _padding(node),
        "dilation": node.attr("dilations") or 1,
    }


# ---- convolution -------------------------------------------------------------------------------


@onnx_op("Conv")
def conv(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    op, _ = _spatial("conv", x)
    return op(x, weight, bias, groups=node.attr("group", 1), **_windows(node))


@onnx_op("ConvTranspose")
def conv_transpose(node: Node, x: Any, weight: Any, bias: Any = None) -> Any:
    op, n = _spatial("conv_transpose", x)
    stride = per_axis(node.attr("strides") or 1, n, "strides")
    dilation = per_axis(node.attr("dilations") or 1, n, "dilations")
    extra = tuple(node.attr("output_padding") or (0,) * n)
    spans = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    whole = [
        (size - 1) * s + e + span
        for size, s, e, span in zip(x.shape[2:], stride, extra, spans, strict=True)
    ]
    pads = _transposed_pads(node, x.shape[2:], stride, whole)
    behind = [e - min(after, 0) for e, (_, after) in zip(extra, pads, strict=True)]
    inside = tuple(min(b, s - 1) for b, s in zip(behind, stride, strict=True))
    rest = tuple(b - i for b, i in zip(behind, inside, strict=True))
    how = {
        "stride": stride,
        "padding": tuple(before for before, _ in pads) + tuple(max(after, 0) for _, after in pads),
        "output_padding": inside,
        "dilation": dilation,
        "groups": node.attr("group", 1),
    }
    if not any(rest):
        return op(x, weight, bias, **how)
    out = o.pad(op(x, weight, **how), pads=((0, 0), (0, 0), *((0, r) for r in rest)))
    return out if bias is None else o.add(out, o.reshape(bias, shape=(-1, *(1,) * n)))


def _transposed_pads(
    node: Node, sizes: Any, stride: tuple[int, ...], whole: list[Any]
) -> list[tuple[int, int]]:
    """(cut off in front, behind) along each axis; negative behind: that many zeros more.

    whole: sizes of the result without padding. Where it has fewer elements than auto_pad would
    keep, they are all there is: so ONNX infers shapes.
    """
    wanted, auto = node.attr("output_shape"), node.attr("auto_pad", "NOTSET")
    same = wanted is None and auto.startswith("SAME")
    if wanted is None and not same:
        return list(explicit_pads(_padding(node), len(whole)))
    if wanted is None:
        wanted = tuple(size * s for size, s in zip(sizes, stride, strict=True))
    pads = []
    for size, target in zip(whole, wanted[-len(whole) :], strict=True):
        total = dim_max(size - target, 0) if same else size - target
        if not isinstance(total, int):
            raise ShapeError(
                "the output's size must be known relative to the input's",
                got=f"{size} and {target}",
                where=str(node),
            )
        less, more = max(total, 0) // 2, total - max(total, 0) // 2
        pads.append((less, more) if auto == "SAME_UPPER" or total < 0 else (more, less))
    return pads


@onnx_op("DeformConv")
def deform_conv(
    node: Node, x: Any, weight: Any, offset: Any, bias: Any = None, mask: Any = None
) -> Any:
    return deform_conv2d(x, offset, weight, bias, mask=mask, **_windows(node))


# ---- pooling -----------------------------------------------------------------------------------


def _pooling(node: Node) -> dict[str, Any]:
    kernel = node.need("kernel_shape")
    how = _windows(node) | {"kernel": kernel}
    if node.attr("strides") is None:
        how["stride"] = (1,) * len(kernel)  # not the kernel, as elsewhere
    return how | {"ceil_mode": bool(node.attr("ceil_mode", 0))}


@onnx_op("AveragePool")
def average_pool(node: Node, x: Any) -> Any:
    op, _ = _spatial("avg_pool", x)
    return op(x, count_include_pad=bool(node.attr("count_include_pad", 0)), **_pooling(node))


@onnx_op("LpPool")
def power_pool(node: Node, x: Any) -> Any:
    return lp_pool(x, p=node.attr("p", 2), rescale=False, **_pooling(node))


@onnx_op("MaxPool")
def max_pool(node: Node, x: Any) -> Any:
    if not node.wants(1):
        return _spatial("max_pool", x)[0](x, **_pooling(node))
    out, ids = max_pool_with_indices(x, **_pooling(node))
    if node.attr("storage_order", 0):
        ids = _column_major(ids, x.shape[2:])
    return out, o.add(ids, _planes(x.shape))


def _number(size: Size) -> Any:
    return size if isinstance(size, int) else o.dim_value(dim=size)


def _column_major(ids: Any, sizes: Any) -> Any:
    """Row-major indices counted with the first axis fastest instead."""
    out, step = 0, 1
    for i, size in enumerate(sizes):
        behind = _number(product(sizes[i + 1 :]))
        place = o.remainder(o.floor_divide(ids, behind), _number(size))
        out, step = o.add(o.mul(place, _number(step)), out), step * size
    return out


def _planes(shape: Any) -> Any:
    """[N, C, 1...]: the index of the first element of each plane."""
    first = o.arange(stop=product(shape[:2]))
    planes = o.reshape(first, shape=(*shape[:2], *(1,) * (len(shape) - 2)))
    return o.mul(planes, _number(product(shape[2:])))


@onnx_op("MaxUnpool")
def unpool(node: Node, x: Any, ids: Any, output_shape: Any = None) -> Any:
    n = len(x.shape) - 2
    kernel = node.need("kernel_shape")
    stride = node.attr("strides") or (1,) * n
    pads = explicit_pads(node.attr("pads") or 0, n)
    sizes = [
        (m - 1) * s + k - front - behind
        for m, s, k, (front, behind) in zip(x.shape[2:], stride, kernel, pads, strict=True)
    ]
    plane = _number(product(sizes))
    out = max_unpool(x, o.remainder(ids, plane), sizes=sizes)
    if output_shape is None:
        return out
    wanted = node.sizes(output_shape, "the output's shape")[2:]
    more = [w - s for w, s in zip(wanted, sizes, strict=True)]
    return o.pad(out, pads=((0, 0), (0, 0), *((0, m) for m in more)))


_GLOBAL = {"GlobalAveragePool": "reduce_mean", "GlobalMaxPool": "reduce_max"}


@onnx_op(*_GLOBAL)
def global_pool(node: Node, x: Any) -> Any:
    reduce = lookup(_GLOBAL[node.op_type])
    return reduce(x, axis=tuple(range(2, len(x.shape))), keepdims=True)


@onnx_op("GlobalLpPool")
def global_power_pool(node: Node, x: Any) -> Any:
    return global_lp_pool(x, p=node.attr("p", 2))


# ---- columns -----------------------------------------------------------------------------------


@onnx_op("Col2Im")
def col2im(node: Node, x: Any, image_shape: Any, block_shape: Any) -> Any:
    kernel = node.ints(block_shape, "the block's shape")
    sizes = node.sizes(image_shape, "the image's shape")
    return o.fold(x, sizes=sizes, kernel=kernel, **_windows(node))
