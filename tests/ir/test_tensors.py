"""Named arrays in safetensors files."""

import os
import resource
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from noria.core.dims import symbol
from noria.core.dtypes import ALL, to_numpy
from noria.core.errors import ArgumentError, FormatError
from noria.ir.program import Spec
from noria.ir.tensors import DTYPES, read_tensors, tensor_bytes, write_tensors

EVERY = {d: np.arange(6).reshape(2, 3).astype(to_numpy(d)) for d in ALL}
ODD = {
    "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "strided": np.arange(12, dtype=np.int32)[::2],
    "reversed": np.arange(5)[::-1],
    "broadcast": np.broadcast_to(np.float32(3), (2, 2)),
    "big-endian": np.arange(3, dtype=">i4"),
    "frozen": np.frombuffer(b"\x01\x02", np.uint8),
    "été/日本": np.ones(1, ml_dtypes.bfloat16),
}


@pytest.fixture(params=["file", "bytes"])
def stored(request, tmp_path):
    """Arrays -> what `read_tensors` takes: a path, or bytes."""

    def store(arrays):
        if request.param == "bytes":
            return tensor_bytes(arrays)
        write_tensors(tmp_path / "t.safetensors", arrays)
        return tmp_path / "t.safetensors"

    return store


def spec_of(array):
    return Spec(array.shape, array.dtype.newbyteorder("="))


@pytest.mark.parametrize("arrays", [EVERY, ODD, {}], ids=["dtypes", "layouts", "none"])
def test_arrays_come_back_as_they_were(stored, arrays):
    with read_tensors(stored(arrays), "file") as tensors:
        back = {n: tensors.take(n, spec_of(a), "here") for n, a in arrays.items()}
        tensors.end()
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype.newbyteorder("=")
        assert back[name].shape == array.shape
        np.testing.assert_array_equal(back[name], array)


def test_every_dtype_has_a_name_in_the_file():
    assert sorted(DTYPES.values()) == sorted(ALL)


def test_what_is_read_is_the_readers_own(stored):
    source = stored({"a": np.zeros(1000)})
    for _ in range(2):
        with read_tensors(source, "file") as tensors:
            array = tensors.take("a", Spec((1000,), "float64"), "here")
        assert array.sum() == 0
        array += 1


def test_public_tools_read_the_file(tmp_path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a.weight": np.arange(4.0), "b": np.ones((2, 2), np.float16)})
    back = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(back["a.weight"], [0, 1, 2, 3])
    assert path.read_bytes() == tensor_bytes(back)


def test_equal_arrays_give_equal_bytes_whatever_their_order():
    assert tensor_bytes(dict(reversed(EVERY.items()))) == tensor_bytes(EVERY)


def test_the_file_can_be_read_by_whom_the_umask_allows(tmp_path):
    old = os.umask(0o027)
    try:
        write_tensors(tmp_path / "t", {"a": np.zeros(3)})
    finally:
        os.umask(old)
    assert (tmp_path / "t").stat().st_mode & 0o777 == 0o640


def test_a_name_the_format_keeps_for_itself_is_refused():
    with pytest.raises(ArgumentError, match="under this name"):
        tensor_bytes({"__metadata__": np.zeros(1)})


# ---- what is declared --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec", [Spec((2, 3), "float64"), Spec((3, 2)), Spec((6,)), Spec((symbol("N"), symbol("N")))]
)
def test_another_dtype_or_shape_than_declared_is_refused(stored, spec):
    source = stored({"a": np.zeros((2, 3), np.float32)})
    with read_tensors(source, "f") as tensors, pytest.raises(FormatError) as told:
        tensors.take("a", spec, "state 'a'")
    assert "another dtype or shape" in told.value.what
    assert told.value.where == "f, state 'a'"
    assert (told.value.expected, told.value.got) == (str(spec), "float32[2, 3]")


def test_a_symbolic_size_may_be_any(stored):
    with read_tensors(stored({"a": np.zeros((2, 3), np.float32)}), "f") as tensors:
        assert tensors.take("a", Spec((symbol("N"), 3)), "here").shape == (2, 3)


def test_dtypes_of_others_are_refused(tmp_path):
    header = b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    data = len(header).to_bytes(8, "little") + header + b"ab"
    (tmp_path / "t").write_bytes(data)
    for source in (data, tmp_path / "t"):
        with read_tensors(source, "f") as tensors, pytest.raises(FormatError) as told:
            tensors.take("a", Spec((2,), "uint8"), "here")
        assert told.value.got == "F8_E4M3[2]"


def test_an_array_is_taken_once(stored):
    with read_tensors(stored({"a": np.zeros(1), "b": np.zeros(1)}), "f") as tensors:
        tensors.take("a", Spec((1,), "float64"), "here")
        with pytest.raises(FormatError, match="'a' is not in the file"):
            tensors.take("a", Spec((1,), "float64"), "here")
        with pytest.raises(FormatError, match="1 arrays in the file belong to nothing") as told:
            tensors.end()
    assert told.value.got == "b"


# ---- damaged files -----------------------------------------------------------------------------


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path):
    whole = tensor_bytes({"a": np.arange(8.0), "b": np.zeros(3, np.int8)})
    for end in (0, 1, 7, 8, 20, len(whole) // 2, len(whole) - 1):
        (tmp_path / "t").write_bytes(whole[:end])
        for source in (whole[:end], tmp_path / "t"):
            with pytest.raises(FormatError, match="safetensors"), read_tensors(source, "f"):
                pass


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32"}}',
        b'{"a":[]}',
        b"[]",
        b"\xff\xfe",
        b"{" * 5000,
    ],
)
def test_headers_that_lie_are_refused(header, tmp_path):
    data = len(header).to_bytes(8, "little") + header + b"\0\0\0\0"
    (tmp_path / "t").write_bytes(data)
    for source in (data, tmp_path / "t"):
        with pytest.raises(FormatError, match="safetensors"), read_tensors(source, "f"):
            pass


def test_a_header_that_claims_to_be_huge_takes_no_memory(tmp_path):
    (tmp_path / "t").write_bytes((2**62).to_bytes(8, "little") + b"{}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FormatError), read_tensors(tmp_path / "t", "f"):
        pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_large_file_is_read_one_array_at_a_time(tmp_path):
    write_tensors(tmp_path / "t", {f"a{i}": np.ones(1 << 22, np.float32) for i in range(8)})
    code = f"""
import resource, sys
from pathlib import Path
from noria.ir.program import Spec
from noria.ir.tensors import read_tensors
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with read_tensors(Path({str(tmp_path / "t")!r}), "f") as tensors:
    assert tensors.take("a3", Spec((1 << 22,)), "here").sum() == 1 << 22
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 3 * 16 * 1024  # KiB: one array has 16 MiB, the file 128 MiB
