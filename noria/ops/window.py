"""Windows that slide over spatial axes: where they lie, how many there are, what they see.

Shared by convolution and pooling. Sizes may be symbolic in everything but `taps` and `padded`.

Attributes, for n spatial axes:
  stride, dilation   an integer for all axes, or n integers, 1 or more
  padding            an integer, n integers (both sides of each axis), 2n integers (in front of each
                     axis, then behind each: top, left, bottom, right), "valid" (none), or "same"
                     and "same_lower": ceil(size / stride) windows, an odd element of padding
                     behind, or in front
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from noria.core.dims import Size, ceil_div, dim_max, dim_min
from noria.core.errors import ArgumentError, ShapeError
from noria.core.shapes import Room
from noria.ir.opdef import note_checks

Padding = int | str | Sequence[int]


class Windows(NamedTuple):
    """The windows over n spatial axes; each field has n entries.

    kernel:   elements a window sees
    stride:   from one window to the next
    dilation: from one element a window sees to the next
    pads:     (in front, behind)
    out:      how many windows there are
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[Any, Any], ...]
    out: tuple[Any, ...]

    @property
    def spans(self) -> tuple[int, ...]:
        """From the first element a window sees to behind the last."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))


def slide(
    sizes: Sequence[Size],
    kernel: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> Windows:
    """The windows over axes of these sizes.

    ceil_mode: the last window may reach beyond the padding; none starts in the padding behind.
    Raises ArgumentError for a bad attribute, ShapeError if no window fits.
    """
    n = len(sizes)
    kernel = per_axis(kernel, n, "kernel")
    stride, dilation = per_axis(stride, n, "stride"), per_axis(dilation, n, "dilation")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if padding in ("same", "same_lower"):
        pads = _same_pads(padding, sizes, spans, stride)
        out = tuple(ceil_div(size, step) for size, step in zip(sizes, stride, strict=True))
    else:
        pads = explicit_pads(padding, n)
        axes = zip(sizes, spans, stride, pads, strict=True)
        out = tuple(_count(*axis, ceil_mode) for axis in axes)
    return Windows(kernel, stride, dilation, pads, out)


def per_axis(value: int | Sequence[int], n: int, what: str) -> tuple[int, ...]:
    """n integers, 1 or more. Raises ArgumentError."""
    out = _listed(value, n)
    if len(out) != n or not all(_is_int(v) and v >= 1 for v in out):
        raise ArgumentError(
            f"bad {what}", expected=f"an integer or {n} integers, 1 or more", got=repr(value)
        )
    return out


def _listed(value: Any, n: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * n


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def explicit_pads(padding: Padding, n: int) -> tuple[tuple[int, int], ...]:
    """(in front, behind) for each axis, from integers or "valid". Raises ArgumentError."""
    if padding == "valid":
        padding = 0
    given = _listed(padding, n)
    if len(given) not in (n, 2 * n) or not all(_is_int(p) and p >= 0 for p in given):
        raise ArgumentError(
            "bad padding",
            expected=f"one, {n} or {2 * n} integers (in front, then behind), or a word",
            got=repr(padding),
        )
    return tuple(zip(given[:n], given[-n:], strict=True))


def _same_pads(
    padding: Padding, sizes: Sequence[Size], spans: Sequence[int], stride: Sequence[int]
) -> tuple[tuple[Size, Size], ...]:
    """What ceil(size / stride) windows need around them."""
    pads: list[tuple[Size, Size]] = []
    for size, span, step in zip(sizes, spans, stride, strict=True):
        total = dim_max((ceil_div(size, step) - 1) * step + span - size, 0)
        less, more = total // 2, ceil_div(total, 2)
        pads.append((less, more) if padding == "same" else (more, less))
    return tuple(pads)


def _count(size: Size, span: int, step: int, pad: tuple[Size, Size], ceil_mode: bool) -> Size:
    front, behind = pad
    room = size + front + behind - span
    if ceil_mode:
        count = dim_min(ceil_div(room, step) + 1, ceil_div(size + front, step))
    else:
        count = room // step + 1
    if isinstance(count, int) and count < 1:
        raise ShapeError(
            "no window fits",
            expected=f"at least {span} elements, padding included",
            got=f"{size} elements, padding {front} and {behind}",
        )
    if not isinstance(count, int):
        note_checks([Room(count, 1, f"windows of {span} elements")])
    return count


def share_inside(windows: Windows, sizes: Sequence[int]) -> float:
    """Of all that windows over real sizes see, the share that is not padding."""
    share = 1.0
    for size, k, step, apart, (front, _), out in zip(
        sizes, windows.kernel, windows.stride, windows.dilation, windows.pads, windows.out,
        strict=True,
    ):  # fmt: skip
        seen = 0
        for first in range(-front, k * apart - front, apart):  # what tap k sees in window 0
            low = max(0, -(first // step))
            high = min(out, -((first - size) // step))
            seen += max(0, high - low)
        share *= seen / max(out * k, 1)
    return share


# ---- on arrays ---------------------------------------------------------------------------------


def taps(windows: Windows) -> list[tuple[slice, ...]]:
    """For each element of a window, in row-major order, what all windows see there: slices of the
    spatial axes of a padded array."""
    axes = [
        [slice(i * d, i * d + (out - 1) * s + 1, s) for i in range(k)]
        for k, s, d, out in zip(
            windows.kernel, windows.stride, windows.dilation, windows.out, strict=True
        )
    ]
    return list(itertools.product(*axes))


def extents(windows: Windows, sizes: Sequence[int]) -> list[tuple[int, int]]:
    """(in front, behind) that an array needs so that every window lies in it."""
    found: list[tuple[int, int]] = []
    for size, span, step, (front, behind), out in zip(
        sizes, windows.spans, windows.stride, windows.pads, windows.out, strict=True
    ):
        reach = (out - 1) * step + span - size - front  # beyond `behind` in ceil_mode
        found.append((front, max(behind, reach)))
    return found


def padded(xp: Any, x: Any, windows: Windows, value: Any = 0) -> Any:
    """The array [N, C, sizes...] with `value` around it, as far as windows reach."""
    around = extents(windows, x.shape[2:])
    return xp.pad(x, [(0, 0), (0, 0), *around], constant_values=value)


def unpadded(x: Any, windows: Windows, sizes: Sequence[int]) -> Any:
    """The inner part of a padded array."""
    inner = (slice(f, f + n) for (f, _), n in zip(windows.pads, sizes, strict=True))
    return x[(..., *inner)]
