"""`import noria` loads what it takes to write Programs; all else comes when it is asked for."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import noria

# What takes long to load and few need, or only later: the terminal, the network, the compilers.
NOT_AT_ONCE = ("rich", "click", "ssl", "socket", "http.client", "urllib.request", "subprocess")
COMPILERS = ("numba", "llvmlite", "jax", "jinja2")
ENGINE = ("noria.kernels", "noria.runtime", "noria.train", "noria.passes.pipeline")


def loaded(code: str) -> set[str]:
    """Names of the modules that a fresh Python has after it ran `code`."""
    code += "\nimport sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_the_import_loads_no_engine_no_terminal_and_no_network() -> None:
    found = loaded("import noria")
    assert "noria.ops.library" in found
    assert not found.intersection(NOT_AT_ONCE + COMPILERS + ENGINE)


def test_the_engine_loads_no_terminal_no_network_and_no_compiler_of_python() -> None:
    found = loaded("import noria; noria.Executor, noria.Predictor, noria.Trainer, noria.profile")
    assert "noria.kernels.library" in found
    assert not found.intersection(("rich", "ssl", "http.client", "urllib.request", "numba", "jax"))


COMPLETE = {"_NORIA_COMPLETE": "zsh_complete", "COMP_WORDS": "noria", "COMP_CWORD": "1"}


@pytest.mark.parametrize("environment", [{}, COMPLETE], ids=["help", "completion"])
def test_help_and_completion_load_no_engine(environment: dict[str, str]) -> None:
    code = f"""
import os
os.environ.update({environment})
from noria.cli.main import cli
try:
    cli.main(["--help"], prog_name="noria")
except SystemExit as end:
    assert not end.code
"""
    found = loaded(code)
    assert "click" in found and not found.intersection(("rich", *COMPILERS, *ENGINE))


def test_what_is_loaded_later_is_declared_for_type_checkers_under_the_same_names() -> None:
    tree = ast.parse(Path(noria.__file__).read_text())
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    declared = {
        name.name: line.module
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for name in line.names
    }
    assert declared == noria._later
    assert declared.keys() <= set(noria.__all__) and set(noria.__all__) <= set(dir(noria))


def test_a_name_that_noria_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Exekutor'"):
        noria.Exekutor  # noqa: B018
