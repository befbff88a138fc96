"""One engine on one workload, in a process of its own: `python -m bench.child ENGINE WORKLOAD`.

Says what it took to start, as one line of JSON; then each line read is a number of steps to run,
and each line written the seconds they took. Between them the process waits in a read, and uses no
core. `{"absent": reason}` instead, if the engine cannot run this workload (yet).

An engine is a package with a module for each family of workloads; each module has
`MAKERS: dict[str, Callable[[], Callable[[int], None]]]`, from workload to a function that builds
the network and returns `run(steps)`. A package that serves several engines (PyTorch eager and
compiled) finds out which one it is from BENCH_ENGINE.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from bench.workloads import ENGINES, family_of

Run = Callable[[int], None]


def maker(engine: str, workload: str) -> Callable[[], Run] | None:
    """The function that builds the workload, or None if this engine has none."""
    name = f"{ENGINES[engine].package}.{family_of(workload)}"
    if importlib.util.find_spec(name) is None:
        return None
    return importlib.import_module(name).MAKERS.get(workload)


def serve(run: Run, out: TextIO) -> None:
    """Run as many steps as each line of stdin says."""
    for line in sys.stdin:
        steps, cpu = int(line), time.process_time()
        start = time.perf_counter()
        run(steps)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        _say(out, steps=steps, seconds=seconds, peak_rss_mb=peak, cpu=[cpu, time.process_time()])


def _say(out: TextIO, **what: Any) -> None:
    print(json.dumps(what), file=out, flush=True)


def main() -> None:
    engine, workload = sys.argv[1:3]
    os.environ["BENCH_ENGINE"] = engine
    out = os.fdopen(os.dup(1), "w")  # what libraries print goes to stderr
    os.dup2(2, 1)
    start = time.perf_counter()
    make = maker(engine, workload)
    if make is None:
        _say(out, absent="not yet" if engine == "noria" else "does not run this")
        return
    run = make()
    built = time.perf_counter()
    run(1)
    _say(out, build_s=built - start, first_step_s=time.perf_counter() - built)
    serve(run, out)


if __name__ == "__main__":
    main()
