"""Draws what `make demo` prints as an SVG: `python docs/make_picture.py docs/images/demo.svg`."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

SHOWN = "runs/demo"  # where `make demo` writes


def demo() -> str:
    """The output of a real run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "noria.cli", "train", "digits", "--out", folder]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return ran.stdout.replace(folder, SHOWN)


def picture(command: str, output: str) -> str:
    """A terminal in which a command was run, as SVG."""
    lines = Text.from_ansi(output.rstrip()).split()
    width = max(len(line) for line in lines)
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "dim"), (command, "bold")))
    for line in lines:
        console.print(line, style="default", highlight=False, soft_wrap=True)
    return console.export_svg(title=command)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(picture("make demo", demo()))
