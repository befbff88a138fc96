"""Entries on disk: whole or absent, ours or unread."""

import ast
import hashlib
import os
import threading
from pathlib import Path

from noria.kernels.numba import cache, jit
from noria.kernels.numba.loader import ObjectCode

ENTRY = ObjectCode("symbol", ("exp", "memset"), bytes(range(256)) * 20)
TEXT = "def kernel(args):\n    return 41\n"


def test_an_entry_comes_back_as_it_was_written(cold):
    cache.write("name", ENTRY)
    assert cache.read("name") == ENTRY
    assert cache.read("other") is None
    assert os.listdir(cold) == ["name"]


def test_the_folder_is_the_users_own(cold):
    cache.write("name", ENTRY)
    assert cold.stat().st_mode & 0o777 == 0o700


def test_the_key_tells_sources_and_functions_apart():
    assert cache.key("text", "f") == cache.key("text", "f")
    assert len({cache.key("text", "f"), cache.key("text ", "f"), cache.key("text", "g")}) == 3


def damaged(data):
    yield b""
    yield data[:10]
    yield data[: len(data) // 2]
    yield data[:-1]
    yield data + b"x"
    yield b"x" * len(data)
    for at in (0, 14, 20, 50, 60, len(data) // 2, len(data) - 1):
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_damaged_entry_is_compiled_again_and_replaced(cold, monkeypatch):
    jit.compile_source(TEXT, "kernel")
    (file,) = cold.iterdir()
    whole = file.read_bytes()
    for data in damaged(whole):
        file.write_bytes(data)
        monkeypatch.setattr(jit, "_functions", {})
        compiled = jit.stats().compiled
        assert jit.compile_source(TEXT, "kernel")(0) == 41
        assert jit.stats().compiled == compiled + 1
        assert cache.read(file.name) is not None


def test_a_head_that_is_not_ours_is_no_entry(cold):
    cold.mkdir()
    for head in (b"[]", b"{}", b"\xff", b"nonsense"):
        body = len(head).to_bytes(4, "little") + head
        (cold / "name").write_bytes(cache._MAGIC + hashlib.sha256(body).digest() + body)
        assert cache.read("name") is None


def test_an_entry_of_another_user_is_not_run(cold, monkeypatch):
    cache.write("name", ENTRY)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    owner = (cold / "name").stat().st_uid
    assert cache.read("name") == (ENTRY if owner == 0 else None)
    monkeypatch.setattr(
        cache.os, "fstat", lambda fd: os.stat_result((0,) * 4 + (12345,) + (0,) * 5)
    )
    assert cache.read("name") is None


def test_a_folder_that_cannot_be_written_is_passed_over(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("x")
    monkeypatch.setenv("NORIA_CACHE", str(file))
    cache.write("name", ENTRY)
    assert cache.read("name") is None
    assert file.read_text() == "x"


def test_a_full_disk_leaves_no_part_behind(cold, monkeypatch):
    cold.mkdir()

    def full(self, data):
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.Path, "write_bytes", full)
    cache.write("name", ENTRY)
    assert list(cold.iterdir()) == [] and cache.read("name") is None


def test_writers_at_the_same_time_leave_one_whole_entry(cold):
    def write():
        for _ in range(50):
            cache.write("name", ENTRY)
            assert cache.read("name") == ENTRY

    threads = [threading.Thread(target=write) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert os.listdir(cold) == ["name"]


def _imported(name: str) -> set[str]:
    """Modules beside the cache that one of them imports."""
    tree = ast.parse((Path(cache.__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    package, found = "noria.kernels.numba", set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == package:
                found |= {alias.name for alias in node.names}
            elif node.module.startswith(f"{package}."):
                found.add(node.module.rsplit(".", 1)[1])
    return found


def test_all_that_decides_what_a_source_becomes_is_in_the_name():
    """Else a kernel compiled by an older version would be loaded after a change."""
    known, new = {"lower"}, {"lower"}
    while new:
        new = set().union(*map(_imported, new)) - known
        known |= new
    assert known == set(cache._GENERATORS)
