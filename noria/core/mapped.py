"""Arrays that lie in a file until they are read."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

import numpy as np


class _File(mmap.mmap):
    """Tells the mapping of a file from other memory."""


class MappedFile:
    """A file as memory: its pages are read when they are first touched.

    What is written to an array stays in this process, the file never changes. The file must not be
    cut short while an array of it is in use (the system would end the process); to replace it by
    another one, as `ir/save.py` does, is safe.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(path, "rb") as file:
            block = _File(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._bytes = np.frombuffer(block, np.uint8)

    def bytes(self, start: int, end: int) -> bytes:
        """A part of the file, read now."""
        return self._bytes[start:end].tobytes()

    def array(self, offset: int, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """The elements that begin at a byte of the file, in C order.

        Raises TypeError if the file ends before.
        """
        return np.ndarray(tuple(shape), dtype, self._bytes, offset)


def in_file(array: np.ndarray) -> bool:
    """Does it lie in a mapped file, where its pages can be given back?"""
    return _mapping(array) is not None


def give_back_pages(array: np.ndarray) -> None:
    """Lets the system have the memory of an array `in_file`; the next use reads the file again.

    What was written to the array since it was mapped is lost. The pages it shares with its
    neighbours stay.
    """
    mapping = _mapping(array)
    if mapping is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    base = np.frombuffer(mapping, np.uint8).ctypes.data
    start = array.ctypes.data - base
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > first:
        mapping.madvise(mmap.MADV_DONTNEED, first, end - first)


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    """The mapped file behind an array. Anonymous memory is none: its pages come from nowhere."""
    base = array.base
    while isinstance(base, np.ndarray):
        base = base.base
    owner = base.obj if isinstance(base, memoryview) else base
    return owner if isinstance(owner, _File) else None
