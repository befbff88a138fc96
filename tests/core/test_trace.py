"""Provenance: the user's line."""

import os

from noria.core import trace
from noria.core.trace import Source, caller

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(trace.__file__)))


def _function_in(file):
    """A function that calls its argument, as if it were written in `file`."""
    names = {}
    exec(compile("def inner(call):\n    return call()", file, "exec"), names)
    return names["inner"]


def test_the_caller_is_this_line():
    source = caller()
    assert source == Source(__file__, source.line, "test_the_caller_is_this_line")
    with open(__file__) as lines:
        assert "caller()" in lines.read().splitlines()[source.line - 1]


def test_lines_inside_the_package_are_skipped():
    op = _function_in(os.path.join(PACKAGE, "ops", "conv.py"))
    command = _function_in(os.path.join(PACKAGE, "cli", "main.py"))
    assert op(lambda: op(caller)).file == __file__
    assert op(caller).function == "test_lines_inside_the_package_are_skipped"
    assert command(caller).file == __file__


def test_models_of_the_zoo_count_as_user_code():
    file = os.path.join(PACKAGE, "zoo", "resnet.py")
    assert _function_in(file)(caller) == Source(file, 2, "inner")


def test_a_neighbour_with_the_same_beginning_is_user_code():
    file = PACKAGE + "_models/net.py"
    assert _function_in(file)(caller).file == file


def test_there_is_no_caller_when_all_is_inside(monkeypatch):
    monkeypatch.setattr(trace, "_PACKAGE", "")
    monkeypatch.setattr(trace, "_inside", set())
    assert caller() is None


def test_a_source_prints_relative_to_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = Source(str(tmp_path / "nets" / "model.py"), 12, "forward")
    assert str(inside) == os.path.join("nets", "model.py") + ":12"
    assert str(Source("/elsewhere/model.py", 3, "f")) == "/elsewhere/model.py:3"
    monkeypatch.setattr(os, "getcwd", _gone)
    assert str(inside) == f"{inside.file}:12"


def _gone():
    raise FileNotFoundError
