"""Judges any folder of reference vectors: cases other frameworks recorded from their own tests.

    python -m noria.testing.vectors DIR [--op NAME] [--json FILE] [-j 2]

A folder has `cases.jsonl`, one case a line, and `arrays.npz`. A Fluid case (inputs by slot) becomes
a Fluid program of one operator, read by the importer and run by the engine; a gradient case is
differentiated by `append_backward`. A Caffe2 case (inputs in order) becomes a net of one operator.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from multiprocessing import get_context
from typing import Any

from noria.core.errors import FormatError, MissingError
from noria.testing.folder import Folder
from noria.testing.suite import SuiteResult, write_results

CHUNK = 24  # cases given to a worker at once
JUDGES = {"fluid": "noria.testing.vectors_fluid", "caffe2": "noria.testing.vectors_caffe2"}
Verdict = tuple[str, str, str | None]  # suite, name of the case, what is wrong with it


def run(
    folder: str | os.PathLike[str], only: str | None = None, jobs: int = 2, every: int = 1
) -> dict[str, SuiteResult]:
    """Judges the cases of a folder; results by suite, forward and gradient cases apart.

    only: name of one operator; jobs: processes; every: only each so many-th case
    """
    vectors = Folder(folder)
    numbers = vectors.chosen(only)[::every]
    results: dict[str, SuiteResult] = {}
    for suite, name, reason in sorted(_verdicts(vectors, numbers, jobs), key=lambda v: v[1]):
        results.setdefault(suite, SuiteResult()).add(name, reason)
    return results


def _verdicts(vectors: Folder, numbers: Sequence[int], jobs: int) -> Iterator[Verdict]:
    chunks = [numbers[i : i + CHUNK] for i in range(0, len(numbers), CHUNK)]
    if jobs <= 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield from _judge(vectors, chunk)
        return
    # spawned, not forked: the engine's threads do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_judge_chunk, str(vectors.path), c): c for c in chunks}
        for done in as_completed(waiting):
            try:
                yield from done.result()
            except BrokenProcessPool:
                for k in waiting[done]:
                    yield _label(vectors, vectors.cases[k]), _name(vectors.cases[k]), "it crashed"


_open: dict[str, Folder] = {}  # in a worker


def _judge_chunk(path: str, numbers: Sequence[int]) -> list[Verdict]:
    if path not in _open:
        _open[path] = Folder(path)
    return list(_judge(_open[path], numbers))


def _judge(vectors: Folder, numbers: Sequence[int]) -> Iterator[Verdict]:
    judge = import_module(JUDGES[vectors.framework]).judge
    for k in numbers:
        case = vectors.cases[k]
        try:
            reason = judge(vectors, case)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        yield _label(vectors, case), _name(case), reason


def _label(vectors: Folder, case: Mapping[str, Any]) -> str:
    if vectors.framework == "caffe2":
        return "caffe2"
    return "fluid gradient" if case["kind"] == "grad" else "fluid forward"


def _name(case: Mapping[str, Any]) -> str:
    return f"{case['op']}: {case['id']}"


# ---- from the command line ---------------------------------------------------------------------


def report(results: Mapping[str, SuiteResult]) -> str:
    """The results as text: each suite, and each failure with its reason."""
    lines = []
    for suite, r in sorted(results.items()):
        lines += [f"  {f['name']}: {f['reason']}" for f in r.failed]
        lines.append(f"{suite}: {r.passed} of {r.total} ({100 * r.share:.1f} %)")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 where all cases pass, 1 otherwise, 2 where there are none."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--op", help="only the cases of this operator")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("-j", "--jobs", type=int, default=2)
    options = parser.parse_args(argv)
    try:
        results = run(options.folder, options.op, options.jobs)
    except (MissingError, FormatError) as error:
        parser.exit(2, f"{error}\n")
    if options.json:
        write_results(options.json, results)
    print(report(results) or "no cases")
    if not results:
        return 2
    return 0 if all(r.passed == r.total for r in results.values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
