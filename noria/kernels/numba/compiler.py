"""What runs in a process of `compilers.py`: requests in, object code out, until the pipe ends.

A request is a line of JSON, [source, entry, symbol]; the answer a length and an entry of the cache,
of length 0 when it does not compile.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys

from noria.core.errors import EngineError
from noria.kernels.numba import cache, lower
from noria.kernels.numba.compilers import LENGTH


def main() -> None:
    """Serves until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent decides
    gc.set_threshold(
        100_000, 20
    )  # of what a compiler makes little is garbage in cycles: 10 % faster
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin.buffer:
        data = _answer(*json.loads(line))
        answers.write(len(data).to_bytes(LENGTH, "little") + data)
        answers.flush()


def _answer(source: str, entry: str, symbol: str) -> bytes:
    try:
        return cache.encode(lower.compile_object(source, entry, symbol))
    except EngineError:
        return b""  # the parent will find out why
