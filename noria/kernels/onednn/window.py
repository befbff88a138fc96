"""Where the window of a convolution or pooling goes."""

from __future__ import annotations

from typing import Any, NamedTuple

from noria.core.errors import ArgumentError
from noria.kernels.onednn.memory import Dims, MemDesc, c_dims


class Window(NamedTuple):
    """One value per spatial dim in each of the four tuples.

    strides:   1 or more
    padding_l: elements in front
    padding_r: elements behind; negative where the last ones are not read
    dilation:  1 is dense (oneDNN itself counts from 0)
    """

    strides: Dims
    padding_l: Dims
    padding_r: Dims
    dilation: Dims

    def check(self, src: MemDesc) -> None:
        """Raise ArgumentError unless this fits a src of dims [N, C, spatial...]."""
        rank = len(src.dims) - 2
        if any(len(values) != rank for values in self):
            what = "a window needs one value per spatial dim"
            raise ArgumentError(what, expected=f"{rank} of each", got=str(self))
        if min((*self.strides, *self.dilation), default=1) < 1:
            raise ArgumentError("strides and dilation are 1 or more", got=str(self))

    @property
    def arrays(self) -> tuple[Any, Any, Any, Any]:
        """The C arrays: strides, dilation, padding in front, padding behind."""
        dilation = c_dims([d - 1 for d in self.dilation])
        return c_dims(self.strides), dilation, c_dims(self.padding_l), c_dims(self.padding_r)
