import numpy as np
import pytest

from noria.ops import philox
from noria.testing.case import arr
from noria.testing.kernel import check_kernel

NAME = "numba:random"
KEY = np.array([7, 3], np.int64)
# What is drawn: attributes, and how far it may be from the reference.
DRAWS = [
    ("uniform", {"low": -0.3, "high": 0.5}, 0.0),
    ("bernoulli", {"p": 0.3}, 0.0),
    ("randint", {"low": -10, "high": 2**31 - 10}, 0.0),
    ("randint", {"low": 5, "high": 6}, 0.0),
    ("randint", {"low": -100, "high": 27, "dtype": "int32"}, 0.0),
    ("normal", {"mean": 1.0, "std": 2.0}, 1e-6),
    ("truncated_normal", {"mean": -1.0, "std": 0.5}, 1e-6),
]


def check(op, attrs, tol, inputs=(KEY,), **options):
    check_kernel(op, inputs, attrs, kernel=NAME, tol=tol, same_bits=True, **options)


@pytest.mark.parametrize(("op", "attrs", "tol"), DRAWS)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 1000])
def test_the_numbers_are_those_of_the_reference(op, attrs, tol, count):
    check(op, {**attrs, "shape": (count,)}, tol)


@pytest.mark.parametrize(("op", "attrs", "tol"), DRAWS)
def test_any_key_and_stream_and_shape(op, attrs, tol):
    for key in ([0, 0], [-5, -1], [2**31 + 7, 2**40 + 1]):
        for stream in (0, 1, 2**32 + 5, 2**64 - 1):
            attrs = {**attrs, "shape": (3, 1, 7), "stream": stream}
            check(op, attrs, tol, [np.array(key, np.int64)])


@pytest.mark.parametrize("shape", [(1,), (2, 3), (5, 7, 1, 3)])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.999])
def test_dropout_keeps_what_the_reference_keeps(shape, p):
    symbolic = {0: {0: "N"}}
    check("dropout", {"p": p, "stream": 9}, 0.0, [arr(*shape), KEY], symbolic=symbolic)


def test_dropout_hands_nan_on_only_where_it_is_kept():
    check("dropout", {"p": 0.5}, 0.0, [arr(90), KEY], special=True)


def test_normals_far_from_the_mean_are_right_too():
    drawn = philox.gauss(np, KEY, 0, 100_000)
    assert np.abs(drawn).max() > 4
    check("normal", {"shape": drawn.shape}, 1e-6)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "reason"),
    [
        ("uniform", [KEY], {"shape": (3,), "dtype": "float64"}, "the output is float64"),
        ("bernoulli", [KEY], {"shape": (3,), "dtype": "float32"}, "the output is float32"),
        ("randint", [KEY], {"shape": (3,), "high": 9, "dtype": "int8"}, "not int64 or int32"),
        ("dropout", [arr(3, dtype="bfloat16"), KEY], {}, "the output is bfloat16"),
    ],
)
def test_what_is_left_to_the_reference(op, inputs, attrs, reason):
    with pytest.raises(AssertionError, match=reason):
        check_kernel(op, inputs, attrs, kernel=NAME)
