"""Channels moved into space, space into channels, channels among each other and along time."""

from __future__ import annotations

from typing import Any

from noria.convert.fluid.handlers import Op, fluid_op
from noria.ir.opdef import vocabulary as o


@fluid_op("pixel_shuffle")
def pixel_shuffle(op: Op) -> dict[str, Any]:
    """[N, C r r, H, W] -> [N, C, H r, W r].  (Shi et al., 2016)"""
    x, r = op.input("X"), op.attr("upscale_factor", 1)
    last = op.attr("data_format", "NCHW") == "NHWC"
    x = o.transpose(x, perm=(0, 3, 1, 2)) if last else x
    n, c, h, w = x.shape
    apart = o.reshape(x, shape=(n, c // (r * r), r, r, h, w))
    mixed = o.transpose(apart, perm=(0, 1, 4, 2, 5, 3))
    out = o.reshape(mixed, shape=(n, c // (r * r), h * r, w * r))
    return {"Out": o.transpose(out, perm=(0, 2, 3, 1)) if last else out}


@fluid_op("space_to_depth")
def space_to_depth(op: Op) -> dict[str, Any]:
    """Darknet's "reorg" layer, which spreads blocks of channels over space and reads that anew."""
    x, b = op.input("X"), int(op.need_attr("blocksize"))
    n, c, h, w = x.shape
    apart = o.reshape(x, shape=(n, b, b, c // (b * b), h, w))
    mixed = o.transpose(apart, perm=(0, 3, 4, 1, 5, 2))
    return {"Out": o.reshape(mixed, shape=(n, c * b * b, h // b, w // b))}


@fluid_op("shuffle_channel")
def shuffle_channel(op: Op) -> dict[str, Any]:
    """(Zhang et al., 2018)"""
    x, group = op.input("X"), op.attr("group", 1)
    n, c, *sizes = x.shape
    apart = o.reshape(x, shape=(n, group, c // group, *sizes))
    mixed = o.transpose(apart, perm=(0, 2, 1, *range(3, 3 + len(sizes))))
    return {"Out": o.reshape(mixed, shape=(n, c, *sizes))}


@fluid_op("temporal_shift")
def temporal_shift(op: Op) -> dict[str, Any]:
    """Some channels come from the step before, as many from the one behind.  (Lin et al., 2019)"""
    x, steps, ratio = op.input("X"), op.need_attr("seg_num"), op.attr("shift_ratio", 0.25)
    nt, c, h, w = x.shape
    first, second = int(c * ratio), int(c * 2 * ratio)
    apart = o.reshape(x, shape=(nt // steps, steps, c, h, w))
    parts = []
    for a, b, pads, cut in (
        (0, first, (1, 0), (0, -1)),
        (first, second, (0, 1), (1, None)),
        (second, c, (0, 0), (0, None)),
    ):
        if a == b:
            continue
        part = o.slice(apart, axes=(2, 1), starts=(a, cut[0]), stops=(b, cut[1]))
        parts.append(
            o.pad(part, pads=((0, 0), pads, (0, 0), (0, 0), (0, 0))) if any(pads) else part
        )
    return {"Out": o.reshape(o.concat(*parts, axis=2), shape=x.shape)}
