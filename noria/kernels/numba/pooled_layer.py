"""Where things lie in a convolution of float32 with a max-pooling behind it, channels-last: what
the kernels that do both at once or their gradients share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from noria.ops.pool import pool_windows
from noria.ops.window import Windows, slide


class Layer(NamedTuple):
    """A convolution, the pooling behind it, and an image once what the convolution sees around it
    is there.

    sizes:        of the image alone
    down, across: its pixels with as many zeros around it as are seen; pixel: bytes of one
    """

    conv: Windows
    pool: Windows
    sizes: tuple[int, ...]
    down: int
    across: int
    pixel: int

    @staticmethod
    def of(attrs: Mapping[str, Any], sizes: Sequence[int], weight: Sequence[int]) -> Layer:
        """attrs: of an operator that names those of its pooling `pool_`; sizes: of the image;
        weight: shape of the convolution's."""
        _, ins, *taps = weight
        conv = slide(sizes, taps, attrs["stride"], attrs["padding"])
        padding, ceil_mode = attrs.get("pool_padding", 0), attrs.get("ceil_mode", False)
        how = attrs["pool_kernel"], attrs["pool_stride"], padding
        pool = pool_windows(conv.out, *how, ceil_mode=ceil_mode)
        axes = zip(sizes, _fronts(conv), conv.out, conv.stride, conv.kernel, strict=True)
        down, across = (max(n + f, (out - 1) * step + k) for n, f, out, step, k in axes)
        return Layer(conv, pool, tuple(sizes), down, across, ins * 4)

    @property
    def padded(self) -> bool:
        """Whether anything is around the image."""
        return (self.down, self.across) != self.sizes

    @property
    def fronts(self) -> list[int]:
        """Rows and columns of zeros before the image."""
        return _fronts(self.conv)

    @property
    def pool_fronts(self) -> list[int]:
        """Rows and columns of elements before the first that are in its first window."""
        return _fronts(self.pool)

    @property
    def line(self) -> int:
        """Bytes of a row of the image."""
        return self.across * self.pixel

    @property
    def nbytes(self) -> int:
        """Bytes of the image."""
        return self.down * self.line

    @property
    def row(self) -> int:
        """Bytes of the image from a row of the convolution's elements to the next one."""
        return self.conv.stride[0] * self.line

    @property
    def step(self) -> int:
        """Bytes of the image from an element of the convolution to the next one in its row."""
        return self.conv.stride[1] * self.pixel


def _fronts(windows: Windows) -> list[int]:
    return [int(front) for front, _ in windows.pads]
