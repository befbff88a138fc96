"""Arrays in files: read when they are used, never written back."""

import numpy as np
import pytest

from noria.core.mapped import MappedFile, give_back_pages, in_file


@pytest.fixture
def numbers(tmp_path):
    path = tmp_path / "numbers"
    np.arange(100_000, dtype=np.int32).tofile(path)
    return path


def test_an_array_shows_the_file(numbers):
    file = MappedFile(numbers)
    array = file.array(40, (3, 4), np.dtype(np.int32))
    assert array.tolist() == np.arange(10, 22).reshape(3, 4).tolist()
    assert file.bytes(4, 8) == b"\1\0\0\0"


def test_what_lies_behind_the_end_is_refused(numbers):
    with pytest.raises(TypeError):
        MappedFile(numbers).array(0, (100_001,), np.dtype(np.int32))


def test_a_write_stays_here(numbers):
    before = numbers.read_bytes()
    array = MappedFile(numbers).array(0, (100_000,), np.dtype(np.int32))
    array[:] = -1
    assert numbers.read_bytes() == before


@pytest.mark.parametrize("start", [0, 4, 4096, 5000])
def test_pages_given_back_are_read_again(numbers, start):
    file = MappedFile(numbers)
    array = file.array(start, (50_000,), np.dtype(np.int32))
    want = array.copy()
    for _ in range(2):
        give_back_pages(array)
        np.testing.assert_array_equal(array, want)


def test_a_neighbour_keeps_what_was_written_to_it(numbers):
    file = MappedFile(numbers)
    first = file.array(0, (1500,), np.dtype(np.int32))
    second = file.array(6000, (20_000,), np.dtype(np.int32))
    first[:] = 7
    give_back_pages(second)
    assert (first == 7).all()
    assert second[0] == 1500


def test_it_is_known_what_lies_in_a_file(numbers):
    array = MappedFile(numbers).array(0, (9,), np.dtype(np.int32))
    assert in_file(array) and in_file(array[2:].reshape(7, 1))
    assert not in_file(array.copy()) and not in_file(np.frombuffer(b"12", np.uint8))


def test_a_file_replaced_meanwhile_does_not_matter(numbers):
    array = MappedFile(numbers).array(0, (9,), np.dtype(np.int32))
    new = numbers.with_name("new")
    new.write_bytes(b"")
    new.replace(numbers)
    give_back_pages(array)
    assert array.tolist() == list(range(9))
