import numpy as np
import pytest

from noria.convert.fluid.handlers import Lod
from noria.convert.fluid.scope import Scope
from noria.core.errors import MissingError


def test_a_name_means_its_latest_value_and_an_inner_scope_sees_the_outer():
    outer = Scope()
    outer.set("x", np.zeros(1))
    inner = Scope(outer)
    assert isinstance(inner.get("x"), Lod)
    inner.set("x", np.ones(2))
    assert inner.get("x").values.shape == (2,)
    assert outer.get("x").values.shape == (1,)


def test_a_name_that_holds_nothing_is_told_with_the_nearest():
    scope = Scope()
    scope.set("hidden", np.zeros(1))
    with pytest.raises(MissingError, match="hidden"):
        scope.get("hiddem")
