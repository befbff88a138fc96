"""Small real data sets: found on this computer where possible, else downloaded and checked."""

from __future__ import annotations

import gzip
import importlib.util
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from noria.core.errors import (
    ArgumentError,
    ExtraMissing,
    FormatError,
    MissingError,
    NoriaError,
    nearest,
)
from noria.data.dataset import ArrayDataset
from noria.data.download import fetch
from noria.data.idx import read_idx

Split = Literal["train", "test"]
Folder = str | os.PathLike[str] | None

_DIGITS_CHARACTERS = 1 << 20  # the file has 264,712; the bound stops a gzip bomb

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class _IdxSource:
    """A data set published as the four IDX files of MNIST."""

    title: str
    folder: str  # in the cache
    mirrors: tuple[str, ...]
    sha256: dict[str, str]  # file name -> sum of the *uncompressed* file
    system: tuple[Path, ...] = ()
    package: str = ""


# The sums are of the uncompressed files because distributions compress them again: Debian's .gz
# differ from Zalando's in the header. They were taken from Debian's dataset-fashion-mnist
# 0.0~git20200523; with file name and time put back into their headers, those .gz have the MD5 that
# https://github.com/zalandoresearch/fashion-mnist publishes (8d4fb7e6..., 25c81989..., bef4ecab...,
# bb300cfd...), so the content is the same.
_FASHION = _IdxSource(
    title="Fashion-MNIST",
    folder="fashion-mnist",
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    sha256={
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    },
    system=(Path("/usr/share/datasets/fashion-mnist"),),
    package="dataset-fashion-mnist",
)

# The sums that users of the files publish; the files' first home, yann.lecun.com/exdb/mnist, no
# longer serves them, and the mirrors are those of PyTorch and of the CVDF.
_MNIST = _IdxSource(
    title="MNIST",
    folder="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sha256={
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    },
)


def fashion_mnist(split: Split = "train", data_dir: Folder = None) -> ArrayDataset:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017; MIT licence): 60,000 train, 10,000 test photos.

    `image` float32 `[N, 1, 28, 28]` in 0..1, `label` int64 `[N]` into `FASHION_CLASSES`.
    Looked for in `data_dir`, in `/usr/share/datasets/fashion-mnist` (Debian's package
    dataset-fashion-mnist), in the cache (`~/.cache/noria/data/fashion-mnist`), then downloaded into
    the cache (30 MB). Files in `data_dir` are the user's own: only their form is checked. All
    others must have the published content.
    Raises ArgumentError for another split, MissingError if the files cannot be had, FormatError if
    one is broken.
    """
    return _load(_FASHION, split, data_dir)


def mnist(split: Split = "train", data_dir: Folder = None) -> ArrayDataset:
    """MNIST (LeCun, Cortes, Burges, 1998): 60,000 train, 10,000 test handwritten digits.

    `image` float32 `[N, 1, 28, 28]` in 0..1, `label` int64 `[N]` in 0..9.
    Looked for in `data_dir`, in the cache (`~/.cache/noria/data/mnist`), then downloaded into the
    cache (12 MB); checks and errors as for `fashion_mnist`.
    """
    return _load(_MNIST, split, data_dir)


def digits(split: Split = "train", data_dir: Folder = None) -> ArrayDataset:
    """UCI handwritten digits (Alpaydin, Kaynak, 1998; CC BY 4.0): 1,437 train, 360 test.

    `image` float32 `[N, 1, 8, 8]` in 0..1 (multiples of 1/16), `label` int64 `[N]` in 0..9.
    The split is fixed and has every digit in the proportion of the whole. Read from
    `digits.csv.gz` in `data_dir`, or else from the installed scikit-learn package, which is not
    imported.
    Raises ArgumentError for another split, ExtraMissing without scikit-learn, FormatError if the
    file is broken.
    """
    _check_split(split)
    table = _read_digits(_digits_file(data_dir))
    # Raw words of Philox: NumPy promises that they never change; of `permutation` it does not.
    mixed = np.random.Philox(key=1998).random_raw(len(table))
    by_label = np.lexsort((mixed, table[:, 64]))
    is_test = np.zeros(len(table), bool)
    is_test[by_label[::5]] = True
    rows = table[is_test if split == "test" else ~is_test]
    images = (rows[:, :64] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return ArrayDataset({"image": images, "label": rows[:, 64].astype(np.int64)})


def _digits_file(data_dir: Folder) -> Path:
    if data_dir is not None and (own := Path(data_dir, "digits.csv.gz")).is_file():
        return own
    spec = importlib.util.find_spec("sklearn")  # finds it without running its __init__
    for place in (spec and spec.submodule_search_locations) or ():
        packaged = Path(place, "datasets", "data", "digits.csv.gz")
        if packaged.is_file():
            return packaged
    raise ExtraMissing("scikit-learn", "data", "the digits data set")


def _read_digits(path: Path) -> np.ndarray:
    """`[1797, 65]`: 64 pixels in 0..16, row by row, then the label."""
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            rows = file.read(_DIGITS_CHARACTERS).splitlines()
        table = np.array([row.split(",") for row in rows], np.float64)
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise FormatError("broken file of digits", where=str(path), got=str(error)) from None
    good = table.shape == (1797, 65) and table.min() >= 0
    if not (good and table[:, :64].max() <= 16 and table[:, 64].max() <= 9):
        raise FormatError(
            "not the UCI digits",
            where=str(path),
            expected="1797 rows: 64 pixels in 0..16 and a label in 0..9",
            got=f"{list(table.shape)}, {table.min(initial=0)} to {table.max(initial=0)}",
        )
    return table


def _load(source: _IdxSource, split: Split, data_dir: Folder) -> ArrayDataset:
    _check_split(split)
    prefix = "train" if split == "train" else "t10k"
    names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    own = None if data_dir is None else _pair(Path(data_dir), names)
    paths = own or _published_pair(source, names)
    sums = ("", "") if own else (source.sha256[names[0]], source.sha256[names[1]])
    try:
        images, labels = (read_idx(p, sha256=s) for p, s in zip(paths, sums, strict=True))
    except FormatError as error:
        error.hint = error.hint or "remove this file; another copy is then looked for"
        raise
    if images.shape != (len(labels), 28, 28) or labels.ndim != 1:
        raise FormatError(
            f"the files do not belong together as {source.title} does",
            where=f"{paths[0]} and {paths[1].name}",
            expected="images [N, 28, 28] and labels [N]",
            got=f"{list(images.shape)} and {list(labels.shape)}",
        )
    scaled = np.divide(images, np.float32(255), dtype=np.float32)
    return ArrayDataset({"image": scaled[:, None], "label": labels.astype(np.int64)})


def _published_pair(source: _IdxSource, names: tuple[str, str]) -> tuple[Path, Path]:
    cache = _cache_dir() / source.folder
    for folder in (*source.system, cache):
        if found := _pair(folder, names):
            return found
    images, labels = (_file(cache, name) or _download(source, name, cache) for name in names)
    return images, labels


def _download(source: _IdxSource, name: str, cache: Path) -> Path:
    path = cache / f"{name}.gz"
    failures: list[str] = []
    for mirror in source.mirrors:
        url = f"{mirror}{name}.gz"
        try:
            fetch(
                url,
                path,
                check=lambda file: read_idx(file, sha256=source.sha256[name]),
                max_bytes=1 << 26,
            )
            return path
        except NoriaError as error:
            failures.append(f"{url}: {error.what} ({error.got})")
    files = ", ".join(f"{file}.gz" for file in source.sha256)
    install = f"apt install {source.package}, or " if source.package else ""
    raise MissingError(
        f"{source.title} is not on this computer and could not be downloaded",
        expected=" or in ".join(map(str, ("data_dir", *source.system, cache))),
        got="; ".join(failures),
        hint=f"{install}put {files} into {cache}",
    )


def _pair(folder: Path, names: tuple[str, str]) -> tuple[Path, Path] | None:
    """Both files from one folder: images of one place never meet labels of another."""
    images, labels = (_file(folder, name) for name in names)
    return (images, labels) if images and labels else None


def _file(folder: Path, name: str) -> Path | None:
    candidates = (folder / f"{name}.gz", folder / name)
    return next((path for path in candidates if path.is_file()), None)


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noria" / "data"


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        hint = nearest(str(split), ("train", "test"))
        raise ArgumentError("no such split", got=repr(split), hint=hint)
