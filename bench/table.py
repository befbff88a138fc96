"""The table: each workload in noria beside the best rival, and beside what the machine can do."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bench.workloads import NORIA, WORKLOADS, Workload

COLUMNS = (
    "workload",
    "noria",
    "best rival",
    "ratio",
    "goal",
    "",
    "floor %: noria",
    "rival",
    "peak MB: noria",
    "leanest rival",
    "first step s",
    "rival",
)
PART_COLUMNS = ("measured", "", "goal", "")
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A workload's figures; None where there is nothing to compare."""

    workload: Workload
    engines: Mapping[str, Entry]
    peak: float | None  # operations a second that the machine reaches

    @property
    def noria(self) -> Entry | None:
        return self.working.get(NORIA)

    @property
    def working(self) -> dict[str, Entry]:
        return {n: e for n, e in self.engines.items() if "seconds" in e}

    @property
    def rivals(self) -> dict[str, Entry]:
        return {n: e for n, e in self.working.items() if n != NORIA}

    @property
    def best(self) -> str | None:
        """The fastest rival: beside noria where noria ran, else by its own time."""
        by_time = {n: e["seconds"] for n, e in self.rivals.items()}
        return min(self.rivals, key=lambda n: (self.ratio_to(n) or 0.0, by_time[n]), default=None)

    def ratio_to(self, rival: str) -> float | None:
        """How many times faster than a rival: the median of the rounds' own ratios, since what a
        shared machine does to one engine it mostly does to the one right after it too."""
        if self.noria is None:
            return None
        pairs = zip(self.rivals[rival]["rounds_s"], self.noria["rounds_s"], strict=False)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    @property
    def leanest(self) -> str | None:
        return min(self.rivals, key=lambda n: self.rivals[n]["peak_rss_mb"], default=None)

    @property
    def ratio(self) -> float | None:
        """How many times faster than the best rival."""
        return None if self.best is None else self.ratio_to(self.best)

    @property
    def reached(self) -> bool | None:
        goal = self.workload.goal
        return None if goal is None or self.ratio is None else self.ratio >= goal

    def floor(self, engine: str | None) -> float | None:
        """Percent of the GEMM peak that an engine reaches."""
        if engine not in self.working or not self.peak:
            return None
        rate = self.workload.operations / self.working[engine]["seconds"]
        return 100 * rate / self.peak

    def cells(self) -> list[str]:
        """As text, in the order of COLUMNS."""
        w, best, lean = self.workload, self.best, self.leanest
        return [
            w.name,
            self._noria_text(),
            "" if best is None else f"{_show(w, self.rivals[best])} ({best})",
            _number(self.ratio),
            "" if w.goal is None else f"{w.goal:g}",
            mark(self.reached),
            _percent(self.floor(NORIA)),
            _percent(self.floor(best)),
            "" if self.noria is None else f"{self.noria['peak_rss_mb']:,.0f}",
            "" if lean is None else f"{self.rivals[lean]['peak_rss_mb']:,.0f} ({lean})",
            _first(self.noria),
            _first(self.rivals.get(best or "")),
        ]

    def _noria_text(self) -> str:
        entry = self.engines.get(NORIA, {"absent": "not run"})
        if self.noria is None:
            return entry.get("absent") or "failed"
        return _show(self.workload, entry)


def rows(results: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Of all workloads measured, in the order of workloads.py."""
    found = results["workloads"]
    return [
        Row(w, found[name]["engines"], found[name].get("peak"))
        for name, w in WORKLOADS.items()
        if name in found
    ]


def part_cells(name: str, part: Entry) -> list[str]:
    """A measurement of noria alone, in the order of PART_COLUMNS."""
    sign = "≤" if part["lower_is_better"] else "≥"
    goal = "" if part["goal"] is None else f"{sign} {part['goal']:g}"
    return [name, f"{_number(part['value'])} {part['unit']}".strip(), goal, mark(reached(part))]


def reached(part: Entry) -> bool | None:
    """Whether a part keeps to its goal."""
    if part["goal"] is None:
        return None
    lower = part["lower_is_better"]
    return part["value"] <= part["goal"] if lower else part["value"] >= part["goal"]


def problems(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each engine that failed on a workload."""
    return [
        f"{name}: {engine} failed: {entry['failed']}"
        for name, found in results["workloads"].items()
        for engine, entry in found["engines"].items()
        if "failed" in entry
    ]


def peak_lines(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the machine can do."""
    return [f"{n}: {p['value']:,.4g} {p['unit']} ({p['by']})" for n, p in results["peaks"].items()]


def rich_table(title: str, columns: Iterable[str], body: Iterable[list[str]]) -> Table:
    """For the terminal."""
    table = Table(title=title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for cells in body:
        table.add_row(*cells)
    return table


def markdown(columns: Iterable[str], body: Iterable[list[str]]) -> str:
    """For the README."""
    head = list(columns)
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mark(reached: bool | None) -> str:
    return {True: "reached", False: "missed", None: ""}[reached]


def _show(workload: Workload, entry: Entry) -> str:
    return f"{_number(workload.figure(entry['seconds']))} {workload.unit}"


def _first(entry: Entry | None) -> str:
    return "" if entry is None else f"{entry['compile_s'] + entry['seconds']:.1f}"


def _number(x: float | None) -> str:
    if x is None:
        return ""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def _percent(x: float | None) -> str:
    return "" if x is None else f"{x:.0f}"
