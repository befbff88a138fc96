"""Networks for inference in noria's own form, made by a process of their own, so that the one that
is measured holds nothing but what it loads: `python -m bench.noria_side.saved WORKLOAD PATH`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.workloads import CACHE

PROGRAMS = {"bert_base_infer_bs1": "bert_program"}  # of `attention.py`


def saved(workload: str, *, anew: bool = False) -> Path:
    """The directory of a workload's network; it is made if it is not there, or anew."""
    path = CACHE / f"noria_{workload}"
    if anew or not path.exists():
        CACHE.mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-m", __spec__.name, workload, str(path)], check=True)
    return path


def main() -> None:
    import noria  # here, because who asks for a path needs neither
    from bench.noria_side import attention
    from noria.ir.save import save

    workload, path = sys.argv[1:3]
    program = getattr(attention, PROGRAMS[workload])()
    save(program, path, noria.Scope().initialize(program).state())


if __name__ == "__main__":
    main()
