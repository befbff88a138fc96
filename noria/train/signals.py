"""Ctrl-C and SIGTERM as a question that is answered between two steps."""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any, Self


class StopAsked(Exception):
    """Somebody asked; raised where stopping leaves everything whole."""


class StopSignals:
    """While entered, a first SIGINT or SIGTERM only asks; a second one raises KeyboardInterrupt.

    Only the main thread of a process can receive signals: entered elsewhere, it does nothing.
    """

    NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def check(self) -> None:
        """Raises StopAsked if somebody asked."""
        if self.asked:
            raise StopAsked

    def __enter__(self) -> Self:
        self.asked = False
        if threading.current_thread() is threading.main_thread():
            self._old = {n: signal.signal(n, self._ask) for n in self.NUMBERS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: of C code
        self._old = {}

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
