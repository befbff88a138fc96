"""One engine on one workload, in a process of its own: `python -m bench.child ENGINE WORKLOAD`.

Each line read is a number of steps to run; each line written is JSON with the seconds they took.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time


def main() -> None:
    engine, workload = sys.argv[1:3]
    start = time.perf_counter()
    run = importlib.import_module(f"bench.{engine}_side").make(workload)
    built = time.perf_counter()
    run(1)
    first = time.perf_counter()
    print(json.dumps({"build_s": built - start, "first_step_s": first - built}), flush=True)
    for line in sys.stdin:
        steps = int(line)
        start = time.perf_counter()
        run(steps)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"seconds": seconds, "steps": steps, "peak_rss_mb": peak}), flush=True)


if __name__ == "__main__":
    main()
