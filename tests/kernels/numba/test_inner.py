"""Which kernels do a part of an operator."""

import noria
from noria import ops
from noria.core.flags import flags
from noria.kernels import library  # noqa: F401  (registers every kernel)
from noria.kernels.numba.inner import takers
from noria.kernels.registry import LAST, PLAIN


def conv(**how):
    """The operator of a convolution."""
    specs = {"x": noria.spec(2, 32, 9, 9), "w": noria.spec(32, 32, 3, 3)}
    return noria.trace(lambda x, w: ops.conv2d(x, w, **how), **specs).operators[0]


def names(op, image=LAST):
    """op has no bias."""
    return [k.name for k in takers(op, [LAST, None, None], ([image, PLAIN, None], [LAST]))]


def test_those_that_take_it_come_in_the_order_in_which_they_are_asked(fast_kernels):
    found = names(conv())
    assert found[0] == "numba:winograd" and "onednn:conv" in found
    assert "numba:conv_pairs" not in found  # of halves and one tap


def test_other_layouts_and_engines_that_are_off_are_left_out(fast_kernels):
    assert names(conv(), image=PLAIN) == []
    with flags.set(kernels="onednn"):
        assert [n.split(":")[0] for n in names(conv())] == ["onednn"]
    with flags.set(kernels="reference"):
        assert names(conv()) == []
