from __future__ import annotations

import subprocess
import sys


def test_python_dash_m_is_the_command_line() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "noria.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("Usage: noria ")
