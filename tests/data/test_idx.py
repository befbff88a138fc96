from __future__ import annotations

import contextlib
import gzip
import hashlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from noria.core.errors import DTypeError, FormatError, ShapeError
from noria.data.idx import read_idx, write_idx

TYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]


def header(code: int, *dims: int) -> bytes:
    return struct.pack(f">HBB{len(dims)}I", 0, code, len(dims), *dims)


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
@pytest.mark.parametrize("dtype", TYPES)
def test_written_array_is_read_back(tmp_path: Path, name: str, dtype: str) -> None:
    array = (np.arange(24).reshape(2, 3, 4) * 5 - 8).astype(dtype)
    write_idx(tmp_path / name, array)
    back = read_idx(tmp_path / name)
    assert back.dtype == array.dtype
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, array)
    back[0] = 1  # writable


def test_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_idx(path, np.array([[1, -2]], np.int16))
    assert path.read_bytes() == bytes.fromhex("00000b02 00000001 00000002 0001fffe")
    path.write_bytes(bytes.fromhex("00000801 00000003 07ff00"))
    assert read_idx(path).tolist() == [7, 255, 0]


def test_non_contiguous_and_foreign_byte_order_are_written_right(tmp_path: Path) -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4).T
    write_idx(tmp_path / "a", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "a"), array)


def test_compressed_file_is_known_by_content_not_by_name(tmp_path: Path) -> None:
    write_idx(tmp_path / "a.gz", np.array([1, 2], np.uint8))
    (tmp_path / "a.gz").rename(tmp_path / "a")
    assert read_idx(tmp_path / "a").tolist() == [1, 2]


def test_same_array_gives_the_same_compressed_file(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_idx(tmp_path / name, np.zeros(100, np.uint8))
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_array_without_elements_keeps_its_shape(tmp_path: Path) -> None:
    write_idx(tmp_path / "a", np.zeros((0, 28, 28), np.uint8))
    assert read_idx(tmp_path / "a").shape == (0, 28, 28)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((2, 2), np.float32)])
def test_sum_is_of_the_uncompressed_file(tmp_path: Path, array: np.ndarray) -> None:
    write_idx(tmp_path / "a", array)
    write_idx(tmp_path / "a.gz", array)
    right = hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()
    for name in ("a", "a.gz"):
        read_idx(tmp_path / name, sha256=right)
        with pytest.raises(FormatError, match="not the one expected") as info:
            read_idx(tmp_path / name, sha256="0" * 64)
        assert info.value.got == right


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (b"\0\0\x08", "cut short"),
        (b"\0\0\x08\x02\0\0\0\1", "cut short"),
        (b"PK\x03\x04 not an idx file", "not an IDX file"),
        (b"\0\0\x0a\x01\0\0\0\1x", "not an IDX file"),
        (b"\0\0\x08\x00x", "not an IDX file"),
        (b"\0\0\x08\xff" + bytes(1020), "not an IDX file"),
        (header(8, 10) + bytes(9), "cut short"),
        (header(8, 10) + bytes(11), "goes on"),
        (header(8, 0) + b"x", "goes on"),
        (header(8, 1000, 1000), "claims more"),
        (header(14, 2**32 - 1, 2**20), "claims more"),
        (header(8, *[2**32 - 1] * 32), "too large"),
        (header(8, 0, 2**32 - 1, 2**32 - 1), "too large"),
    ],
)
def test_broken_file_is_a_format_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(FormatError, match=message) as info:
        read_idx(tmp_path / "bad")
    assert info.value.where == str(tmp_path / "bad")


def test_broken_gzip_is_a_format_error(tmp_path: Path) -> None:
    good = gzip.compress(header(8, 50_000) + np.random.default_rng(0).bytes(50_000))
    flipped = bytearray(good)
    flipped[20_000] ^= 255
    for bad in (good[:20_000], bytes(flipped), good + b"junk", b"\x1f\x8b", b"\x1f\x8b\x08"):
        (tmp_path / "bad.gz").write_bytes(bad)
        with pytest.raises(FormatError):
            read_idx(tmp_path / "bad.gz")


@pytest.mark.parametrize("zipped", [False, True])
def test_hostile_header_costs_no_memory(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "bad"
    claims = header(14, 2**31 - 1) + bytes(1000)
    path.write_bytes(gzip.compress(claims) if zipped else claims)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_claim_within_the_compression_ratio_costs_only_what_is_there(tmp_path: Path) -> None:
    junk = np.random.default_rng(0).bytes(100_000)  # incompressible, so 103 MB could be claimed
    (tmp_path / "bad.gz").write_bytes(gzip.compress(header(8, 100_000_000) + junk))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="cut short"):
            read_idx(tmp_path / "bad.gz")
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_gzip_bomb_behind_a_small_header_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(header(8, 4) + bytes(50_000_000), 1))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="goes on"):
            read_idx(tmp_path / "bomb.gz")
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_an_array_or_a_format_error(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, magic: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz"
    path.write_bytes((b"\0\0\x08\x01" if magic else b"") + tail)
    with contextlib.suppress(FormatError):
        assert isinstance(read_idx(path), np.ndarray)


@given(hnp.arrays(st.sampled_from(TYPES), hnp.array_shapes(max_dims=5, min_side=0)))
@settings(max_examples=50, deadline=None)
def test_any_array_survives(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "round.gz"
    write_idx(path, array)
    np.testing.assert_array_equal(read_idx(path), array, strict=True)


def test_arrays_the_format_cannot_hold_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DTypeError, match="no such element type"):
        write_idx(tmp_path / "a", np.zeros(3, np.int64))
    with pytest.raises(ShapeError, match="cannot hold this shape"):
        write_idx(tmp_path / "a", np.array(3, np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_pythons_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "absent")
