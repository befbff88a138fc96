"""Accumulators: their dtype, where they start, how they join."""

import numpy as np
import pytest

from noria.kernels.numba.reduction import KINDS, Reduction, add_exactly, settle
from noria.kernels.numba.term import Lines, Term


@pytest.mark.parametrize(
    ("kind", "of", "dtype"),
    [
        ("sum", "float32", "float64"),
        ("mean", "bfloat16", "float64"),
        ("prod", "float64", "float64"),
        ("sum", "uint8", "int64"),
        ("mean", "int32", "int64"),
        ("max", "float16", "float32"),
        ("min", "int8", "int8"),
        ("max", "bool", "int32"),
        ("all", "float32", "int32"),
    ],
)
def test_the_accumulator_is_wide_enough(kind, of, dtype):
    assert Reduction(kind, of, of).dtype == dtype


def value(text):
    """What a literal of a kernel means."""
    names = {n: getattr(np, n) for n in ("float32", "float64", "int8", "int32", "int64")}
    return eval(text, names | {"maximum": max, "minimum": min})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", ["float32", "int8", "bool"])
def test_joining_the_start_changes_nothing(kind, of):
    reduction = Reduction(kind, of, of)
    for x in (0, 1) if reduction.dtype == "int32" else (-3, 0, 5):
        assert (
            eval(
                reduction.join("a", "b"),
                {"maximum": max, "minimum": min},
                {"a": value(reduction.start), "b": x},
            )
            == x
        )


def test_an_element_is_widened_before_it_is_added():
    lines = Lines()
    x = Term(lines, "x", "float32", 0)
    assert Reduction("sum", "float32", "float32").item(x) == "float64(x)"
    assert Reduction("max", "float32", "float32").item(x) == "x"
    assert Reduction("any", "float32", "bool").item(x) == "t2"
    assert lines.levels[0] == ["t1 = x != float32(0.0)", "t2 = where(t1, int32(1), int32(0))"]


def test_a_mean_divides_at_the_end():
    lines, name = Reduction("mean", "float32", "bfloat16").result("a0")
    assert lines[0] == "t1f = a0 / float64(count)"
    assert name == lines[-1].split(" = ")[0]
    assert Reduction("max", "int8", "int8").result("a0") == ([], "a0")


def test_only_float64_sums_need_blocks():
    assert Reduction("sum", "float64", "float64").in_blocks
    assert not Reduction("max", "float64", "float64").in_blocks
    assert not Reduction("sum", "float32", "float32").in_blocks


def run(lines, **names):
    """Variables after lines of a kernel, where an exact sum is Python's."""
    exec(
        "\n".join(lines),
        {
            "fma": lambda a, b, c: float(a) * float(b) + float(c),
            "float64": float,
            "isfinite": lambda x: bool(np.isfinite(x)),
            "where": lambda c, a, b: a if c else b,
        },
        names,
    )
    return names


def test_adding_exactly_keeps_what_rounding_loses():
    names = {"a": 1.0, "c": 0.0, "b": 2.0**-60}
    for _ in range(1024):
        names = run(add_exactly("a", "c", "b"), **names)
    assert names["a"] == 1.0
    assert run(settle("a", "c"), **names)["a"] == 1.0 + 2.0**-50


@pytest.mark.parametrize("end", [np.inf, -np.inf, np.nan])
def test_infinite_totals_stay_what_they_are(end):
    names = run(add_exactly("a", "c", "b"), a=end, c=0.0, b=1.0)
    got = run(settle("a", "c"), **names)["a"]
    assert got == end or (np.isnan(got) and np.isnan(end))
