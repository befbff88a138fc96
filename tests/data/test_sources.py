from __future__ import annotations

import gzip
import hashlib
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ExtraMissing, FormatError, MissingError
from noria.data import sources
from noria.data.dataset import ArrayDataset
from noria.data.idx import read_idx, write_idx
from noria.data.sources import FASHION_CLASSES, digits, fashion_mnist, mnist

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
NOWHERE = ("http://127.0.0.1:9/",)  # the discard port: refused at once

needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed"
)
needs_debian = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


def write_pair(folder: Path, split: str = "train", n: int = 5, suffix: str = ".gz") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    images = np.arange(n * 784).reshape(n, 28, 28) % 256
    write_idx(folder / f"{split}-images-idx3-ubyte{suffix}", images.astype(np.uint8))
    write_idx(folder / f"{split}-labels-idx1-ubyte{suffix}", np.arange(n).astype(np.uint8) % 10)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a network that refuses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    for name in ("_FASHION", "_MNIST"):
        source = replace(getattr(sources, name), mirrors=NOWHERE, system=())
        monkeypatch.setattr(sources, name, source)
    return tmp_path / "cache" / "noria" / "data"


# -- digits ----------------------------------------------------------------------------------------


@needs_sklearn
def test_digits_have_their_shapes_and_range() -> None:
    for split, n in (("train", 1437), ("test", 360)):
        dataset = digits(split)
        assert repr(dataset) == f"ArrayDataset({n} x {{image: float32 [1, 8, 8], label: int64 []}})"
        assert dataset["image"].min() == 0
        assert dataset["image"].max() == 1


@needs_sklearn
def test_digits_agree_with_scikit_learn() -> None:
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    expected = sorted(
        (label, image.tobytes())
        for label, image in zip(
            theirs.target.tolist(), (theirs.images / 16).astype(np.float32), strict=True
        )
    )
    ours = [digits("train"), digits("test")]
    found = [
        (int(label), image.tobytes())
        for part in ours
        for label, image in zip(part["label"], part["image"], strict=True)
    ]
    assert sorted(found) == expected


@needs_sklearn
def test_digits_split_is_fixed_and_stratified() -> None:
    train, test = digits("train"), digits("test")
    assert hashlib.sha256(test["image"].tobytes()).hexdigest()[:16] == "e9c79baf429fff6d"
    whole = np.bincount(train["label"]) + np.bincount(test["label"])
    assert np.abs(np.bincount(test["label"]) - whole / 5).max() < 1


@needs_sklearn
def test_digits_do_not_import_scikit_learn() -> None:
    code = """
import sys
from noria.data.sources import digits
digits()
print("sklearn" in sys.modules, "scipy" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False False\n"


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match="scikit-learn") as info:
        digits()
    assert info.value.hint == "pip install 'noria[data]'"


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        (b"", 0),
        (b"1,2\n3\n", 0),
        (b"a,b\n", 0),
        (b"1,2,3\n", 0),
        (("nan," * 64 + "1\n").encode() * 1797, 0),
        (("17," * 64 + "1\n").encode() * 1797, 0),
        ("ü".encode(), 0),
        (bytes(10**7), 0),
        (b"1,2\n" * 100, 9),
    ],
    ids=["empty", "ragged", "text", "few", "nan", "large", "no-ascii", "zeros", "truncated"],
)
def test_broken_digits_are_a_format_error(tmp_path: Path, content: bytes, cut: int) -> None:
    packed = gzip.compress(content)
    _refused(tmp_path, packed[: len(packed) - cut])


def test_digits_that_are_no_gzip_are_a_format_error(tmp_path: Path) -> None:
    _refused(tmp_path, b"no gzip")


def _refused(folder: Path, content: bytes) -> None:
    (folder / "digits.csv.gz").write_bytes(content)
    with pytest.raises(FormatError) as info:
        digits(data_dir=folder)
    assert info.value.where == str(folder / "digits.csv.gz")


# -- IDX sources -----------------------------------------------------------------------------------


@needs_debian
def test_fashion_mnist_of_debian_is_the_published_one() -> None:
    dataset = fashion_mnist("test")
    assert repr(dataset) == "ArrayDataset(10000 x {image: float32 [1, 28, 28], label: int64 []})"
    assert (dataset["image"].min(), dataset["image"].max()) == (0, 1)
    assert np.bincount(dataset["label"]).tolist() == [1000] * 10
    assert FASHION_CLASSES[dataset["label"][0]] == "Ankle boot"
    raw = read_idx(DEBIAN / "t10k-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(dataset["image"][:100, 0] * 255, raw[:100])


@needs_debian
def test_all_four_sums_are_those_of_debian() -> None:
    for name, sha256 in sources._FASHION.sha256.items():
        read_idx(DEBIAN / f"{name}.gz", sha256=sha256)


@pytest.mark.parametrize("load", [mnist, fashion_mnist])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_own_files_are_read_from_data_dir(cache: Path, tmp_path: Path, load, suffix: str) -> None:
    write_pair(tmp_path / "own", "t10k", 7, suffix)
    dataset: ArrayDataset = load("test", tmp_path / "own")
    assert dataset["image"].shape == (7, 1, 28, 28)
    assert dataset["image"].dtype == np.float32
    assert dataset["image"][0, 0, 9, 3] == np.float32(255) / np.float32(255)
    assert dataset["image"][0, 0, 0, 7] == np.float32(7) / np.float32(255)
    assert dataset["label"].tolist() == list(range(7))


def serve_files(monkeypatch: pytest.MonkeyPatch, folder: Path, n: int) -> list[str]:
    """Makes the network give the files of `folder`, whose sums become the published ones."""
    asked: list[str] = []

    def fetch(url: str, path: Path, *, check, max_bytes: int) -> None:
        asked.append(url)
        if "dead" in url:
            raise sources.NoriaError("download failed", got="dead")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / url.rpartition("/")[2]).read_bytes())
        try:
            check(path)
        except FormatError:
            path.unlink()
            raise

    monkeypatch.setattr("noria.data.sources.fetch", fetch)
    sums = {
        path.stem: hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
        for path in folder.iterdir()
    }
    mirrors = ("http://dead/", "http://alive/")
    source = replace(sources._MNIST, mirrors=mirrors, sha256=sources._MNIST.sha256 | sums)
    monkeypatch.setattr(sources, "_MNIST", source)
    return asked


def test_download_tries_the_mirrors_and_fills_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path / "web")
    asked = serve_files(monkeypatch, tmp_path / "web", 5)
    assert len(mnist()) == 5
    images, labels = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
    assert [url.removeprefix("http://") for url in asked] == [
        f"dead/{images}",
        f"alive/{images}",
        f"dead/{labels}",
        f"alive/{labels}",
    ]
    assert sorted(p.name for p in (cache / "mnist").iterdir()) == [images, labels]
    assert len(mnist()) == 5
    assert len(asked) == 4  # the second time nothing was asked


def test_downloaded_file_of_other_content_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path / "web")
    serve_files(monkeypatch, tmp_path / "web", 5)
    write_pair(tmp_path / "web", n=6)
    with pytest.raises(MissingError, match="not the one expected"):
        mnist()
    assert list((cache / "mnist").iterdir()) == []


def test_damaged_file_in_the_cache_is_named(cache: Path) -> None:
    write_pair(cache / "mnist")
    with pytest.raises(FormatError, match="not the one expected") as info:
        mnist()
    assert info.value.where == str(cache / "mnist" / "train-images-idx3-ubyte.gz")
    assert "remove this file" in info.value.hint


def test_system_folder_comes_before_the_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pair(tmp_path / "system")
    source = replace(sources._FASHION, system=(tmp_path / "absent", tmp_path / "system"))
    monkeypatch.setattr(sources, "_FASHION", source)
    with pytest.raises(FormatError) as info:  # its content is checked as well
        fashion_mnist()
    assert info.value.where.startswith(str(tmp_path / "system"))


def test_images_of_one_folder_never_meet_labels_of_another(cache: Path, tmp_path: Path) -> None:
    write_pair(tmp_path / "own")
    (tmp_path / "own" / "train-labels-idx1-ubyte.gz").unlink()
    write_pair(cache / "mnist")
    with pytest.raises(FormatError) as info:
        mnist(data_dir=tmp_path / "own")
    assert info.value.where.startswith(str(cache))


def test_offline_error_says_which_files_go_where(cache: Path) -> None:
    with pytest.raises(MissingError) as info:
        fashion_mnist()
    message = str(info.value)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        assert f"{name}-ubyte.gz" in message
    assert f"into {cache / 'fashion-mnist'}" in message
    assert "apt install dataset-fashion-mnist" in message
    assert "refused" in message


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((3, 28, 28), np.uint8), np.zeros(4, np.uint8)),
        (np.zeros((3, 8, 8), np.uint8), np.zeros(3, np.uint8)),
        (np.zeros((3, 784), np.uint8), np.zeros(3, np.uint8)),
        (np.zeros((3, 28, 28), np.uint8), np.zeros((3, 1), np.uint8)),
    ],
)
def test_files_that_do_not_fit_together_are_a_format_error(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray
) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte", labels)
    with pytest.raises(FormatError, match="do not belong together"):
        mnist(data_dir=tmp_path)


@pytest.mark.parametrize("load", [digits, mnist, fashion_mnist])
def test_unknown_split_is_an_error(load) -> None:
    with pytest.raises(ArgumentError, match="did you mean 'test'"):
        load("tests")
