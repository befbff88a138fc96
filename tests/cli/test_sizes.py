from __future__ import annotations

import numpy as np
import pytest

from noria.cli.sizes import one_each, parse_sizes, sample_feeds
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, MissingError
from noria.ir.program import Value

N, T = symbol("N"), symbol("T")
INPUTS = [Value("x", (N, T, 4), "float32"), Value("ids", (2 * N,), "int64")]


def test_sizes_are_read_and_default_to_one() -> None:
    assert parse_sizes(["N=1,16"], INPUTS) == {"N": [1, 16], "T": [1]}
    assert parse_sizes(["T=3", "T=5"], INPUTS)["T"] == [5]


@pytest.mark.parametrize("text", ["N", "N=", "N=x", "N=0", "N=-1", "N=1,,2", "N=1.5", "N=²"])
def test_what_is_no_size_is_an_error(text: str) -> None:
    with pytest.raises(ArgumentError, match="not a size"):
        parse_sizes([text], INPUTS)


def test_an_unknown_size_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(MissingError, match="one of N, T"):
        parse_sizes(["M=3"], INPUTS)


def test_one_of_each() -> None:
    assert one_each({"N": [3], "T": [1]}) == {"N": 3, "T": 1}
    with pytest.raises(ArgumentError, match="N=3,4"):
        one_each({"N": [3, 4]})


def test_samples_have_the_shapes_and_dtypes_of_the_inputs() -> None:
    feeds = sample_feeds(INPUTS, {"N": 2, "T": 3})
    assert feeds["x"].shape == (2, 3, 4) and feeds["x"].dtype == np.float32
    assert feeds["x"].std() > 0.5
    assert feeds["ids"].shape == (4,) and feeds["ids"].dtype == np.int64
    assert not feeds["ids"].any()
