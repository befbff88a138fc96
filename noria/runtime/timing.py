"""NORIA_DEBUG=2: each step of a bound plan with its time, the bytes it touches, and GB/s."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

from noria.kernels.registry import Array
from noria.runtime.buffers import Item

Action = Callable[[], None]


def timed(item: Item, arrays: Sequence[Array], actions: Sequence[Action]) -> Action:
    """The actions of an item as one that prints a line to standard error.

    arrays: its operands and results. The time includes some microseconds for starting each action,
    because nothing else runs on the tape with it.
    """
    label, nbytes = _label(item), sum(a.nbytes for a in arrays)

    def step() -> None:
        start = time.perf_counter_ns()
        for action in actions:
            action()
        print(line(time.perf_counter_ns() - start, nbytes, label), file=sys.stderr)

    return step


def line(nanoseconds: int, nbytes: int, label: str) -> str:
    """Microseconds, MB, GB/s and what ran."""
    speed = nbytes / max(nanoseconds, 1)
    return f"{nanoseconds / 1e3:>11,.1f} us {nbytes / 1e6:>9.3f} MB {speed:>7.1f} GB/s  {label}"


def _label(item: Item) -> str:
    engine = item.kernel.name if item.kernel is not None else "reference"
    engine = "copy" if item.reorders else engine
    if item.pack is not None:
        return f"{'pack':<22} {item.pack[1].name} for {item.step.op.type}"
    results = ", ".join(f"{v.name}: {v}" for v in item.outputs)
    return f"{engine:<22} {item.step.op.type} -> {results}"
