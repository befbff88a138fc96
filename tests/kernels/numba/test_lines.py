import pytest

from noria.kernels.numba.lines import LINE, whole_lines


@pytest.mark.parametrize(("nbytes", "lines"), [(0, 0), (1, 1), (LINE, 1), (LINE + 1, 2)])
def test_bytes_up_to_the_end_of_a_line(nbytes, lines):
    assert whole_lines(nbytes) == lines * LINE
