"""Against a real HTTP server on this computer that also misbehaves on request."""

from __future__ import annotations

import http.server
import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from noria.core.errors import ArgumentError, EngineError, FormatError
from noria.data import download
from noria.data.download import fetch

BODY = bytes(range(256)) * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    agents: list[str]

    def do_GET(self) -> None:
        type(self).agents.append(self.headers["User-Agent"])
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/file.gz")
            self.end_headers()
            return
        self.send_response(200)
        if self.path != "/unsized":
            size = {"/short": len(BODY) + 10, "/nonsense": "many"}.get(self.path, len(BODY))
            self.send_header("Content-Length", str(size))
        self.end_headers()
        if self.path == "/silent":
            self.wfile.flush()
            self.server.release.wait(10)
        else:
            self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Handler.agents = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.release = threading.Event()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.release.set()
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["file.gz", "unsized", "nonsense", "moved"])
def test_file_arrives_whole(server: str, tmp_path: Path, name: str) -> None:
    fetch(f"{server}/{name}", tmp_path / "deep" / "file")
    assert (tmp_path / "deep" / "file").read_bytes() == BODY
    assert os.listdir(tmp_path / "deep") == ["file"]
    assert set(Handler.agents) == {"noria"}


def test_check_sees_the_complete_file_before_it_has_its_name(server: str, tmp_path: Path) -> None:
    seen = []

    def check(path: Path) -> None:
        seen.append((path.read_bytes(), (tmp_path / "file").exists()))

    fetch(f"{server}/file.gz", tmp_path / "file", check=check)
    assert seen == [(BODY, False)]


def test_failed_check_leaves_the_old_file(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def check(path: Path) -> None:
        raise FormatError("wrong sum")

    with pytest.raises(FormatError, match="wrong sum"):
        fetch(f"{server}/file.gz", tmp_path / "file", check=check)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("name", "message"), [("short", "cut short"), ("file.gz", "too long"), ("unsized", "too long")]
)
def test_wrong_length_is_a_format_error(
    server: str, tmp_path: Path, name: str, message: str
) -> None:
    limit = len(BODY) - 1 if message == "too long" else len(BODY)
    with pytest.raises(FormatError, match=message):
        fetch(f"{server}/{name}", tmp_path / "file", max_bytes=limit)
    assert os.listdir(tmp_path) == []


def test_missing_page_is_an_engine_error(server: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="HTTP status 404") as info:
        fetch(f"{server}/missing", tmp_path / "file")
    assert info.value.where == f"{server}/missing"


def test_silent_server_is_an_engine_error_after_the_timeout(server: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="timed out"):
        fetch(f"{server}/silent", tmp_path / "file", timeout=0.1)
    assert os.listdir(tmp_path) == []


def test_no_server_is_an_engine_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening
        with pytest.raises(EngineError, match="download failed") as info:
            fetch(f"http://127.0.0.1:{unused.getsockname()[1]}/x", tmp_path / "file")
    assert "refused" in info.value.got
    assert "network" in info.value.hint


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "just-a-name"])
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ArgumentError, match="cannot download this kind"):
        fetch(url, tmp_path / "file")


def test_full_disk_is_not_taken_for_a_network_error(server: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space"), open("/dev/full", "wb", buffering=0) as full:
        download._copy(_Response(BODY), full, "http://x/y", 10**9)


class _Response(io.BytesIO):
    headers: ClassVar[dict[str, str]] = {}


def test_progress_is_silent_off_a_terminal(
    server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fetch(f"{server}/file.gz", tmp_path / "file")
    assert capfd.readouterr() == ("", "")


def test_progress_bar_shows_on_a_terminal(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    fetch(f"{server}/file.gz", tmp_path / "file")
    assert "file.gz" in terminal.getvalue()
