"""Modules that move and resize pixels; none has parameters. Names and attributes are PyTorch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from noria.core.dims import Size
from noria.core.errors import ArgumentError
from noria.ir.opdef import vocabulary as o
from noria.nn.module import Module
from noria.ops.columns import pixel_shuffle, pixel_unshuffle
from noria.ops.resizing import interpolate


class Upsample(Module):
    """[N, C, sizes...] resized to `size`, or by `scale_factor`; see `ops.interpolate`."""

    def __init__(
        self,
        size: int | Sequence[Size] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        *,
        mode: str = "nearest",
        align_corners: bool = False,
    ) -> None:
        if (size is None) == (scale_factor is None):
            raise ArgumentError("either size or scale_factor", got=f"{size}, {scale_factor}")
        self._how: dict[str, Any] = {
            "size": size,
            "scale_factor": scale_factor,
            "mode": mode,
            "align_corners": align_corners,
        }

    def __call__(self, x: Any) -> Any:
        return interpolate(x, **self._how)


class PixelShuffle(Module):
    """Channels spread over blocks of pixels: [N, C * r * r, H, W] -> [N, C, H * r, W * r]."""

    def __init__(self, factor: int | Sequence[int]) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        return pixel_shuffle(x, factor=self.factor)


class PixelUnshuffle(Module):
    """Blocks of pixels gathered in channels, which undoes `PixelShuffle`."""

    def __init__(self, factor: int | Sequence[int]) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        return pixel_unshuffle(x, factor=self.factor)


class Unfold(Module):
    """What each window sees as a column: [N, C, sizes...] -> [N, C * elements, windows]."""

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Any = 0,
        dilation: int | Sequence[int] = 1,
    ) -> None:
        self._how = {
            "kernel": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
        }

    def __call__(self, x: Any) -> Any:
        return o.unfold(x, **self._how)


class Fold(Module):
    """Columns added up where their windows lie: the transpose of `Unfold`, to images of `size`."""

    def __init__(
        self,
        size: Sequence[Size],
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Any = 0,
        dilation: int | Sequence[int] = 1,
    ) -> None:
        self._how = {
            "sizes": tuple(size),
            "kernel": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
        }

    def __call__(self, x: Any) -> Any:
        return o.fold(x, **self._how)
