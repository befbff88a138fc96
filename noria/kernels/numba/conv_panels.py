"""Weights of convolutions in panels, as the tiles of `conv.py` read them.

Of a panel of `width` outputs a row of taps is one run: for each number of the input that a pixel
sees there, a line of the outputs' weights. Of bfloat16 a line has pairs, of two numbers side by
side. Where channels are odd, the taps of a row begin at odd numbers too; so there are two versions
of each panel, of pairs from the first number and from the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from noria.core.dtypes import itemsize
from noria.kernels.call import Call
from noria.kernels.numba.lines import whole_lines
from noria.kernels.numba.move import Emit, Part, copy_part, fill_part
from noria.kernels.numba.weight_panels import Panels, pack
from noria.kernels.registry import Array, Pack


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: for planes [channel, row of taps, tap, output], else [version, row, tap x channel,
    output], of which `size` bytes are a number.

    ins:    channels that lie innermost, 1 of planes; rows: of taps, in all planes
    taps:   of a row; versions: 2 where pairs of some taps begin with an odd number, else 1
    """

    width: int
    rows: int
    taps: int
    ins: int
    size: int
    planes: int

    @classmethod
    def of(cls, weight: Array, width: int, planes: int) -> Panel:
        """Of a weight [O, I, rows, columns] for images in so many planes."""
        _, ins, rows, taps = weight.shape
        return cls(width, rows * planes, taps, ins // planes, itemsize(weight.dtype), planes)

    @property
    def versions(self) -> int:
        return 2 if self.size == 2 and self.ins % 2 else 1

    @property
    def numbers(self) -> int:
        """Of a run: of the last pair the second may be a 0."""
        whole = 4 // self.size
        return -(-self.taps * self.ins // whole) * whole

    @property
    def row_bytes(self) -> int:
        return self.numbers * self.width * self.size

    @property
    def nbytes(self) -> int:
        return self.versions * self.rows * self.row_bytes

    def tap(self, number: int) -> int:
        """Bytes from the begin of the panel to a tap of its first row."""
        first = number * self.ins
        if self.versions == 1:
            return first * self.width * self.size
        return first // 2 * self.width * 4 + first % 2 * self.rows * self.row_bytes

    def turned(self, weight: Array) -> Panels | None:
        """The same panels by their quicker kernel, which writes at the memory's rate, if it can."""
        if self.planes > 1:
            return None
        taps, columns = self.rows * self.taps, weight.shape[0]
        found = Panels(weight.dtype, self.ins, columns, taps, self.width, False)
        return found if found.possible else None

    def pack(self, weight: Array, threads: int) -> Pack:
        """Of a weight [O, I, rows, columns] without gaps: all panels, the last one filled up."""
        outs, each = weight.shape[0], self.rows * self.taps * self.ins
        key = "pixel panels", self.width, self.planes
        turned = self.turned(weight)
        if turned is not None:
            return pack(1, key, turned, threads)
        nbytes, rest = -(-outs // self.width) * self.nbytes, outs % self.width
        fill = self._fill(self.nbytes if rest else 0, nbytes - self.nbytes, threads)
        space = whole_lines(nbytes)
        if self.versions == 1:
            taps = self.rows * self.taps
            copy = self._copy(outs, (taps, self.ins), (each, 1, taps), threads)
            return Pack(1, key, nbytes, lambda at, to: [*fill(to), *copy(at, to)], replaces=True)
        long = self.numbers + 1
        line_up, room = self._rows(weight, long, threads)
        sizes, steps = (self.rows, self.numbers), (self.rows * long, long, 1)
        copies = [self._copy(outs, sizes, steps, threads, version) for version in (0, 1)]

        def emit(address: int, to: int) -> list[Call]:
            calls = [*fill(to), *line_up(address, to + space)]
            return [*calls, *(call for copy in copies for call in copy(to + space, to))]

        return Pack(1, key, space + room, emit, replaces=True)

    def _rows(self, weight: Array, long: int, threads: int) -> tuple[Emit, int]:
        """Calls that copy the weight to [O, row, tap x channel], rows `long` with zeros behind; and
        how many bytes that are."""
        outs, ins, rows, taps = weight.shape
        source = Part((ins * rows * taps, taps, 1, rows * taps))
        target = Part((rows * long, long, ins, 1))
        copy = copy_part((outs, rows, taps, ins), source, target, self.size, threads)
        nbytes = outs * rows * long * self.size
        fill = self._fill(nbytes, 0, threads)
        return (lambda address, to: [*fill(to), *copy(address, to)]), nbytes

    def _copy(
        self,
        outs: int,
        sizes: tuple[int, int],
        steps: tuple[int, int, int],
        threads: int,
        version: int = 0,
    ) -> Emit:
        """Calls that copy a weight to the full panels and to the last one.

        sizes: taps or rows of them, and numbers that lie side by side in a panel
        steps: from output to output, tap to tap and number to number in the weight
        """
        (taps, ins), (out, tap, number) = sizes, steps
        width, whole = self.width, 4 // self.size
        full, rest = divmod(outs, width)
        panel = self.nbytes // self.size
        place = version * taps * ins * width
        moves = []
        for count, columns, first in ((full, width, 0), (1, rest, full)):
            if count and columns:
                box = (count, taps, ins // whole, columns, whole)
                strides = (width * out, tap, whole * number, out, number)
                source = Part(strides, first * width * out + version * number)
                target = Part((panel, ins * width, whole * width, whole, 1), first * panel + place)
                moves.append(copy_part(box, source, target, self.size, threads))
        return lambda address, to: [call for move in moves for call in move(address, to)]

    def _fill(self, nbytes: int, offset: int, threads: int) -> Callable[[int], list[Call]]:
        """Calls that write zeros."""
        zero = np.zeros((), f"uint{8 * self.size}")
        return fill_part((nbytes // self.size,), zero, Part((1,), offset // self.size), threads)
