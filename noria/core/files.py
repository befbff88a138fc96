"""Files and directories that appear whole or not at all.

Everything is written into a hidden sibling (`.NAME.<12 hex digits>.tmp`), forced to disk, and then
renamed over the target. A crash, a full disk or a kill at any moment leaves the old content in
place; the hidden sibling it may leave behind is ignored by readers and removed by the next write to
the same target. A sibling in use is told from a left one by its `flock`, which dies with its owner,
so process ids, containers and restarts do not matter. POSIX only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from noria.core.errors import ArgumentError, EngineError, NoriaError

_TEMPORARY, _ASIDE = "tmp", "old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # <fcntl.h>, <linux/fs.h>
_NO_EXCHANGE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM}  # EPERM: a sandbox
_REASONS = {
    errno.ENOSPC: ("disk full", "free some space, or write to another disk"),
    errno.EDQUOT: ("disk quota used up", "free some space, or write to another disk"),
    errno.EFBIG: ("file too large", "raise the limit (ulimit -f), or write to another file system"),
    errno.EROFS: ("file system is read-only", "write to another place"),
    errno.EACCES: ("permission denied", "write to another place, or change its permissions"),
    errno.EPERM: ("operation not permitted", "write to another place, or change its permissions"),
    errno.ENOTDIR: ("a part of the path is a file", "write to another place"),
    errno.ENAMETOOLONG: ("name too long", "choose a shorter name"),
    errno.EIO: ("the disk reports an error", "check the disk, or write to another one"),
}


def atomic_write(
    path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], object]
) -> None:
    """Writes a file so that readers see the old content or all of the new, never a part.

    `content` is the bytes, or a function that writes them into the open file it is given (mode
    `w+b`; its `name` is the temporary path). Parent directories are made. An existing file keeps
    its permissions; a symbolic link keeps pointing where it did.
    Raises ArgumentError if `path` is a directory, EngineError if the disk is full or refuses, and
    whatever `content` raises; the old file is intact after any of them.
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise ArgumentError("cannot write a file over a directory", where=str(target))
    with storage_errors(target), _workspace(target, _make_file) as temporary:
        with open(temporary, "r+b") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        _keep_mode(target, temporary)
        os.replace(temporary, target)
        _sync(target.parent)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Builds a directory that takes the place of `path` when the `with` block ends well.

    Yields the empty temporary directory to fill. Parent directories are made. What stood at `path`
    is replaced in one step (Linux: `renameat2`), so a reader finds the old directory or the new
    one. File systems without that step (NFS) move the old one aside first: `recover` heals a crash
    between the two.
    Raises ArgumentError if `path` is a file, EngineError if the disk is full or refuses, and
    whatever the block raises; the old directory is intact after any of them.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_dir():
        raise ArgumentError("cannot put a directory in the place of a file", where=str(target))
    with storage_errors(target), _workspace(target, _make_directory) as temporary:
        yield temporary
        _sync_tree(temporary)
        _keep_mode(target, temporary)
        _swap(temporary, target)
        _sync(target.parent)


def recover(path: str | os.PathLike[str]) -> None:
    """Puts back a directory that a crash left moved aside; loaders call it before they look.

    Nothing happens when `path` exists or nothing was left (which is always so on file systems that
    replace a directory in one step).
    """
    target = Path(os.path.realpath(path))
    if not target.exists():
        for aside in _siblings(target, _ASIDE):
            with contextlib.suppress(OSError):  # another process was first
                os.rename(aside, target)


@contextlib.contextmanager
def storage_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what a disk refuses while `path` is written (full, read-only ...) into EngineError.

    Every other exception passes unchanged, also an OSError that names a file elsewhere.
    """
    try:
        yield
    except Exception as error:
        code = _errno(error)
        reason = _REASONS.get(code)
        if reason is None or not _concerns(error, Path(path)):
            raise
        what, hint = reason
        raise EngineError(
            f"cannot write '{Path(path).name}': {what}",
            where=str(path),
            got=f"{os.strerror(code)} (errno {code})",
            hint=hint,
        ) from error


def _errno(error: Exception) -> int:
    """The system's error number. Rust libraries (safetensors) tell it in their text alone."""
    if isinstance(error, OSError):
        return error.errno or 0
    told = None if isinstance(error, NoriaError) else re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else 0


def _concerns(error: Exception, path: Path) -> bool:
    """Whether the error is about `path`, its siblings, or a parent of it (a write names none)."""
    filename = getattr(error, "filename", None)
    if not isinstance(filename, str):
        return True
    named = Path(os.path.abspath(filename))
    place = Path(os.path.abspath(path)).parent
    return named.is_relative_to(place) or place.is_relative_to(named)


@contextlib.contextmanager
def _workspace(target: Path, make: Callable[[Path], int]) -> Iterator[Path]:
    """A fresh locked sibling of `target`; what is left under its name at the end is removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    sweep(target)
    temporary, lock = _create(target, make)
    try:
        yield temporary
    finally:
        _remove(temporary)
        os.close(lock)


def _create(target: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Makes and locks a temporary; again if a sweeper took it between the two."""
    while True:
        temporary = _sibling(target, _TEMPORARY)
        try:
            lock = make(temporary)
        except FileNotFoundError:  # taken between being made and being opened
            if not target.parent.exists():
                raise
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        except OSError:  # a file system without locks: there no sweeper can take it either
            return temporary, lock
        if temporary.exists():
            return temporary, lock
        os.close(lock)


def _make_file(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o666)


def _make_directory(path: Path) -> int:
    os.mkdir(path)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def sweep(target: Path) -> None:
    """Removes temporaries whose owner is gone, and old directories already replaced."""
    for left in _siblings(target, _TEMPORARY):
        with contextlib.suppress(OSError):  # in use, not ours, or gone meanwhile
            lock = os.open(left, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(left)
            finally:
                os.close(lock)
    if target.exists():
        for aside in _siblings(target, _ASIDE):
            _remove(aside)


def _sibling(target: Path, kind: str) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(6)}.{kind}")


def _siblings(target: Path, kind: str) -> list[Path]:
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{12}}\.{kind}")
    with contextlib.suppress(OSError):
        return [target.parent / n for n in os.listdir(target.parent) if name.fullmatch(n)]
    return []


def _remove(path: Path) -> None:
    """Removes a file or tree as far as it can; the rest waits for the next sweep."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _swap(new: Path, target: Path) -> None:
    """Renames the directory `new` to `target`. What stood there is left under the name of `new`."""
    while True:
        try:
            os.rename(new, target)  # POSIX also replaces an empty directory here
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        try:
            _exchange(new, target)
            return
        except FileNotFoundError:
            continue  # the old one was removed meanwhile
        except OSError as error:
            if error.errno not in _NO_EXCHANGE:
                raise
        _swap_in_two_steps(new, target)
        return


def _exchange(one: Path, other: Path) -> None:
    """Swaps two paths in one step. OSError(ENOSYS or EINVAL): not on this system or disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = ctypes.c_char_p(os.fsencode(one)), ctypes.c_char_p(os.fsencode(other))
    at = ctypes.c_int(_AT_FDCWD)
    if libc.renameat2(at, paths[0], at, paths[1], ctypes.c_uint(_RENAME_EXCHANGE)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(one), None, str(other))


def _swap_in_two_steps(new: Path, target: Path) -> None:
    aside = _sibling(target, _ASIDE)
    os.rename(target, aside)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(aside, target)
        raise
    _remove(aside)


def _keep_mode(target: Path, temporary: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root, topdown=False):
        for path in (Path(folder, name) for name in names):
            if path.is_file() and not path.is_symlink():
                _sync(path)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync a directory
            raise
    finally:
        os.close(fd)
