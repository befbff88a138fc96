"""What passes did, and what they left alone and why: kept for whoever asks.

with collect() as reports:
    program = fuse_linear(program)
reports[0].declined        # [("add at model.py:12", "the bias is not a vector"), ...]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from noria.core.flags import flags

_collected: ContextVar[list[Report] | None] = ContextVar("noria_reports", default=None)


@dataclass(slots=True)
class Report:
    """One run of one pass.

    fired:    where it changed something, and what
    declined: (where, reason) for what nearly was its business
    """

    name: str
    fired: list[str] = field(default_factory=list)
    declined: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name}: fired {len(self.fired)}, declined {len(self.declined)}"

    def lines(self) -> list[str]:
        """The whole report, for a person; what happens several times stands there once."""
        fired = [f"  fired     {text}{times}" for text, times in _counted(self.fired)]
        declined = [f"{where}: {reason}" for where, reason in self.declined]
        return [str(self), *fired, *(f"  declined  {t}{n}" for t, n in _counted(declined))]


def _counted(texts: list[str]) -> list[tuple[str, str]]:
    """(text, how often) without repetitions."""
    counts = {t: texts.count(t) for t in dict.fromkeys(texts)}
    return [(t, f" ({n} times)" if n > 1 else "") for t, n in counts.items()]


@contextmanager
def collect() -> Iterator[list[Report]]:
    """Reports of the passes run inside, in order."""
    reports: list[Report] = []
    token = _collected.set(reports)
    try:
        yield reports
    finally:
        _collected.reset(token)


def publish(report: Report) -> None:
    """Called by a pass when it is done. With NORIA_DEBUG=5 what it declined is printed."""
    reports = _collected.get()
    if reports is not None:
        reports.append(report)
    if flags.debug >= 5:
        for line in report.lines()[1:]:
            print(f"{report.name}: {line.strip()}", file=sys.stderr)
