"""Pooling over one or two spatial axes, channels-last: max and average, forward and gradient.

A window that lies wholly inside is unrolled over its taps, and the loop over channels vectorises;
windows that reach over the border take a general path. The source depends only on the kernel size
and the dtype; it is written for float32, which is also what bfloat16 is computed in.
"""

from __future__ import annotations

from collections.abc import Sequence

from noria.core.dtypes import itemsize
from noria.ir.program import Operator
from noria.kernels.call import Call
from noria.kernels.numba.launch import launch, need_one, typed
from noria.kernels.registry import (
    LAST,
    Array,
    BoundOp,
    Declined,
    Kernel,
    Layouts,
    Prepared,
    register,
)
from noria.ops.pool import pool_windows
from noria.ops.window import Windows

# Table: addresses, then N H W C, OH OW, stride, front padding, dilation.
HEAD = """
def pool(args):
    a0 = load_int64(args, 0)
    a1 = load_int64(args, 1)
    a2 = load_int64(args, 2)
    a3 = load_int64(args, 3)
    batch = load_int64(args, 4)
    height = load_int64(args, 5)
    width = load_int64(args, 6)
    channels = load_int64(args, 7)
    out_h = load_int64(args, 8)
    out_w = load_int64(args, 9)
    sh = load_int64(args, 10)
    sw = load_int64(args, 11)
    ph = load_int64(args, 12)
    pw = load_int64(args, 13)
    dh = load_int64(args, 14)
    dw = load_int64(args, 15)
    include = load_int64(args, 16)
    bottom = load_int64(args, 17)
    right = load_int64(args, 18)
    team = team_size()
"""

_WINDOWS = """
    for row in range(rows * thread_id() // team, rows * (thread_id() + 1) // team):
        n = row // out_h
        oh = row % out_h
        h0 = oh * sh - ph
        for ow in range(out_w):
            w0 = ow * sw - pw
            base = ((n * height + h0) * width + w0) * channels
            at = (row * out_w + ow) * channels
            inside = h0 >= 0 and w0 >= 0 and h0 + SPAN_H <= height and w0 + SPAN_W <= width
"""


def taps_of(kernel: Sequence[int]) -> list[tuple[int, int]]:
    """(row, column) of each element of a window, in row-major order."""
    return [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]


def _offsets(kernel: Sequence[int], indent: str) -> str:
    return "".join(
        f"{indent}o{i}_{j} = ({i} * dh * width + {j} * dw) * channels\n" for i, j in taps_of(kernel)
    )


def border_taps(kernel: Sequence[int], body: str) -> str:
    """`body` for each tap that lies inside, at `tap`."""
    return f"""
                for i in range({kernel[0]}):
                    h = h0 + i * dh
                    if h >= 0 and h < height:
                        for j in range({kernel[1]}):
                            w = w0 + j * dw
                            if w >= 0 and w < width:
                                tap = ((n * height + h) * width + w) * channels
{body}"""


def pool_source(
    kernel: Sequence[int],
    split: str,
    inside: str,
    before: str,
    border: str,
    *,
    first: str = "",
    after: str = "",
) -> str:
    """A kernel that goes through all windows.

    split: how many rows of windows threads share; inside: what is done for a window all of which
    lies in the picture; before, border: for others, before their elements and for each of them;
    first: what a thread does before all windows; after: for each of them, behind the others
    """
    head = HEAD + first + f"    rows = {split}\n" + _offsets(kernel, "    ")
    windows = _WINDOWS.replace("SPAN_H", f"({kernel[0] - 1} * dh + 1)")
    windows = windows.replace("SPAN_W", f"({kernel[1] - 1} * dw + 1)")
    branches = f"            if inside:{inside}\n            else:{before}{border}\n{after}"
    return f"{head}{windows}{branches}    return 0\n"


def max_forward(kernel: Sequence[int]) -> str:
    """a0: x, a1: out."""
    first, *rest = (f"load_float32(a0, base + o{i}_{j} + c)" for i, j in taps_of(kernel))
    lines = [f"                    v = {first}"]
    for load in rest:
        lines += [f"                    x = {load}"]
        lines += ["                    v = where(x > v or isnan(x), x, v)"]
    inside = "\n                for c in range(channels):\n                    independent()\n"
    inside += "\n".join(lines) + "\n                    store_float32(a1, at + c, v)"
    before = """
                for c in range(channels):
                    independent()
                    store_float32(a1, at + c, float32(-1e300))  # -inf"""
    body = """                                for c in range(channels):
                                    independent()
                                    v = load_float32(a1, at + c)
                                    x = load_float32(a0, tap + c)
                                    v = where(x > v or isnan(x), x, v)
                                    store_float32(a1, at + c, v)"""
    return pool_source(kernel, "batch * out_h", inside, before, border_taps(kernel, body))


# Rows of the image that are zero so far grow with the windows: so they are still in the first cache
# when gradients are added to them.
_ZERO = """
        if oh == 0:
            zeroed = 0
        reached = min(height, h0 + SPAN_H)
        if oh == out_h - 1:
            reached = height
        if reached > zeroed:
            size = width * channels * ITEMSIZE
            fill_bytes(a3 + (n * height + zeroed) * size, 0, (reached - zeroed) * size)
            zeroed = reached
"""


def max_backward(kernel: Sequence[int]) -> str:
    """a0: x, a1: out, a2: gradient of out, a3: gradient of x. Images are shared among threads."""
    lines = ["                    m = load_float32(a1, at + c)"]
    lines += ["                    g = load_float32(a2, at + c)"]
    free = ""
    for i, j in taps_of(kernel):
        at = f"base + o{i}_{j} + c"
        lines.append(f"                    x{i}_{j} = load_float32(a0, {at})")
        hit = f"(x{i}_{j} == m or isnan(x{i}_{j}))"
        lines.append(f"                    h{i}_{j} = {hit}{free}")
        lines.append(
            f"                    store_float32(a3, {at}, "
            f"load_float32(a3, {at}) + where(h{i}_{j}, g, float32(0)))"
        )
        free += f" and not h{i}_{j}"
    inside = "\n                for c in range(channels):\n                    independent()\n"
    inside += "\n".join(lines)
    border = f"""
                for c in range(channels):
                    m = load_float32(a1, at + c)
                    found = False
                    for i in range({kernel[0]}):
                        h = h0 + i * dh
                        for j in range({kernel[1]}):
                            w = w0 + j * dw
                            if not found and h >= 0 and h < height and w >= 0 and w < width:
                                tap = ((n * height + h) * width + w) * channels + c
                                v = load_float32(a0, tap)
                                if v == m or isnan(v):
                                    found = True
                                    g = load_float32(a3, tap) + load_float32(a2, at + c)
                                    store_float32(a3, tap, g)"""
    source = pool_source(kernel, "batch * out_h", inside, "", border)
    return _by_image(source, kernel)


def _by_image(source: str, kernel: Sequence[int]) -> str:
    """Rows of one image stay on one thread, since windows may overlap; memory is zeroed first."""
    start = "        h0 = oh * sh - ph\n"
    zero = _ZERO.strip("\n").replace("SPAN_H", f"{kernel[0] - 1} * dh + 1")
    return source.replace(start, f"{start}{zero}\n").replace(
        "    for row in range(rows * thread_id() // team, rows * (thread_id() + 1) // team):",
        "    zeroed = int64(0)\n"
        "    first = batch * thread_id() // team * out_h\n"
        "    last = batch * (thread_id() + 1) // team * out_h\n"
        "    for row in range(first, last):",
    )


# The divisor of a window: all taps, or (include) those inside the padded area, or those inside.
_DIVISOR = """
                count = 0
                for i in range(KH):
                    h = h0 + i * dh
                    for j in range(KW):
                        w = w0 + j * dw
                        if h >= 0 and h < height and w >= 0 and w < width:
                            count += 1
                        elif include != 0 and h < height + bottom and w < width + right:
                            count += 1
                scale = float32(1) / float32(count)"""


def avg_forward(kernel: Sequence[int]) -> str:
    """a0: x, a1: out."""
    total = " + ".join(f"load_float32(a0, base + o{i}_{j} + c)" for i, j in taps_of(kernel))
    inside = f"""
                for c in range(channels):
                    independent()
                    v = {total}
                    store_float32(a1, at + c, v * float32({1 / (kernel[0] * kernel[1])!r}))"""
    divisor = _DIVISOR.replace("KH", str(kernel[0])).replace("KW", str(kernel[1]))
    before = f"""{divisor}
                for c in range(channels):
                    independent()
                    store_float32(a1, at + c, float32(0))"""
    body = """                                for c in range(channels):
                                    independent()
                                    v = load_float32(a1, at + c) + load_float32(a0, tap + c) * scale
                                    store_float32(a1, at + c, v)"""
    return pool_source(kernel, "batch * out_h", inside, before, border_taps(kernel, body))


def avg_backward(kernel: Sequence[int]) -> str:
    """a0: gradient of out, a3: gradient of x."""
    scale = repr(1 / (kernel[0] * kernel[1]))
    lines = [f"                    g = load_float32(a0, at + c) * float32({scale})"]
    for i, j in taps_of(kernel):
        at = f"base + o{i}_{j} + c"
        lines.append(f"                    store_float32(a3, {at}, load_float32(a3, {at}) + g)")
    inside = "\n                for c in range(channels):\n                    independent()\n"
    inside += "\n".join(lines)
    divisor = _DIVISOR.replace("KH", str(kernel[0])).replace("KW", str(kernel[1]))
    body = """                                for c in range(channels):
                                    independent()
                                    v = load_float32(a3, tap + c)
                                    v += load_float32(a0, at + c) * scale
                                    store_float32(a3, tap + c, v)"""
    source = pool_source(kernel, "batch * out_h", inside, divisor, border_taps(kernel, body))
    return _by_image(source, kernel)


_KINDS = {
    "max_pool{}d": max_forward,
    "max_pool{}d_grad": max_backward,
    "avg_pool{}d": avg_forward,
    "avg_pool{}d_grad": avg_backward,
}
_SOURCES = {name.format(n): source for n in (1, 2) for name, source in _KINDS.items()}
OTHERS = ("sizes", "count_include_pad", "divisor")
ROW = (1, 1, 1, (0, 0), 1)  # the windows of an axis of one element
MAX_TAPS = 49  # beyond, the unrolled source grows too long


class Pool(Kernel):
    """All four, on float32 or bfloat16 [N, C, H, W] or [N, C, L] in channels-last memory."""

    name = "numba:pool"
    ops = tuple(_SOURCES)

    def accepts(self, op: Operator) -> None:
        need_one(op, ("float32", "bfloat16"))
        if op.attrs.get("divisor") is not None:
            raise Declined("a divisor of its own")

    def layout(self, op: Operator, given: Sequence[str | None]) -> Layouts:
        return [LAST] * len(op.inputs), [LAST]

    def bind(self, bound: BoundOp) -> Prepared:
        kind = bound.op.type
        backward = kind.endswith("grad")
        image = bound.outputs[0] if backward else bound.inputs[0]
        assert image is not None
        how = {k: v for k, v in bound.attrs.items() if k not in OTHERS}
        windows = as_pictures(pool_windows(image.shape[2:], **how))
        source = typed(_SOURCES[kind](windows.kernel), image.dtype)
        end = sizes_table(image, windows, bool(bound.attrs.get("count_include_pad")))
        size = image.size + 2 * count_of(image, windows)

        def emit(ins: list[int], outs: list[int], packs: list[int], scratch: int) -> list[Call]:
            addresses = [*ins, *outs] if not backward else [*ins, 0, 0][:3] + outs
            table = [*addresses, 0, 0][:4] + end
            return [
                launch(
                    self.name,
                    source,
                    "pool",
                    table,
                    threads=bound.threads,
                    bytes=itemsize(image.dtype) * size,
                    ops=4 * image.size,
                )
            ]

        return Prepared(emit)


def as_pictures(windows: Windows) -> Windows:
    """Windows over two axes; a sequence is a picture of one row. Raises Declined for large ones."""
    if len(windows.out) == 1:
        windows = Windows._make((one, *axis) for one, axis in zip(ROW, windows, strict=True))
    if windows.kernel[0] * windows.kernel[1] > MAX_TAPS:
        raise Declined("the window is large")
    return windows


def count_of(image: Array, windows: Windows) -> int:
    """Elements of what is pooled."""
    return image.shape[0] * image.shape[1] * int(windows.out[0]) * int(windows.out[1])


def sizes_table(image: Array, windows: Windows, include: bool = False) -> list[int]:
    """What the table of a kernel has behind its addresses."""
    n, c, *rest = image.shape
    h, w = rest if len(rest) == 2 else (1, *rest)
    front = [int(p[0]) for p in windows.pads]
    behind = [int(p[1]) for p in windows.pads]
    out = [int(o) for o in windows.out]
    return [n, h, w, c, *out, *windows.stride, *front, *windows.dilation, int(include), *behind]


register(Pool())
