"""Whole or not at all: through full disks, limits, kills and file systems without exchange."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from noria.core import files
from noria.core.errors import ArgumentError, EngineError
from noria.core.files import atomic_directory, atomic_write, recover, storage_errors


def tree(path: Path) -> dict[str, bytes]:
    found = (p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): p.read_bytes() for p in found}


def save(path: Path, **contents: bytes) -> None:
    with atomic_directory(path) as place:
        for name, content in contents.items():
            (place / name).write_bytes(content)


def hidden(path: Path) -> list[str]:
    return [n for n in os.listdir(path) if n.startswith(".")]


def test_file_is_written_with_its_parents_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    atomic_write(path, b"one")
    atomic_write(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file"]


def test_file_is_old_until_the_writer_is_done(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")
    seen = []

    def write(file) -> None:
        file.write(b"new")
        file.flush()
        seen.append(path.read_bytes())
        seen.append(Path(file.name).read_bytes())

    atomic_write(path, write)
    assert seen == [b"old", b"new"]


def test_failing_writer_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def write(file) -> None:
        file.write(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        atomic_write(path, write)
    assert tree(tmp_path) == {"file": b"old"}


def test_directory_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_directory(path) as place:
        (place / "sub").mkdir()
        (place / "sub" / "a").write_bytes(b"1")
        assert not path.exists()
        assert place.parent == tmp_path
    assert tree(path) == {"sub/a": b"1"}
    assert hidden(tmp_path) == []


def test_directory_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save(path, old=b"1", both=b"1")
    save(path, new=b"2", both=b"2")
    assert tree(path) == {"new": b"2", "both": b"2"}
    assert hidden(tmp_path) == []


def test_empty_directory_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    save(tmp_path / "model", a=b"1")
    assert tree(tmp_path / "model") == {"a": b"1"}


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_failing_block_leaves_the_old_directory(tmp_path: Path, error: type) -> None:
    path = tmp_path / "model"
    save(path, a=b"old")
    with pytest.raises(error), atomic_directory(path) as place:
        (place / "a").write_bytes(b"new")
        raise error
    assert tree(tmp_path) == {"model/a": b"old"}
    assert hidden(tmp_path) == []


def test_permissions_follow_the_umask_then_the_old_target(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        atomic_write(tmp_path / "file", b"")
        save(tmp_path / "model", a=b"")
        modes = [stat.S_IMODE(os.stat(tmp_path / n).st_mode) for n in ("file", "model")]
        assert modes == [0o644, 0o755]
        os.chmod(tmp_path / "file", 0o600)
        os.chmod(tmp_path / "model", 0o700)
        atomic_write(tmp_path / "file", b"")
        save(tmp_path / "model", a=b"")
        modes = [stat.S_IMODE(os.stat(tmp_path / n).st_mode) for n in ("file", "model")]
        assert modes == [0o600, 0o700]
    finally:
        os.umask(before)


def test_symbolic_link_keeps_pointing_at_the_replaced_target(tmp_path: Path) -> None:
    save(tmp_path / "real", a=b"1")
    (tmp_path / "link").symlink_to("real")
    save(tmp_path / "link", a=b"2")
    assert (tmp_path / "link").is_symlink()
    assert tree(tmp_path / "real") == {"a": b"2"}


def test_file_and_directory_do_not_replace_each_other(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArgumentError, match="over a directory"):
        atomic_write(tmp_path / "dir", b"")
    with pytest.raises(ArgumentError, match="in the place of a file"):
        save(tmp_path / "file")


def test_path_through_a_file_is_an_engine_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EngineError, match="part of the path is a file"):
        atomic_write(tmp_path / "file" / "x" / "y", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_forbidden_directory_is_an_engine_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EngineError, match="permission denied"):
        atomic_write(tmp_path / "file", b"")


def test_too_long_name_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="name too long"):
        atomic_write(tmp_path / ("x" * 250), b"")


# -- full disks ------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if not mount or subprocess.run([mount, *options], capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_keeps_the_old_directory(tiny_disk: Path) -> None:
    save(tiny_disk / "model", a=b"old")
    with pytest.raises(EngineError, match="cannot write 'model': disk full") as info:
        save(tiny_disk / "model", a=bytes(20_000), b=bytes(100_000))
    assert info.value.where == str(tiny_disk / "model")
    assert info.value.got == f"{os.strerror(errno.ENOSPC)} (errno {errno.ENOSPC})"
    assert info.value.hint
    assert tree(tiny_disk) == {"model/a": b"old"}
    save(tiny_disk / "model", a=bytes(40_000))  # all the space came back


def test_full_disk_keeps_the_old_file(tiny_disk: Path) -> None:
    atomic_write(tiny_disk / "file", b"old")
    with pytest.raises(EngineError, match="disk full"):
        atomic_write(tiny_disk / "file", bytes(100_000))
    assert tree(tiny_disk) == {"file": b"old"}


def test_full_disk_is_understood_through_safetensors(tiny_disk: Path) -> None:
    state = {"w": np.zeros(50_000, np.float32)}
    with pytest.raises(EngineError, match="disk full"), atomic_directory(tiny_disk / "m") as place:
        safetensors.numpy.save_file(state, place / "state.safetensors")
    assert os.listdir(tiny_disk) == []


def test_file_size_limit_keeps_the_old_directory(tmp_path: Path) -> None:
    code = """
import resource, sys
from noria.core.files import atomic_directory
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
with atomic_directory(sys.argv[1]) as place:
    (place / "a").write_bytes(bytes(20_000))
"""
    save(tmp_path / "model", a=b"old")
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model")], capture_output=True, text=True
    )
    assert "EngineError: cannot write 'model': file too large" in ran.stderr
    assert tree(tmp_path) == {"model/a": b"old"}


def test_error_that_names_a_file_elsewhere_passes_unchanged(tmp_path: Path) -> None:
    foreign = PermissionError(errno.EACCES, "no", "/somewhere/else")
    with pytest.raises(PermissionError) as info, storage_errors(tmp_path / "a" / "b"):
        raise foreign
    assert info.value is foreign


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    for error in (ValueError("bad"), OSError("no number"), EngineError("(os error 28)")):
        with pytest.raises(type(error)) as info, storage_errors(tmp_path):
            raise error
        assert info.value is error


# -- kills -----------------------------------------------------------------------------------------

HALF_WAY = """
import sys, time
from noria.core.files import atomic_directory, atomic_write
def stop(file):
    file.write(b"half"); file.flush(); print("ready", flush=True); time.sleep(60)
if sys.argv[2] == "file":
    atomic_write(sys.argv[1], stop)
else:
    with atomic_directory(sys.argv[1]) as place, open(place / "a", "wb") as file:
        stop(file)
"""

FOREVER = """
import sys
from noria.core.files import atomic_directory
for k in range(1, 1_000_000):
    with atomic_directory(sys.argv[1]) as place:
        for name in "abc":
            (place / name).write_text(str(k))
    if k == 1:
        print("ready", flush=True)
"""


@contextlib.contextmanager
def child(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said it is ready; killed with SIGKILL at the end of the block."""
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_killed_writer_leaves_the_old_and_the_next_write_cleans(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "target"

    def write(content: bytes) -> None:
        atomic_write(path, content) if kind == "file" else save(path, a=content)

    def read() -> bytes:
        return path.read_bytes() if kind == "file" else tree(path)["a"]

    write(b"old")
    with child(HALF_WAY, str(path), kind):
        write(b"newer")  # while the other is half way: its temporary is in use and stays
        assert len(hidden(tmp_path)) == 1
    assert read() == b"newer"
    assert len(hidden(tmp_path)) == 1
    write(b"newest")
    assert read() == b"newest"
    assert hidden(tmp_path) == []


def test_kill_at_any_moment_leaves_one_whole_version(tmp_path: Path) -> None:
    path = tmp_path / "model"
    moment = random.Random(7)
    for _ in range(4):
        with child(FOREVER, str(path)):
            time.sleep(moment.uniform(0, 0.05))
        assert len(set(tree(path).values())) == 1
        assert sorted(tree(path)) == ["a", "b", "c"]
    save(path, a=b"last")
    assert os.listdir(tmp_path) == ["model"]


def test_leftovers_of_other_targets_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / ".model.v2.0123456789ab.tmp").mkdir()
    (tmp_path / ".model.mine.tmp").mkdir()
    save(tmp_path / "model", a=b"")
    assert sorted(hidden(tmp_path)) == [".model.mine.tmp", ".model.v2.0123456789ab.tmp"]


def test_threads_replacing_one_directory_never_show_a_part(tmp_path: Path) -> None:
    path = tmp_path / "model"
    save(path, a=b"start", b=b"start")
    errors = []

    def work(name: bytes) -> None:
        try:
            for k in range(10):
                save(path, a=name + bytes([k]), b=name + bytes([k]))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in (b"x", b"y")]
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads):
        place = os.open(path, os.O_DIRECTORY)  # one version, whatever the name points at next
        with contextlib.suppress(FileNotFoundError):  # it was replaced and removed meanwhile
            parts = set()
            for name in "ab":
                with open(os.open(name, os.O_RDONLY, dir_fd=place), "rb") as file:
                    parts.add(file.read())
            assert len(parts) == 1
        os.close(place)
    assert errors == []
    assert hidden(tmp_path) == []


# -- file systems that cannot exchange two directories ---------------------------------------------


@pytest.fixture
def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(one: Path, other: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(files, "_exchange", refuse)


def test_directory_is_replaced_in_two_steps(tmp_path: Path, no_exchange: None) -> None:
    save(tmp_path / "model", a=b"1")
    save(tmp_path / "model", a=b"2")
    assert tree(tmp_path) == {"model/a": b"2"}
    assert hidden(tmp_path) == []


def test_failed_second_step_puts_the_old_directory_back(
    tmp_path: Path, no_exchange: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "model", a=b"old")
    rename = os.rename

    def fail(source: Path, target: Path) -> None:
        if str(source).endswith(".tmp") and not Path(target).exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", fail)
    with pytest.raises(EngineError, match="disk full"):
        save(tmp_path / "model", a=b"new")
    assert tree(tmp_path) == {"model/a": b"old"}


def test_crash_between_the_two_steps_is_healed(tmp_path: Path) -> None:
    (tmp_path / ".model.0123456789ab.old").mkdir()
    (tmp_path / ".model.0123456789ab.old" / "a").write_bytes(b"old")
    recover(tmp_path / "model")
    assert tree(tmp_path) == {"model/a": b"old"}
    recover(tmp_path / "model")  # nothing to do
    recover(tmp_path / "absent" / "model")
    assert tree(tmp_path) == {"model/a": b"old"}


def test_directory_already_replaced_is_swept(tmp_path: Path) -> None:
    save(tmp_path / "model", a=b"1")
    (tmp_path / ".model.0123456789ab.old").mkdir()
    save(tmp_path / "model", a=b"2")
    assert tree(tmp_path) == {"model/a": b"2"}
    assert hidden(tmp_path) == []


def test_exchange_swaps_two_directories(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "is").write_text(name)
    try:
        files._exchange(tmp_path / "a", tmp_path / "b")
    except OSError as error:
        pytest.skip(f"this system or disk cannot exchange: {error}")
    assert tree(tmp_path) == {"a/is": b"b", "b/is": b"a"}
    with pytest.raises(FileNotFoundError):
        files._exchange(tmp_path / "a", tmp_path / "absent")
