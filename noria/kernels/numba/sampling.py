"""Sampling images [N, C, H, W] at places, bilinear or nearest, and both gradients; channels-last.

What a place needs of each axis is worked out once and serves all its channels. The gradient by the
image is shared among threads by images, or by channels where there are fewer images than threads:
places may fall on one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need_one
from noria.kernels.registry import (
    LAST,
    PLAIN,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Prepared,
    register,
)

_HEAD = """
def sample(args):
    x = load_int64(args, 0)
    grid = load_int64(args, 1)
    grad = load_int64(args, 2)
    out = load_int64(args, 3)
    batch = load_int64(args, 4)
    channels = load_int64(args, 5)
    height = load_int64(args, 6)
    width = load_int64(args, 7)
    places = load_int64(args, 8)
    team = team_size()
    me = thread_id()
"""

# The two elements that a place uses along one axis, written for `{a}` (y or x) of {n} elements:
# k0 and k1, their weights w0 and w1, and the slopes of these, s0 and s1 times `slope`.
_AXIS = """
v = load_float32(grid, (n * places + p) * 2 + {column})
if isnan(v):
    v = float32(-1)
{a}_slope = {slope}
v = {position}
v = min(max(v, float32(-1e6)), float32(1e6))
{inside}
low = {whole}(v)
{a}_w1 = v - low
{a}_w0 = float32(1) - {a}_w1
k = int64(low)
{a}_s0 = float32(1)
{a}_s1 = float32(1)
{outside}
{a}_k0 = min(max(k, 0), {n} - 1)
{a}_k1 = min(max(k + 1, 0), {n} - 1)
"""
_NEAREST = """
{a}_w0 = {a}_s0
{a}_w1 = float32(0)
{a}_slope = float32(0)
"""
_OUTSIDE = """
if k < 0 or k >= {n}:
    {a}_w0 = float32(0)
    {a}_s0 = float32(0)
if k + 1 < 0 or k + 1 >= {n}:
    {a}_w1 = float32(0)
    {a}_s1 = float32(0)
"""
_BORDER = """
if v <= float32(0) or v >= float32({n} - 1):
    {a}_slope = float32(0)
v = min(max(v, float32(0)), float32({n} - 1))
"""
_REFLECTION = """
span = float32({n} - {less})
if span == float32(0):
    v = float32(0)
else:
    away = v - float32({low})
    if away < float32(0):
        away = -away
        {a}_slope = -{a}_slope
    times = floor(away / span)
    rest = away - times * span
    v = rest + float32({low})
    if int64(times) % 2 == 1:
        v = span - rest + float32({low})
        {a}_slope = -{a}_slope
"""


class How(NamedTuple):
    """The attributes of `grid_sample`."""

    mode: str
    padding_mode: str
    align_corners: bool
    pixels: bool


def _axis(a: str, n: str, column: int, how: How) -> str:
    half = "" if how.align_corners else " - float32(0.5)"
    inside = {"zeros": "", "border": _BORDER, "reflection": _REFLECTION + _BORDER}
    text = _AXIS if how.mode == "bilinear" else _AXIS + _NEAREST
    names = {
        "a": a,
        "n": n,
        "column": column if how.pixels else 1 - column,
        "less": 1 if how.align_corners else 0,
        "low": 0.0 if how.align_corners else -0.5,
        "slope": f"float32({n} - {int(how.align_corners)}) * float32(0.5)",
        "position": f"(v + float32(1)) * {a}_slope{half}",
        "whole": "floor" if how.mode == "bilinear" else "rint",
    }
    if how.pixels:
        names |= {"slope": "float32(1)", "position": "v"}
    names["inside"] = inside[how.padding_mode].strip("\n").format(**names)
    outside = _OUTSIDE if how.padding_mode == "zeros" else ""
    names["outside"] = outside.strip("\n").format(**names)
    return text.format(**names)


_CORNERS = """
top = (n * height + y_k0) * width
bottom = (n * height + y_k1) * width
i0 = (top + x_k0) * channels
i1 = (top + x_k1) * channels
i2 = (bottom + x_k0) * channels
i3 = (bottom + x_k1) * channels
a0 = y_w0 * x_w0
a1 = y_w0 * x_w1
a2 = y_w1 * x_w0
a3 = y_w1 * x_w1
"""
_EACH = """
    for q in range(batch * places * me // team, batch * places * (me + 1) // team):
        n = q // places
        p = q % places
"""
_FORWARD = """
to = q * channels
for c in range(channels):
    independent()
    v = a0 * load_float32(x, i0 + c) + a1 * load_float32(x, i1 + c)
    v += a2 * load_float32(x, i2 + c) + a3 * load_float32(x, i3 + c)
    store_float32(out, to + c, v)
"""
_OWN = """
    n0 = int64(0)
    n1 = batch
    c0 = int64(0)
    c1 = channels
    if batch >= team:
        n0 = batch * me // team
        n1 = batch * (me + 1) // team
    else:
        c0 = channels * me // team
        c1 = channels * (me + 1) // team
    for i in range(n0 * height * width, n1 * height * width):
        fill_bytes(out + (i * channels + c0) * 4, 0, (c1 - c0) * 4)
    for n in range(n0, n1):
        for p in range(places):
"""
_BACKWARD = """
at = (n * places + p) * channels
"""
_ADD = """
for c in range(c0, c1):
    independent()
    v = load_float32(out, {i} + c) + {w} * load_float32(grad, at + c)
    store_float32(out, {i} + c, v)
"""
_SLOPES = """
at = q * channels
d0 = float32(0)
d1 = float32(0)
d2 = float32(0)
d3 = float32(0)
for c in range(channels):
    g = load_float32(grad, at + c)
    d0 += g * load_float32(x, i0 + c)
    d1 += g * load_float32(x, i1 + c)
    d2 += g * load_float32(x, i2 + c)
    d3 += g * load_float32(x, i3 + c)
by_y = (d2 * x_w0 + d3 * x_w1) * y_s1 - (d0 * x_w0 + d1 * x_w1) * y_s0
by_x = (d1 * y_w0 + d3 * y_w1) * x_s1 - (d0 * y_w0 + d2 * y_w1) * x_s0
store_float32(out, q * 2 + {down}, by_y * y_slope)
store_float32(out, q * 2 + {right}, by_x * x_slope)
"""


def forward(how: How) -> str:
    """The sampling itself."""
    return _source(_EACH, how, _FORWARD)


def input_grad(how: How) -> str:
    """The gradient by the image."""
    adds = "".join(_ADD.format(i=f"i{k}", w=f"a{k}") for k in range(4))
    return _source(_OWN, how, _BACKWARD + adds)


def grid_grad(how: How) -> str:
    """The gradient by the grid."""
    down, right = (0, 1) if how.pixels else (1, 0)
    return _source(_EACH, how, _SLOPES.format(down=down, right=right))


def _source(loops: str, how: How, body: str) -> str:
    """The kernel: loops over places, and in them what each place needs, and what is done."""
    axes = _axis("y", "height", 0, how) + _axis("x", "width", 1, how)
    lines = (axes + _CORNERS + body).split("\n")
    depth = 12 if loops is _OWN else 8
    inner = "\n".join(" " * depth + line for line in lines if line.strip())
    return f"{_HEAD.rstrip()}\n{loops.strip(chr(10))}\n{inner}\n    return 0\n"


_SOURCES = {
    "grid_sample": forward,
    "grid_sample_input_grad": input_grad,
    "grid_sample_grid_grad": grid_grad,
}


class Sampling(Kernel):
    """Images of two spatial axes, on float32."""

    name = "numba:grid_sample"
    ops = tuple(_SOURCES)

    def accepts(self, op: Operator) -> None:
        need_one(op, ("float32",))
        if op.operands[1].shape[-1] != 2:
            raise Declined("only two spatial axes")
        if op.attrs["mode"] == "bicubic":
            raise Declined("bilinear and nearest only")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        if op.type == "grid_sample_grid_grad":
            return [LAST, PLAIN, LAST], [PLAIN]
        return [LAST, PLAIN], [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        kind = bound.op.type
        x, grid, *rest = bound.inputs
        out = bound.outputs[0]
        assert x is not None and grid is not None
        image = out if kind == "grid_sample_input_grad" else x
        if not image.size or not grid.size:
            raise Declined("there is nothing in it")
        how = How(**{name: bound.attrs[name] for name in How._fields})
        source = _SOURCES[kind](how)
        places = prod(grid.shape[1:-1])
        numbers = [*image.shape, places]
        work = image.shape[0] * places * (40 + 8 * image.shape[1])

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            read = {
                "grid_sample": [*ins, 0],
                "grid_sample_input_grad": [0, ins[1], ins[0]],
                "grid_sample_grid_grad": ins,
            }
            table = [*read[kind], *outs, *numbers]
            moved = sum(a.nbytes for a in (x, grid, out, *rest) if a is not None)
            size = {"bytes": moved, "ops": work}
            return [launch(self.name, source, "sample", table, threads=bound.threads, **size)]

        return Prepared(emit)


register(Sampling())
