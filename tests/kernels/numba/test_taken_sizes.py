"""How a patch is cut into parts."""

import pytest

from noria.kernels.numba.taken_sizes import MOST_CHANNELS, OFFSETS, SUMS, offsets_of, parts


@pytest.mark.parametrize("vectors", [*range(1, 2 * SUMS + 3), 10 * SUMS])
def test_parts_follow_one_another_and_their_sums_fit_the_registers(vectors):
    at = 0
    for part in parts(vectors):
        assert part.first == at and part.vectors > 0
        assert 1 <= part.channels <= MOST_CHANNELS
        assert part.vectors * part.channels <= SUMS
        at += part.vectors
    assert at == vectors


def test_a_small_patch_is_one_part_of_several_channels():
    (part,) = parts(1)
    assert part.channels == MOST_CHANNELS
    assert OFFSETS == 6  # fields in front of the offsets


def test_each_byte_has_an_offset_within_the_window():
    offsets = offsets_of((2, 3), 100, 8)
    assert offsets[:6] == [0, 8, 16, 100, 108, 116]
    assert len(offsets) == 256 and set(offsets[6:]) == {0}
