"""The source of a copy whose source and target are contiguous along different axes.

Square tiles go through a buffer: each is read along the one axis and written along the other, so
that every cache line is touched once, whatever power of two the strides are.
"""

from __future__ import annotations

from noria.kernels.numba.codegen import Source, share, unravel

TILES = {1: 64, 2: 64, 4: 64, 8: 32}  # elements of so many bytes: the side of a tile


def transpose_source(outer: int, itemsize: int) -> str:
    """The function `transpose` for elements of `itemsize` bytes.

    Its table: addresses of source, target and buffers (a tile of each thread), then for `outer`
    axes, for the axis along which the source is contiguous and for that of the target: sizes,
    steps of the source, steps of the target, in elements.
    """
    out, side, axes = Source(), TILES[itemsize], range(outer)
    a, b = outer, outer + 1
    out.put(f"tall = (n{a} + {side - 1}) // {side}", f"wide = (n{b} + {side - 1}) // {side}")
    out.put(f"count = {' * '.join((*(f'n{d}' for d in axes), 'tall', 'wide'))}")
    out.put(*share("first", "last", "count"))
    out.put(f"buffer += me * {side * side * itemsize}")
    with out.block("for tile in range(first, last):"):
        out.put("row = tile // (tall * wide)", "rest = tile % (tall * wide)")
        out.put(*unravel("row", list(axes)))
        out.put(f"x{a} = rest // wide * {side}", f"x{b} = rest % wide * {side}")
        for o in range(2):
            step = " + ".join(f"x{d} * s{d}_{o}" for d in range(outer + 2))
            out.put(f"q{o} = p{o} + ({step}) * {itemsize}")
        out.put(f"rows = min(n{a} - x{a}, {side})", f"columns = min(n{b} - x{b}, {side})")
        with out.block(f"if rows == {side} and columns == {side}:"):
            _tile(out, a, b, str(side), str(side), itemsize)
        with out.block("else:"):
            _tile(out, a, b, "rows", "columns", itemsize)
    return out.function("transpose", layout(outer))


def layout(outer: int) -> list[str]:
    """Names of the numbers in the table."""
    axes = range(outer + 2)
    steps = [f"s{d}_{o}" for o in range(2) for d in axes]
    return ["p0", "p1", "buffer", *(f"n{d}" for d in axes), *steps]


def _tile(out: Source, a: int, b: int, rows: str, columns: str, itemsize: int) -> None:
    """Source to buffer along axis a, buffer to target along axis b."""
    side, kind = TILES[itemsize], f"uint{8 * itemsize}"
    with out.block(f"for j in range({columns}):"):
        out.put(f"line = q0 + j * s{b}_0 * {itemsize}")
        with out.block(f"for i in range({rows}):"):
            out.put("independent()")
            out.put(f"store_{kind}(buffer, j * {side} + i, load_{kind}(line, i))")
    with out.block(f"for i in range({rows}):"):
        out.put(f"line = q1 + i * s{a}_1 * {itemsize}")
        with out.block(f"for j in range({columns}):"):
            out.put("independent()")
            out.put(f"store_{kind}(line, j, load_{kind}(buffer, j * {side} + i))")
