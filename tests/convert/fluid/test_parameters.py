import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.convert.fluid import parameters as p
from noria.core.errors import DTypeError, FormatError, MissingError, NoriaError

STATE = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([True, False]),
    "c": np.array(7, np.int64),
    "d": np.zeros((0, 4), np.float16),
}


def same(got, want):
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert got[name].dtype == array.dtype and np.array_equal(got[name], array)


def test_a_folder_gives_back_what_was_written(tmp_path):
    p.write_folder(tmp_path, STATE)
    same(p.read_folder(tmp_path, STATE), STATE)


def test_a_combined_file_is_in_order_of_the_names(tmp_path):
    p.write_combined(tmp_path / "all", STATE)
    same(p.read_combined(tmp_path / "all", STATE), STATE)
    assert (tmp_path / "all").read_bytes().startswith(p.record(STATE["a"]))


def test_the_bytes_are_those_of_the_format():
    want = struct.pack("<IQIi", 0, 0, 0, 6) + b"\x08\x05\x10\x02\x10\x01" + struct.pack("<2f", 1, 2)
    assert p.record(np.array([[1], [2]], np.float32)) == want


def test_rows_of_a_variable_are_passed_over(tmp_path):
    lod = struct.pack("<IQQQQ", 0, 1, 16, 0, 2)
    (tmp_path / "x").write_bytes(lod + p.record(np.ones(2, np.int8))[12:])
    assert p.read_parameter(tmp_path / "x").tolist() == [1, 1]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(FormatError, match="leads out"):
        p.read_folder(tmp_path, [name])


def test_all_missing_files_are_named(tmp_path):
    with pytest.raises(MissingError, match="a, b"):
        p.read_folder(tmp_path, ["b", "a"])


def test_more_and_fewer_variables_than_the_model_has_are_told(tmp_path):
    p.write_combined(tmp_path / "all", STATE)
    with pytest.raises(FormatError, match="more variables"):
        p.read_combined(tmp_path / "all", ["a", "b"])
    with pytest.raises(FormatError, match="too early"):
        p.read_combined(tmp_path / "all", [*STATE, "e"])


@pytest.mark.parametrize(
    "desc",
    [
        b"\x08\x05\x10" + b"\x80" * 8 + b"\x40",  # 2**62 elements
        b"\x08\x05\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # -1
        b"\x08\x63\x10\x01",  # an element type nobody knows
        b"\x08\x05" + b"\x10\x01" * 65,
        b"\xff\xff",
    ],
    ids=["huge", "negative", "dtype", "rank", "noise"],
)
def test_descriptions_that_lie_are_refused(tmp_path, desc):
    data = struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc + b"\0" * 64
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(FormatError):
        p.read_parameter(tmp_path / "x")


def test_a_dtype_fluid_has_no_number_for_is_told():
    with pytest.raises(DTypeError, match="uint32"):
        p.record(np.ones(1, np.uint32))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_file_is_read_or_refused(tmp_path_factory, data):
    raw = bytearray(b"".join(p.record(STATE[n]) for n in sorted(STATE)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mutated") / "all"
    path.write_bytes(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    with contextlib.suppress(NoriaError):
        p.read_combined(path, STATE)
