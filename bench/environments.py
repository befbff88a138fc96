"""An environment for each rival, so that none sees the libraries of another.

`python -m bench.environments` makes those that are missing or whose requirements (envs/NAME.txt)
have changed. A rival whose packages cannot be had is left out of the table; nothing else stops.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

from bench.workloads import ENGINES, NORIA

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "envs"


def home() -> Path:
    """Where the environments are; NORIA_BENCH_ENVS puts them elsewhere."""
    return Path(os.environ.get("NORIA_BENCH_ENVS", HERE / ".envs")).absolute()


def python_of(engine: str) -> Path:
    """The interpreter that runs an engine."""
    name = ENGINES[engine].environment
    return Path(sys.executable) if name == NORIA else home() / name / "bin" / "python"


def fingerprint(name: str) -> str:
    """Of what an environment is made from."""
    text = (REQUIREMENTS / f"{name}.txt").read_bytes() + sys.version.encode()
    return hashlib.sha256(text).hexdigest()


def is_ready(name: str) -> bool:
    """Noria's own always is: it runs in this interpreter."""
    stamp = home() / name / "made-from"
    return name == NORIA or (stamp.is_file() and stamp.read_text() == fingerprint(name))


def make(name: str) -> str | None:
    """Make one environment; the reason if that failed."""
    folder = home() / name
    print(f"environment {name}: {folder}", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "-r", str(REQUIREMENTS / f"{name}.txt")],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    (folder / "made-from").write_text(fingerprint(name))
    return None


def main() -> None:
    names = sorted({e.environment for e in ENGINES.values()} - {NORIA})
    parser = argparse.ArgumentParser(prog="bench.environments", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(names)}; default all")
    for name in parser.parse_args().names or names:
        reason = None if is_ready(name) else make(name)
        if reason:
            print(f"environment {name} could not be made: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
