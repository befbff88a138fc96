"""Flags: environment, context manager, errors."""

import os
import re
import threading
from pathlib import Path

import pytest

import noria
from noria.core.errors import ArgumentError, MissingError
from noria.core.flags import Flag, Flags, flags


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for flag in vars(Flags).values():
        if isinstance(flag, Flag):
            monkeypatch.delenv(flag.env, raising=False)


def test_defaults_hold_when_nobody_says_otherwise():
    assert flags.debug == 0 and flags.threads == 0
    assert flags.validate is False and flags.check_memory is False
    assert flags.kernels == "all" and flags.fpmath == "strict" and flags.onednn == ""
    assert flags.cache == os.path.expanduser("~/.cache/noria")


@pytest.mark.parametrize(
    ("env", "text", "name", "value"),
    [
        ("NORIA_DEBUG", " 3 ", "debug", 3),
        ("NORIA_VALIDATE", "yes", "validate", True),
        ("NORIA_VALIDATE", "Off", "validate", False),
        ("NORIA_KERNELS", " OneDNN, numba,numba", "kernels", "onednn,numba"),
        ("NORIA_THREADS", "4", "threads", 4),
        ("NORIA_CACHE", "~/kernels", "cache", os.path.expanduser("~/kernels")),
        ("NORIA_ONEDNN", "/opt/libdnnl.so.3", "onednn", "/opt/libdnnl.so.3"),
        ("NORIA_FPMATH", "BF16", "fpmath", "bf16"),
        ("NORIA_CPU", "AVX512_BF16", "cpu", "avx512_bf16"),
        ("NORIA_CHECK_MEMORY", "1", "check_memory", True),
        ("NORIA_CHECK_FINITE", "1", "check_finite", "all"),
        ("NORIA_CHECK_FINITE", "NaN", "check_finite", "nan"),
        ("NORIA_CHECK_FINITE", "no", "check_finite", "off"),
        ("NORIA_DEBUG", "", "debug", 0),
    ],
)
def test_the_environment_is_read_at_each_access(monkeypatch, env, text, name, value):
    monkeypatch.setenv(env, text)
    assert getattr(flags, name) == value
    monkeypatch.delenv(env)
    assert getattr(flags, name) == getattr(Flags, name).kind.read(getattr(Flags, name).default)


@pytest.mark.parametrize(
    ("env", "text", "name"),
    [
        ("NORIA_DEBUG", "x", "debug"),
        ("NORIA_DEBUG", "7", "debug"),
        ("NORIA_THREADS", "-1", "threads"),
        ("NORIA_VALIDATE", "maybe", "validate"),
        ("NORIA_KERNELS", "all,numba", "kernels"),
        ("NORIA_KERNELS", "onednn,,numba", "kernels"),
        ("NORIA_FPMATH", "fp8", "fpmath"),
        ("NORIA_CPU", "sse2", "cpu"),
    ],
)
def test_a_bad_environment_value_names_the_variable(monkeypatch, env, text, name):
    monkeypatch.setenv(env, text)
    with pytest.raises(ArgumentError) as caught:
        getattr(flags, name)
    assert env in caught.value.where and caught.value.expected and repr(text) in caught.value.got


def test_set_wins_over_the_environment_nests_and_ends(monkeypatch):
    monkeypatch.setenv("NORIA_DEBUG", "1")
    with flags.set(debug=2, kernels="reference"):
        assert (flags.debug, flags.kernels) == (2, "reference")
        with flags.set(debug=3):
            assert (flags.debug, flags.kernels) == (3, "reference")
        assert flags.debug == 2
    assert (flags.debug, flags.kernels) == (1, "all")


def test_set_ends_when_the_body_raises():
    with pytest.raises(RuntimeError), flags.set(debug=2):
        raise RuntimeError
    assert flags.debug == 0


def test_set_in_one_thread_is_not_seen_in_another():
    seen = []
    with flags.set(debug=5):
        thread = threading.Thread(target=lambda: seen.append(flags.debug))
        thread.start()
        thread.join()
    assert seen == [0]


def test_an_unknown_flag_suggests_the_nearest():
    with pytest.raises(MissingError, match="did you mean 'debug'"), flags.set(debg=1):
        pass
    with pytest.raises(AttributeError, match="did you mean 'threads'"):
        _ = flags.thread


@pytest.mark.parametrize(
    "values",
    [{"debug": 2.5}, {"debug": True}, {"validate": "perhaps"}, {"cache": 3}, {"cache": "a\0b"}],
)
def test_a_bad_value_in_set_is_refused(values):
    with pytest.raises(ArgumentError, match=r"flags\.set"), flags.set(**values):
        pass


def test_assigning_a_flag_says_how_to_set_it():
    with pytest.raises(ArgumentError, match=r"with flags\.set\(debug=2\)"):
        flags.debug = 2
    with pytest.raises(AttributeError):
        flags.debgu = 2


def test_the_reference_kernels_are_always_allowed():
    assert flags.allows("onednn") and flags.allows("reference")
    with flags.set(kernels="numba"):
        assert flags.allows("numba") and flags.allows("reference") and not flags.allows("onednn")
    with flags.set(kernels="reference"):
        assert flags.allows("reference") and not flags.allows("numba")


def test_describe_has_a_documented_row_for_every_flag(monkeypatch):
    monkeypatch.setenv("NORIA_THREADS", "2")
    with flags.set(validate=True):
        rows = {row.name: row for row in flags.describe()}
    assert len(rows) == sum(isinstance(flag, Flag) for flag in vars(Flags).values())
    assert all(row.env == f"NORIA_{name.upper()}" and row.doc for name, row in rows.items())
    assert rows["threads"][2:6] == ("int", "0", "2", "environment")
    assert rows["validate"][2:6] == ("bool", "0", "1", "set")
    assert rows["fpmath"].origin == "default"


def test_a_snapshot_has_every_flag_as_it_is_now():
    before = flags.snapshot()
    with flags.set(fpmath="bf16"):
        assert flags.snapshot() == {**before, "fpmath": "bf16"}
    assert flags.snapshot() == before and before["debug"] == flags.debug


def test_what_kernels_are_depends_on_no_other_flags():
    """Read once for all, or no part of a kernel: the cache, its compilers, CPU, oneDNN, threads."""
    folder = Path(noria.__file__).parent / "kernels"
    text = "\n".join(p.read_text() for p in sorted(folder.rglob("*.py")))
    read = set(re.findall(r"\bflags\.(\w+)", text)) & set(flags.snapshot())
    marked = {n for n, flag in vars(Flags).items() if isinstance(flag, Flag) and flag.binding}
    assert read - {"cache", "compilers", "cpu", "onednn", "threads"} <= marked
    before = flags.for_binding()
    with flags.set(wavefront=True):
        assert flags.for_binding() != before
    with flags.set(debug=1):
        assert flags.for_binding() == before
