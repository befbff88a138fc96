import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from noria.core.errors import FormatError, MissingError
from noria.data.packages import Package, archive, package_file, package_folder

FILES = {"toy/model/a": b"first", "toy/model/deep/b": b"second", "toy/readme": b"third"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "noria" / "packages"
    folder.mkdir(parents=True)
    return folder


def wheel(cache: Path) -> Package:
    path = cache / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as box:
        for name, content in FILES.items():
            box.writestr(name, content)
    return Package("toy", "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest())


def source(cache: Path) -> Package:
    path = cache / "toy-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(f"toy-1.0/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("toy-1.0/toy/model/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return Package("toy", "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.parametrize("make", [wheel, source])
def test_files_and_folders_come_out_of_a_package(cache, make):
    package = make(cache)
    assert package_file(package, "toy/readme").read_bytes() == b"third"
    folder = package_folder(package, "toy/model")
    assert (folder / "deep" / "b").read_bytes() == b"second"
    assert not (folder / "link").exists()
    assert not (folder.parent / "other").exists()
    (cache / package.file).unlink()  # what was taken out stays
    assert package_folder(package, "toy/model") == folder


@pytest.mark.parametrize("make", [wheel, source])
def test_what_a_package_does_not_have_is_told(cache, make):
    package = make(cache)
    with pytest.raises(MissingError, match="toy/none"):
        package_file(package, "toy/none")
    with pytest.raises(MissingError, match="toy/none"):
        package_folder(package, "toy/none")


def test_another_content_than_the_published_is_refused(cache):
    package = wheel(cache)
    (cache / package.file).write_bytes(b"something else")
    with pytest.raises(FormatError, match="not the published toy"):
        archive(package)


@pytest.mark.parametrize("member", ["../x", "/etc/passwd", "a/../../x"])
def test_a_path_out_of_the_package_is_refused(cache, member):
    with pytest.raises(FormatError, match="leads out"):
        package_file(wheel(cache), member)


def test_a_package_that_cannot_be_had_says_why(cache, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    package = Package("noria-no-such-package", "0.0.1", "none-0.0.1-py3-none-any.whl", "0" * 64)
    with pytest.raises(MissingError, match="put none-0"):
        archive(package)
