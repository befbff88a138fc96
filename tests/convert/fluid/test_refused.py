import pytest

from noria.convert.fluid.handlers import fluid_op
from noria.convert.fluid.reader import read_program
from noria.convert.fluid.refused import REASONS
from noria.convert.handlers import UnsupportedOperators
from tests.convert.fluid.describing import Desc


def test_what_is_refused_is_not_converted_and_has_one_reason():
    names = [n for ns in REASONS.values() for n in ns]
    assert len(set(names)) == len(names)
    assert all(fluid_op.find(n) is None for n in names)


def test_the_reason_is_told():
    desc = Desc().var("x", [1]).op("save", {"X": "x"}, {})
    with pytest.raises(UnsupportedOperators, match="while the model runs"):
        read_program(desc.message)
