"""One block of memory in which every buffer of a bound plan has its place."""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

from noria.core.dtypes import to_numpy
from noria.core.errors import ArgumentError, EngineError

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_HUGE_PAGE = 2 << 20


class Arena:
    """Zeroed memory straight from the system; pages are taken when they are first touched.

    The start is aligned to 64 bytes, and from 2 MiB on to a huge page, which the system is asked
    for. Arrays from `view` keep the memory they lie in alive, also past the arena's end.
    """

    address: int
    nbytes: int

    def __init__(self, nbytes: int) -> None:
        if nbytes < 0:
            raise ArgumentError("an arena cannot be smaller than nothing", got=f"{nbytes} bytes")
        alignment = _HUGE_PAGE if nbytes >= _HUGE_PAGE else mmap.PAGESIZE
        size = max(1, math.ceil(nbytes / mmap.PAGESIZE)) * mmap.PAGESIZE
        try:
            block = mmap.mmap(-1, size + alignment, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, ValueError, OverflowError) as error:
            raise EngineError(
                "no memory for the arena",
                got=f"{nbytes} bytes wanted: {error}",
                hint="smaller batches, or recomputation of activations",
            ) from error
        whole = np.frombuffer(block, np.uint8)  # unmapped when its last view is gone
        start = -whole.ctypes.data % alignment
        if alignment == _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            _advise(block, start, nbytes // _HUGE_PAGE * _HUGE_PAGE)  # of the last one a part
        self._memory = whole[start : start + nbytes]
        self._block, self._start = block, start
        self.address, self.nbytes = whole.ctypes.data + start, nbytes

    def give_back(self, offset: int = 0, nbytes: int | None = None) -> None:
        """Lets the system have the whole pages; they are zero when they are touched again.

        offset, nbytes: of a part, default all
        """
        end = self.nbytes if nbytes is None else offset + nbytes
        first = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = end // mmap.PAGESIZE * mmap.PAGESIZE - first
        if whole > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._block.madvise(mmap.MADV_DONTNEED, self._start + first, whole)

    def view(
        self,
        offset: int,
        shape: Sequence[int],
        dtype: Any,
        strides: Sequence[int] | None = None,
    ) -> np.ndarray:
        """An array over the memory at `offset` bytes; `dtype` a noria name or what NumPy takes.

        strides: in bytes, C order without them. Raises ArgumentError if it does not fit inside.
        """
        kind = to_numpy(dtype) if isinstance(dtype, str) else np.dtype(dtype)
        try:
            if offset < 0:
                raise ValueError("it starts before the arena")  # NumPy does not look
            return np.ndarray(tuple(shape), kind, self._memory, offset, strides)
        except (TypeError, ValueError) as error:
            raise ArgumentError(
                "a view must lie inside its arena",
                expected=f"{self.nbytes} bytes at most",
                got=f"{kind} {tuple(shape)} at offset {offset}, strides {strides}: {error}",
            ) from None


def _advise(block: mmap.mmap, start: int, size: int) -> None:
    try:
        block.madvise(mmap.MADV_HUGEPAGE, start, size)
    except OSError:  # a kernel without them
        return


def give_back() -> None:
    """Lets the system have what the C library keeps of freed memory.

    Drawing first values leaves tens of megabytes of it, of which a step makes no use: what it needs
    lies in arenas. Nothing happens where the C library has no such call.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
