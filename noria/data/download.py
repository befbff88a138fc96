"""One file from the network, checked before it appears under its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from noria.core.errors import ArgumentError, EngineError, FormatError
from noria.core.files import atomic_write

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from rich.progress import Progress

_CHUNK = 1 << 16


def fetch(
    url: str,
    path: str | os.PathLike[str],
    *,
    check: Callable[[Path], object] | None = None,
    max_bytes: int = 1 << 34,
    timeout: float = 20.0,
) -> None:
    """Downloads `url` (http or https) to `path`, whole or not at all.

    check: called with the complete temporary file; what it raises stops the file from appearing.
    max_bytes: the most that is accepted. timeout: seconds a connection may stay silent.
    A progress bar is shown where stderr is a terminal. Proxies come from the usual environment
    variables.
    Raises ArgumentError for another kind of URL, EngineError if the network or the disk fails,
    FormatError if the transfer is cut short or longer than `max_bytes`.
    """
    from urllib.request import Request, urlopen  # imports what talks to the network

    if urlsplit(url).scheme not in ("http", "https"):
        raise ArgumentError("cannot download this kind of address", expected="http(s)", got=url)
    request = Request(url, headers={"User-Agent": "noria"})
    with _network_errors(url):
        response = urlopen(request, timeout=timeout)

    def receive(file: BinaryIO) -> None:
        _copy(response, file, url, max_bytes)
        if check is not None:
            file.flush()
            check(Path(file.name))

    with response:
        atomic_write(path, receive)


def _copy(response: HTTPResponse, file: BinaryIO, url: str, max_bytes: int) -> None:
    announced = response.headers.get("Content-Length", "")
    total = int(announced) if announced.isdecimal() else None
    done = 0
    with _bar() as bar:
        task = bar.add_task(urlsplit(url).path.rpartition("/")[2], total=total)
        while chunk := _receive(response, url):
            done += len(chunk)
            if done > max_bytes:
                expected = f"at most {max_bytes} bytes"
                raise FormatError("the download is too long", where=url, expected=expected)
            file.write(chunk)
            bar.update(task, advance=len(chunk))
    if total is not None and done != total:
        raise FormatError(
            "the download was cut short", where=url, expected=f"{total} bytes", got=str(done)
        )


def _receive(response: HTTPResponse, url: str) -> bytes:
    with _network_errors(url):
        return response.read(_CHUNK)


@contextmanager
def _network_errors(url: str) -> Iterator[None]:
    """Kept apart from the errors of the disk, which share OSError with those of the network."""
    from http.client import HTTPException
    from urllib.error import HTTPError

    try:
        yield
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None)
        if isinstance(error, HTTPError):
            reason = f"HTTP status {error.code} {error.reason}"
            error.close()
        raise EngineError(
            "download failed",
            where=url,
            got=str(reason or error) or type(error).__name__,
            hint="check the network and its proxy settings (https_proxy)",
        ) from None


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=True,
    )
