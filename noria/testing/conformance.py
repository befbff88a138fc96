"""What suites and models that others wrote say of noria: `make conformance`.

    python -m noria.testing.conformance --vectors DIR --tests tests [--json FILE] [--page FILE]

Runs the suites inside the package onnx, the reference vectors of Fluid and Caffe2, and the tests of
foreign models (those marked `suite("...")`), prints a table beside its goals and each failure with
its reason, and writes both as JSON and as a page.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noria.convert.caffe2 import unsupported as caffe2
from noria.convert.fluid import unsupported as fluid
from noria.core.files import atomic_write
from noria.testing import onnx_suite, vectors
from noria.testing.disputed import DISPUTED
from noria.testing.suite import SuiteResult, write_results

Results = dict[str, SuiteResult]


@dataclass(frozen=True, slots=True)
class Goal:
    """A line of the table: the suites that belong to it, and the share that must pass."""

    title: str
    suites: tuple[str, ...]
    share: float


GOALS = (
    Goal("ONNX node tests: float, integer, bool", (onnx_suite.FLOATS, onnx_suite.INTEGERS), 0.98),
    Goal("ONNX node tests: expanded", (onnx_suite.EXPANDED,), 0.98),
    Goal("ONNX node tests: sequence, optional", (onnx_suite.SEQUENCES,), 0.7),
    Goal("ONNX node tests: bfloat16", (onnx_suite.HALVES,), 0.7),
    Goal("ONNX node tests: ai.onnx.ml", (onnx_suite.ML,), 0.7),
    Goal("ONNX node tests: training", (onnx_suite.TRAINING,), 0.7),
    Goal("ONNX node tests: fp8, fp4, int4, int2", (onnx_suite.SMALL,), 0.0),
    Goal("ONNX node tests: strings", (onnx_suite.STRINGS,), 0.0),
    Goal("ONNX small model files", tuple(onnx_suite.FILES.values()), 1.0),
    Goal("ONNX light networks", (onnx_suite.LIGHT,), 1.0),
    Goal("Fluid vectors: forward", ("fluid forward",), 0.95),
    Goal("Fluid vectors: gradients", ("fluid gradient",), 0.95),
    Goal("Caffe2 vectors", ("caffe2",), 0.9),
)


class Collector:
    """A plugin of pytest: the result of each test marked `suite("title")`, by title."""

    def __init__(self) -> None:
        self.results: Results = {}
        self.titles: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Keeps the tests that belong to a suite."""
        chosen = []
        for item in items:
            mark = item.get_closest_marker("suite")
            if mark is not None:
                self.titles[item.nodeid] = mark.args[0]
                chosen.append(item)
        items[:] = chosen

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Counts a test once: when it ran, or failed or was skipped before it could."""
        if report.when != "call" and report.passed:
            return
        title = self.titles.get(report.nodeid)
        if title is not None:
            reason = None if report.passed else _last_line(report)
            self.results.setdefault(title, SuiteResult()).add(report.nodeid, reason)


def _last_line(report: Any) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return f"not run: {report.longrepr[2]}"
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message if crash else report.longrepr).strip().splitlines()[0][:300]


def of_models(tests: Path) -> Results:
    """Results of the tests of foreign models, by the suite they are marked with."""
    import pytest

    collector = Collector()
    pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", str(tests)], plugins=[collector])
    return collector.results


def run(folder: Path | None, tests: Path | None, jobs: int = 2) -> tuple[Results, dict[str, float]]:
    """(results by suite, seconds by judge). What is not given is not judged."""
    results: Results = {}
    seconds: dict[str, float] = {}

    def judged(name: str, found: Mapping[str, SuiteResult], start: float) -> None:
        results.update(found)
        seconds[name] = time.monotonic() - start

    start = time.monotonic()
    judged("ONNX", onnx_suite.run(jobs=jobs), start)
    for name in ("fluid", "caffe2") if folder is not None else ():
        if folder is not None and (folder / name).is_dir():
            start = time.monotonic()
            judged(f"{name} vectors", vectors.run(folder / name, jobs=jobs), start)
    if tests is not None:
        start = time.monotonic()
        judged("models", of_models(tests), start)
    return results, seconds


# ---- what is said ------------------------------------------------------------------------------


def lines(results: Mapping[str, SuiteResult]) -> list[tuple[str, SuiteResult, float]]:
    """(title, result, share wanted) of each line of the table; models must pass altogether."""
    out: list[tuple[str, SuiteResult, float]] = []
    told: set[str] = set()
    for goal in GOALS:
        found = [results[s] for s in goal.suites if s in results]
        told.update(goal.suites)
        if found:
            total = SuiteResult()
            for result in found:
                total.merge(result)
            out.append((goal.title, total, goal.share))
    return out + [(name, r, 1.0) for name, r in results.items() if name not in told]


def table(results: Mapping[str, SuiteResult]) -> str:
    """Markdown: what passed of each suite, beside the goal."""
    rows = ["| suite | passed | of | share | goal | |", "| --- | --- | --- | --- | --- | --- |"]
    for title, r, wanted in lines(results):
        goal = f"{100 * wanted:.0f} %" if wanted else "counted"
        verdict = "" if not wanted else "reached" if r.share >= wanted else "**missed**"
        share = f"{100 * r.share:.1f} %"
        rows.append(f"| {title} | {r.passed} | {r.total} | {share} | {goal} | {verdict} |")
    return "\n".join(rows)


def failures(results: Mapping[str, SuiteResult]) -> list[str]:
    """Markdown: each failure by name with its reason, and why the case is disputed if it is."""
    out = []
    for title, r, _ in lines(results):
        if r.failed:
            out += ["", f"### {title}", ""]
        for failure in sorted(r.failed, key=lambda f: f["name"]):
            why = dispute(failure["name"])
            more = f" *Disputed: {why}*" if why else ""
            out.append(f"- `{failure['name']}`: {_quoted(failure['reason'])}{more}")
    return out


def _quoted(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("\n", " ")


def dispute(name: str) -> str | None:
    """Why a case asks for something wrong, if it does."""
    return next((why for pattern, why in DISPUTED.items() if re.search(pattern, name)), None)


PAGE = """\
# Conformance

What suites that others wrote say, from a real run of `make conformance`: every operator and model
goes through the converter and runs on the fast engine, as a user's would.

{table}

{seconds}

{unsupported}

## What fails
{failures}
"""


def page(results: Mapping[str, SuiteResult], seconds: Mapping[str, float]) -> str:
    """`docs/conformance.md`."""
    told = ", ".join(f"{name} {s:.0f} s" for name, s in seconds.items())
    return PAGE.format(
        table=table(results),
        seconds=f"Two processes of one thread each, kernels compiled before: {told}.",
        unsupported="\n".join(_unsupported()),
        failures="\n".join(failures(results)) or "\nNothing.",
    )


def _unsupported() -> list[str]:
    """Operators of Fluid and of Caffe2 that are left out, by reason."""
    out: list[str] = []
    for framework, listed in (("Fluid", fluid.UNSUPPORTED), ("Caffe2", caffe2.UNSUPPORTED)):
        out += ["", f"## Operators of {framework} that are not supported", ""]
        for reason in sorted(set(listed.values())):
            names = sorted(n for n, r in listed.items() if r == reason)
            out.append(f"- {reason}: " + ", ".join(f"`{n}`" for n in names))
    return out[1:]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 where all goals are reached."""
    parser = argparse.ArgumentParser(prog="python -m noria.testing.conformance")
    parser.add_argument("--vectors", type=Path, help="folder with fluid/ and caffe2/")
    parser.add_argument("--tests", type=Path, help="folder of tests, some of foreign models")
    parser.add_argument("--json", type=Path, help="write {suite: {passed, total, failed}}")
    parser.add_argument("--page", type=Path, help="write the page")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    args = parser.parse_args(argv)
    results, seconds = run(args.vectors, args.tests, args.jobs)
    print(*failures(results), sep="\n")
    print(f"\n{table(results)}\n")
    print(", ".join(f"{name}: {s:.0f} s" for name, s in seconds.items()))
    if args.json:
        write_results(args.json, results)
    if args.page:
        atomic_write(args.page, page(results, seconds).encode())
    return 0 if all(r.share >= wanted for _, r, wanted in lines(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
