import ctypes
import gc
import os
import pickle
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from noria.core.errors import EngineError
from noria.core.flags import flags
from noria.kernels.onednn import lib


@pytest.fixture(autouse=True)
def needs_onednn():
    """Most of these tests are about a library that is not there."""


@pytest.fixture
def loaded():
    usable, reason = lib.available()
    if not usable:
        pytest.skip(reason)
    return lib.library()


def test_the_wheels_library_is_found_and_told(loaded):
    usable, told = lib.available()
    assert usable and "oneDNN 3." in told and loaded.path in told
    assert loaded.version[0] == 3
    assert loaded.engine and loaded.stream and loaded.execute
    assert loaded.max_threads() >= 1


def test_the_library_is_loaded_once(loaded):
    assert lib.library() is loaded


def test_an_absent_file_is_refused_with_what_to_install():
    with pytest.raises(EngineError, match=r"absent\.so[\s\S]*pip install onednn-cpu-gomp"):
        lib.open_library("/nowhere/absent.so")


def test_a_library_that_is_not_onednn_is_refused():
    with pytest.raises(EngineError, match="not oneDNN"):
        lib.open_library("libm.so.6")


def test_a_file_that_is_no_library_is_refused(tmp_path):
    text = tmp_path / "libdnnl.so.3"
    text.write_text("not a library")
    with pytest.raises(EngineError, match="cannot load"):
        lib.open_library(str(text))


def test_the_environment_or_flag_names_the_file_and_the_argument_wins(monkeypatch):
    monkeypatch.setenv("NORIA_ONEDNN", "/nowhere/by_environment.so")
    with pytest.raises(EngineError, match="by_environment"):
        lib.open_library()
    with flags.set(onednn="/nowhere/by_flag.so"), pytest.raises(EngineError, match="by_flag"):
        lib.open_library()
    with pytest.raises(EngineError, match="by_argument"):
        lib.open_library("/nowhere/by_argument.so")


def test_without_the_wheel_the_systems_library_is_tried(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.delenv("NORIA_ONEDNN", raising=False)
    monkeypatch.setattr(lib.metadata, "files", absent)
    assert lib._find(None) == lib.SONAME
    monkeypatch.setattr(lib.metadata, "files", lambda name: None)
    assert lib._find(None) == lib.SONAME


def test_a_process_without_the_library_says_why_and_does_not_crash():
    code = (
        "from noria.kernels.onednn import lib\n"
        "from noria.core.errors import EngineError\n"
        "usable, why = lib.available()\n"
        "assert not usable and 'absent.so' in why, why\n"
        "for _ in range(2):\n"
        "    try: lib.library()\n"
        "    except EngineError as e: assert 'absent.so' in str(e)\n"
        "    else: raise AssertionError\n"
    )
    root = Path(lib.__file__).parents[3]
    env = {**os.environ, "NORIA_ONEDNN": "/nowhere/absent.so", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class FakeLibrary:
    """Answers dnnl_version as a library of another version would."""

    def __init__(self, *version):
        class Version:
            restype = None

            def __call__(self):
                return ctypes.pointer(lib._Version(*version))

        self.dnnl_version = Version()


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ((2, 7, 0, b"", 2, 0), r"version 3\.x[\s\S]*2\.7\.0"),
        ((4, 0, 0, b"", 2, 0), r"version 3\.x[\s\S]*4\.0\.0"),
        ((3, 4, 1, b"", 8, 0), "sequential or OpenMP"),
    ],
)
def test_other_major_versions_and_thread_pools_are_refused(version, message):
    with pytest.raises(EngineError, match=message):
        lib._check_version(FakeLibrary(*version), "fake.so")


def test_a_later_minor_version_is_taken():
    assert lib._check_version(FakeLibrary(3, 9, 1, b"", 2, 0), "fake.so") == (3, 9, 1)


class HeldLibrary:
    """Answers as a library whose instructions can be limited to some set."""

    def __init__(self, used):
        self.used, self.asked = used, []
        self.dnnl_set_max_cpu_isa = self.asked.append
        self.dnnl_get_effective_cpu_isa = lambda: self.used


@pytest.mark.skipif(not lib.X86, reason="levels of x86-64")
def test_a_library_uses_no_more_than_the_flag_allows():
    with flags.set(cpu="native"):
        lib._limit(ctypes.CDLL("libm.so.6"), "libm.so.6")  # nothing is asked of it
    with flags.set(cpu="avx512"):
        older, other = HeldLibrary(0x7), HeldLibrary(0xE7)
        lib._limit(older, "held.so")
        assert older.asked == [0x27]
        with pytest.raises(EngineError, match=r"exceeds NORIA_CPU[\s\S]*avx512[\s\S]*0xe7"):
            lib._limit(other, "used.so")
        with pytest.raises(EngineError, match="cannot be held"):
            lib._limit(ctypes.CDLL("libm.so.6"), "libm.so.6")


@pytest.mark.skipif(not lib.X86, reason="levels of x86-64")
def test_the_flag_holds_the_real_library(loaded):
    code = (
        "from noria.kernels.onednn import lib; c = lib.library().c;"
        "print(c.dnnl_get_effective_cpu_isa())"
    )
    environment = {**os.environ, "NORIA_CPU": "avx2"}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert int(ran.stdout) & ~0x7 == 0


def test_a_library_that_lacks_a_function_is_refused_by_its_name():
    with pytest.raises(EngineError, match="dnnl_engine_create"):
        lib._declare(ctypes.CDLL("libm.so.6"), "libm.so.6")


def test_a_bad_status_raises_by_name():
    lib.check(0, "nothing")
    with pytest.raises(EngineError, match="refused a thing: unimplemented"):
        lib.check(3, "a thing")
    with pytest.raises(EngineError, match="status 99"):
        lib.check(99, "a thing")


def test_a_handle_is_destroyed_once_and_cannot_be_copied_out():
    gone = []
    handle = lib.Handle(7, gone.append)
    other = handle
    with pytest.raises(TypeError, match="process"):
        pickle.dumps(handle)
    del handle
    gc.collect()
    assert gone == []
    del other
    assert gone == [7]
