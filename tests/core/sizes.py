"""Random size expressions, worked out twice: by `noria` and by plain Python integers."""

import hypothesis.strategies as st
from hypothesis import assume

from noria.core.dims import dim_max, dim_min, symbol
from noria.core.errors import ArgumentError

NAMES = ("N", "M", "T_1")
SYMBOLIC = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "max": dim_max,
    "min": dim_min,
}
PLAIN = SYMBOLIC | {"max": max, "min": min}

leaves = st.one_of(st.integers(-9, 9), st.sampled_from(NAMES))
trees = st.recursive(
    leaves, lambda inner: st.tuples(st.sampled_from(sorted(SYMBOLIC)), inner, inner), max_leaves=9
)
values = st.fixed_dictionaries({name: st.integers(0, 12) for name in NAMES})


def build(tree):
    """The size of a tree; trees that divide by 0 or grow too large are set aside."""
    try:
        return _walk(tree, SYMBOLIC, symbol)
    except ArgumentError as error:
        assume("zero" not in str(error) and "too large" not in str(error))
        raise
    except ZeroDivisionError:  # of two plain ints
        assume(False)


def compute(tree, bindings):
    """The value of a tree by Python's own arithmetic; divisions by 0 are set aside."""
    try:
        return _walk(tree, PLAIN, bindings.__getitem__)
    except ZeroDivisionError:
        assume(False)


def _walk(tree, operators, leaf):
    if isinstance(tree, tuple):
        op, a, b = tree
        return operators[op](_walk(a, operators, leaf), _walk(b, operators, leaf))
    return leaf(tree) if isinstance(tree, str) else tree
