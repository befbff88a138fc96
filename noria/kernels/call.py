"""The one thing every fast kernel comes down to: a native function and four integers.

A bound plan is a list of these rows. The runtime writes them into an int64 table and a compiled
loop calls them one after the other; nothing of Python is touched until the loop ends.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from noria.core.errors import EngineError

_Native = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_int64] * 4)


@dataclass(slots=True)
class Call:
    """`fn(args[0], args[1], args[2], args[3]) -> status`; 0 in the low 32 bits means success.

    name: what ran, for profiles and errors
    fn:   address of a native function with the C calling convention
    args: integers or addresses
    keep: whatever must stay alive for as long as the row may run
    alone: nanoseconds it takes at least, if it runs on the thread that calls it and would do so
          beside others; 0 for a row that has a team, or of which nothing is known
    """

    name: str
    fn: int
    args: tuple[int, int, int, int]
    keep: object
    alone: float = 0.0


def run(call: Call) -> None:
    """Run one row now, outside any table. Raises EngineError when its status is not 0."""
    status = _Native(call.fn)(*call.args)
    if status:
        raise EngineError(f"{call.name} failed", expected="status 0", got=f"status {status}")
