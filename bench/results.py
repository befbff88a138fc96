"""`results.json`: written after each workload, so that what was measured is never lost."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

from bench import machine
from bench.workloads import THREADS

PATH = Path(__file__).parent / "results.json"
KINDS = ("peaks", "workloads", "parts")


def load(path: Path = PATH) -> dict[str, dict[str, Any]]:
    """{"peaks": ..., "workloads": ..., "parts": ...}, each by name; empty if there is no file."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return {kind: found.get(kind, {}) for kind in KINDS}


def merged(
    old: dict[str, dict[str, Any]], kind: str, name: str, entry: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The results with one entry replaced. Engines that were not run now lose their old figures:
    a row is of one run."""
    return {**old, kind: {**old[kind], name: entry}}


def add(kind: str, name: str, entry: dict[str, Any], path: Path = PATH) -> dict[str, Any]:
    """Put one entry, with date and machine, into the file, at once or not at all."""
    about = {"date": str(datetime.date.today()), "machine": machine.name(), "threads": THREADS}
    results = merged(load(path), kind, name, {**entry, **about})
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(results, indent=1) + "\n")
    os.replace(draft, path)
    return results
