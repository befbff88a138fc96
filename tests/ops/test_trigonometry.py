import math

import numpy as np
import pytest

import noria.ops.trigonometry as trigonometry
from noria.core.errors import DTypeError
from noria.ir.opdef import OpDef
from noria.testing.case import Case, arr
from noria.testing.check import check_case


def plain(name, fn, low=-0.9, high=0.9, grad2=True):
    expect = np.vectorize(fn, otypes=[float])
    sizes = {"low": low, "high": high}
    return [
        Case(name, [arr(3, 5, **sizes)], expect=expect, symbolic={0: {0: "N"}}, grad2=grad2),
        Case(name, [arr(7, dtype="float64", **sizes)], expect=expect),
        Case(name, [arr(2, 3, dtype="float16", **sizes)], expect=expect),
        Case(name, [arr(0, 3, **sizes)]),
    ]


CASES = [
    *plain("tan", math.tan),
    *plain("asin", math.asin),
    *plain("acos", math.acos),
    *plain("atan", math.atan, low=-5, high=5),
    *plain("sinh", math.sinh, low=-3, high=3),
    *plain("cosh", math.cosh, low=-3, high=3),
    *plain("asinh", math.asinh, low=-5, high=5),
    *plain("acosh", math.acosh, low=1.2, high=5),
    *plain("atanh", math.atanh),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    defined = {v.name for v in vars(trigonometry).values() if isinstance(v, OpDef)}
    assert defined == {c.op for c in CASES}


@pytest.mark.parametrize("name", ["asin", "acos", "acosh", "atanh"])
def test_outside_the_domain_there_is_no_number(name):
    assert np.isnan(getattr(trigonometry, name)(np.array([-1.5], np.float32)))


def test_integers_are_refused():
    with pytest.raises(DTypeError, match="float dtype"):
        trigonometry.tan(np.arange(3))
