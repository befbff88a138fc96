"""Tells LLVM which loops have independent iterations, so that it needs no overlap checks.

Works on the IR Numba has just written, where loops are still as the source has them.
"""

from __future__ import annotations

from llvmlite import ir


class _Node:
    """A metadata node that is written into the module's text by hand (llvmlite has no `distinct`)."""

    def __init__(self, number: int) -> None:
        self.number = number

    def get_reference(self) -> str:
        return f"!{self.number}"
