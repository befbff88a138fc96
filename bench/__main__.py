"""`make bench`: noria beside its rivals in one run. Prints tables, writes bench/results.json."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bench import machine, results, table
from bench.noria_side.saved import PROGRAMS, saved
from bench.parts import ON_REQUEST, PARTS, PartError
from bench.peaks import measure_peak
from bench.rivals.exported import FILES, path_of
from bench.rounds import measure, summary
from bench.workloads import ENGINES, NORIA, PEAKS, WORKLOADS

ROUNDS, SLICE_S = 9, 0.6
QUICK = 2, 0.25
READERS = ("onnxruntime", "openvino")  # environments of engines that read exported networks


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="bench", description=__doc__)
    names = ", ".join([*WORKLOADS, *PARTS])
    p.add_argument(
        "what",
        nargs="*",
        metavar="WHAT",
        help=f"of {names}; default all but {', '.join(ON_REQUEST)}",
    )
    p.add_argument("--engines", help=f"comma-separated, of {', '.join(ENGINES)}; default all")
    p.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    p.add_argument("--quick", action="store_true", help="short slices: a look, not a result")
    p.add_argument("--dry", action="store_true", help="do not write results.json")
    return p


def chosen_engines(text: str | None, rivals: Sequence[str]) -> list[str]:
    """Those of a workload that were asked for, noria first."""
    wanted = text.split(",") if text else list(ENGINES)
    return [e for e in (NORIA, *rivals) if e in wanted]


class Bench:
    """One run of the command."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        rounds, self.slice_s = QUICK if options.quick else (ROUNDS, SLICE_S)
        self.rounds = options.rounds or rounds
        self.results: dict[str, dict[str, Any]] = {kind: {} for kind in results.KINDS}

    def keep(self, kind: str, name: str, entry: dict[str, Any]) -> None:
        """Into the tables of this run and, at once, into the file."""
        self.results = results.merged(self.results, kind, name, entry)
        if not self.options.dry:
            results.add(kind, name, entry)

    def peaks(self) -> None:
        """The machine itself: how fast it multiplies, how fast it reads and writes."""
        for name in PEAKS:
            found = measure_peak(name, chosen_engines(self.options.engines, PEAKS[name]))
            if found:
                self.keep("peaks", name, found)

    def workload(self, name: str) -> None:
        """All engines of one workload."""
        w = WORKLOADS[name]
        engines = chosen_engines(self.options.engines, w.rivals)
        self.export(name, engines)
        with self.console.status(name) as status:
            sides = measure(
                name,
                engines,
                rounds=self.rounds,
                slice_s=self.slice_s,
                turns=w.turns,
                say=status.update,
            )
        peak = self.results["peaks"].get(f"gemm_{w.precision}", {}).get("value")
        entry = {"engines": {e: summary(s) for e, s in sides.items()}}
        self.keep("workloads", name, {**entry, "peak": peak and peak * 1e9})
        row = table.rows({"workloads": {name: self.results["workloads"][name]}})[0]
        self.console.print(f"{name}: noria {row.cells()[1]}; best rival {row.cells()[2]}")

    def export(self, name: str, engines: Sequence[str]) -> None:
        """The files that engines read, before any clock runs. Without them they fail."""
        if name in PROGRAMS and NORIA in engines:
            saved(name, anew=True)
        if name in FILES and any(ENGINES[e].environment in READERS for e in engines):
            try:
                path_of(name)
            except (OSError, subprocess.CalledProcessError) as error:
                self.console.print(f"{name} could not be exported: {error}")

    def part(self, name: str) -> None:
        try:
            for title, entry in PARTS[name]():
                self.keep("parts", title, entry)
        except PartError as error:
            self.console.print(f"{name} failed: {error}")

    def show(self) -> None:
        """The tables of this run."""
        for line in table.peak_lines(self.results):
            self.console.print(line)
        body = [r.cells() for r in table.rows(self.results)]
        if body:
            self.console.print(table.rich_table("noria beside its rivals", table.COLUMNS, body))
        alone = [table.part_cells(n, p) for n, p in self.results["parts"].items()]
        if alone:
            self.console.print(table.rich_table("noria alone", table.PART_COLUMNS, alone))
        for line in table.problems(self.results):
            self.console.print(line)


def main() -> None:
    options = parser().parse_args()
    wanted = options.what or [*WORKLOADS, *(p for p in PARTS if p not in ON_REQUEST)]
    for name in wanted:
        if name not in WORKLOADS and name not in PARTS:
            sys.exit(f"no workload or part '{name}'; there are {', '.join([*WORKLOADS, *PARTS])}")
    machine.settle_on_cores()
    width = max(shutil.get_terminal_size((150, 24)).columns, 150)
    bench = Bench(options, Console(width=width))
    if any(name in WORKLOADS for name in wanted):
        bench.peaks()
    for name in wanted:
        bench.workload(name) if name in WORKLOADS else bench.part(name)
    bench.show()


if __name__ == "__main__":
    main()
