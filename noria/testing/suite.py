"""What a judge of a suite that others wrote says."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from noria.core.files import atomic_write


@dataclass
class SuiteResult:
    """passed of total cases; failed: {"name": ..., "reason": ...} for each of the others."""

    passed: int = 0
    total: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)

    def add(self, name: str, reason: str | None) -> None:
        """One more case: passed where there is no reason against it."""
        self.total += 1
        if reason is None:
            self.passed += 1
        else:
            self.failed.append({"name": name, "reason": reason})

    def merge(self, other: SuiteResult) -> None:
        """The cases of another result too."""
        self.passed += other.passed
        self.total += other.total
        self.failed += other.failed

    @property
    def share(self) -> float:
        """Passed, of 1; 1 for no cases."""
        return self.passed / self.total if self.total else 1.0


def write_results(path: str | os.PathLike[str], results: Mapping[str, SuiteResult]) -> None:
    """`{suite: {passed, total, failed}}` as JSON."""
    text = json.dumps({name: asdict(r) for name, r in results.items()}, indent=1, sort_keys=True)
    atomic_write(path, (text + "\n").encode())
