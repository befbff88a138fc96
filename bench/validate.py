"""A few steps of a workload at its full size, every fast kernel beside the reference:
`NORIA_VALIDATE=1 python -m bench.validate WORKLOAD`. Prints the steps and seconds as JSON."""

from __future__ import annotations

import json
import sys
import time

from bench.child import maker
from bench.workloads import NORIA
from noria.core.flags import flags

STEPS = 2  # the second one with what the first has updated


def main() -> None:
    workload = sys.argv[1]
    make = maker(NORIA, workload)
    if make is None:
        sys.exit(f"no workload '{workload}'")
    if not flags.validate:
        sys.exit("nothing is compared without NORIA_VALIDATE=1")
    start = time.perf_counter()
    make()(STEPS)
    print(json.dumps({"steps": STEPS, "seconds": round(time.perf_counter() - start, 1)}))


if __name__ == "__main__":
    main()
