import numpy as np
import pytest

from noria.convert.fluid.handlers import Lod, Op, dtype_of
from noria.core.errors import DTypeError, MissingError, ProgramError

SPLITS = np.array([0, 1, 3])


def op(**inputs):
    bound = {slot: [(slot.lower(), held)] for slot, held in inputs.items()}
    return Op("toy", bound, {"Out": ["out"]}, {"axis": 1}, None)


def test_inputs_come_without_their_splits():
    o = op(X=Lod(np.ones(3), (SPLITS,)))
    assert o.input("X").shape == (3,)
    assert o.lod("X") == (SPLITS,)
    assert o.get("Bias") is None and o.inputs("Bias") == [] and o.lod("Bias") == ()


def test_what_an_operator_needs_and_has_not_is_told():
    with pytest.raises(MissingError, match="'X'"):
        op().input("X")
    with pytest.raises(MissingError, match="'depth'"):
        op().need_attr("depth")
    with pytest.raises(ProgramError, match="ragged"):
        op(X=Lod(np.ones(3))).need_lod("X")


def test_element_types_are_those_of_the_files():
    assert [dtype_of(c) for c in (0, 3, 5, 22)] == ["bool", "int64", "float32", "bfloat16"]
    with pytest.raises(DTypeError, match="7"):
        dtype_of(7)
