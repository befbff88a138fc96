"""Processes that compile: what they deliver, and what happens when they do not."""

import io
import os
import subprocess
import sys
import threading
from typing import ClassVar

import pytest

from noria.core import machine
from noria.core.errors import EngineError
from noria.core.flags import flags
from noria.kernels.numba import compilers, jit


def constant(n):
    return f"def kernel(args):\n    return {n}\n", "kernel"


@pytest.fixture
def two(monkeypatch):
    """Two processes, however little there is to do."""
    monkeypatch.setattr(compilers, "WORTH", 0)
    monkeypatch.setenv("NORIA_COMPILERS", "2")


@pytest.fixture
def starts(monkeypatch):
    """Counts processes started, which run what `starts.code` says if it says something."""

    class Starts(subprocess.Popen):
        count, code = 0, ""
        cpus: ClassVar[list[str]] = []

        def __init__(self, command, **how):
            type(self).count += 1
            self.cpus.append(how["env"]["NORIA_CPU"])
            super().__init__([sys.executable, "-c", self.code] if self.code else command, **how)

    monkeypatch.setattr(compilers.subprocess, "Popen", Starts)
    return Starts


def test_processes_compile_what_the_cache_lacks_and_the_parent_keeps_it(cold, two, starts):
    before = jit.stats()
    functions = jit.compile_many([constant(n) for n in range(7)])
    assert [f(0) for f in functions] == list(range(7))
    after = jit.stats()
    assert (after.compiled - before.compiled, starts.count) == (7, 2)
    assert after.seconds > before.seconds and len(os.listdir(cold)) == 7


def test_processes_compile_for_the_cpu_of_the_parent(cold, two, starts, monkeypatch):
    """Whatever the variable says later: tiles of another width would not fit their kernels."""
    monkeypatch.setenv("NORIA_CPU", "native" if compilers.CPU == "avx2" else "avx2")
    jit.compile_many([constant(1), constant(2)])
    assert starts.cpus == [compilers.CPU] * 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def told(monkeypatch):
    """told(standard error, what it was at first): the text after kernels were compiled."""
    monkeypatch.setattr(compilers, "PATIENCE", 0.0)
    monkeypatch.setattr(compilers, "EVERY", 0.01)

    def run(now, before):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", now)
            patch.setattr(sys, "__stderr__", before)
            jit.compile_many([constant(n) for n in range(5)])
        return now.getvalue()

    return run


def test_a_terminal_is_told_how_far_it_is(cold, two, told):
    terminal = Terminal()
    *lines, end = told(terminal, terminal).split("\r")
    assert end == "\x1b[K" and "compiling kernels, 0 of 5" in lines[1]


def test_a_file_is_not_told(cold, two, told):
    file = io.StringIO()
    assert told(file, file) == ""


def test_a_progress_bar_is_left_alone(cold, two, told):
    assert told(Terminal(), Terminal()) == ""


def test_a_moment_is_not_worth_a_line(cold, two, told, monkeypatch):
    monkeypatch.setattr(compilers, "PATIENCE", 60.0)
    terminal = Terminal()
    assert told(terminal, terminal) == ""


def test_the_parent_never_imports_numba(tmp_path, fresh_python):
    code = """
    import sys
    from noria.kernels.numba import compilers, jit
    compilers.WORTH = 0
    wanted = [(f"def kernel(args):\\n    return {n}\\n", "kernel") for n in range(3)]
    print([f(0) for f in jit.compile_many(wanted)], "numba" in sys.modules)
    """
    where = {"NORIA_CACHE": str(tmp_path), "NORIA_COMPILERS": "2"}
    assert fresh_python(code, **where) == "[0, 1, 2] False"


def test_a_user_whose_script_has_no_main_and_another_folder(tmp_path, fresh_python):
    """Nothing of the script runs twice, and no module of its folder is taken for one of ours."""
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    code = f"""
    import os, sys
    print("once")
    from noria.kernels.numba import compilers, jit
    compilers.WORTH = 0
    os.chdir({str(tmp_path)!r})
    wanted = [(f"def kernel(args):\\n    return {{n}}\\n", "kernel") for n in range(3)]
    print(len(jit.compile_many(wanted)), "numba" in sys.modules)
    """
    where = {"NORIA_CACHE": str(tmp_path / "cache"), "NORIA_COMPILERS": "2"}
    assert fresh_python(code, **where) == "once\n3 False"


@pytest.mark.parametrize(
    "code",
    [
        "raise SystemExit(1)",
        "import os; os.kill(os.getpid(), 9)",
        "print('what is this')",
        "input(); print('x' * 8)",  # a length that is no length
        "input(); import os; os.write(1, bytes(8))",
        "input(); import os; os.write(1, (5).to_bytes(8, 'little') + b'12345')",
        "import os; os.close(0); os.close(1); import time; time.sleep(60)",
    ],
)
def test_what_a_process_does_not_deliver_is_compiled_here(cold, two, starts, code):
    starts.code = code
    assert [f(0) for f in jit.compile_many([constant(n) for n in range(4)])] == [0, 1, 2, 3]
    assert starts.count == 2


def test_no_process_to_be_had(cold, two, monkeypatch):
    def refuse(*args, **how):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(compilers.subprocess, "Popen", refuse)
    assert [f(0) for f in jit.compile_many([constant(1), constant(2)])] == [1, 2]


def test_no_thread_to_be_had(cold, two, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(compilers.threading.Thread, "start", refuse)
    assert [f(0) for f in jit.compile_many([constant(1), constant(2)])] == [1, 2]


def test_a_source_that_does_not_compile_raises_what_it_raises_here(cold, two):
    wrong = "def kernel(args):\n    return x\n", "kernel"
    with pytest.raises(EngineError, match="cannot compile kernel 'kernel'"):
        jit.compile_many([constant(1), wrong, constant(3)])
    assert jit.compile_source(*constant(3))(0) == 3


def test_no_process_is_left_behind(cold, two, starts, monkeypatch):
    made = []
    begin = starts.__init__

    def watch(self, *args, **how):
        begin(self, *args, **how)
        made.append(self)

    monkeypatch.setattr(starts, "__init__", watch)

    def interrupt(self):
        raise KeyboardInterrupt

    jit.compile_many([constant(1), constant(2)])
    with monkeypatch.context() as patch:
        finish = compilers._Process.finish
        turns = iter((interrupt, *[finish] * 9))
        patch.setattr(compilers._Process, "finish", lambda self: next(turns)(self))
        with pytest.raises(KeyboardInterrupt):
            jit.compile_many([constant(3), constant(4)])
    assert len(made) == 4 and all(p.returncode is not None for p in made)
    assert all(p.stdin.closed and p.stdout.closed for p in made)
    assert not any("_feed" in t.name for t in threading.enumerate())


JOBS = [("x" * compilers.WORTH, "kernel", "symbol")] * 20


@pytest.mark.parametrize(
    ("jobs", "flag", "want"),
    [
        ([], "auto", 0),
        (JOBS[:1], "auto", 0),
        ([("x", "kernel", "symbol")] * 20, "auto", 0),
        (JOBS, "0", 0),
        (JOBS, "3", 3),
        (JOBS[:2], "3", 2),
        (JOBS, "auto", 4),
        (JOBS[:2], "auto", 2),
    ],
)
def test_processes_are_started_where_they_pay(monkeypatch, jobs, flag, want):
    monkeypatch.setattr(machine, "cpu_count", lambda: 4)
    monkeypatch.setattr(machine, "memory_left", lambda: 1 << 40)
    with flags.set(compilers=flag):
        assert compilers._count(jobs) == want


def test_an_application_without_an_interpreter_compiles_by_itself(monkeypatch):
    with flags.set(compilers=2):
        assert compilers._count(JOBS) == 2
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        assert compilers._count(JOBS) == 0
        monkeypatch.delattr(sys, "frozen")
        monkeypatch.setattr(sys, "executable", None)
        assert compilers._count(JOBS) == 0


def test_a_container_without_room_starts_none(monkeypatch):
    monkeypatch.setattr(machine, "cpu_count", lambda: 4)
    for left, want in ((450 << 20, 2), (150 << 20, 0), (0, 0)):
        monkeypatch.setattr(machine, "memory_left", lambda left=left: left)
        assert compilers._count(JOBS) == want
