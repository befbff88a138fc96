"""Python's cycle collector at rest while much is made that stays."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_was_on = False


@contextmanager
def collector_paused() -> Iterator[None]:
    """Within it no garbage is looked for, in any thread. It nests, and several threads may use it.

    Planning makes hundreds of thousands of objects and drops few of them. Each time their number
    has grown by a quarter the collector goes through all of them, in vain: a third of the time of
    binding 4,000 operators. If the collector was off before, it stays off.
    """
    global _depth, _was_on
    with _lock:
        if _depth == 0:
            _was_on = gc.isenabled()
            gc.disable()
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _was_on:
                gc.enable()
