import pytest

from noria.core.errors import ProgramError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.opdef import OpDef, registry
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ops.rules import by_decomposition
from noria.testing.case import Case, arr
from noria.testing.check import check_case


def infer(x, bias=None, *, power=2):
    """x^power + bias, and its square."""
    return x, x


@pytest.fixture
def raised():
    """An op whose gradient is that of its decomposition, while a test runs."""
    definition = OpDef(infer, name="raised", outputs=("out", "squared"))

    @definition.compute
    def _(xp, x, bias, power):
        out = x**power + (0 if bias is None else bias)
        return out, out * out

    @definition.decompose
    def _(x, bias=None, *, power=2):
        out = o.pow(x, power)
        out = out if bias is None else o.add(out, bias)
        return out, o.square(out)

    @definition.grad
    def _(op, gs, vjp):
        return by_decomposition(op, gs, vjp)

    registry["raised"] = definition
    yield definition
    del registry["raised"]


@pytest.mark.usefixtures("raised")
@pytest.mark.parametrize("inputs", [[arr(3, 4)], [arr(3, 4), arr(3, 4)], [arr(3, 4), None]])
def test_gradients_are_those_of_the_decomposition(inputs):
    check_case(Case("raised", inputs, {"power": 3}, symbolic={0: {}}, grad2=True))


def test_an_output_without_a_gradient_is_left_out(raised):
    with Builder(Program()) as builder:
        x = builder.input("x", (2,))
        (g,) = gradients(raised(x)[1], [x])
    assert g is not None and g.shape == (2,)


def test_an_op_without_a_decomposition_is_told(raised):
    raised.decompose_fn = None
    with Builder(Program()) as builder, pytest.raises(ProgramError, match="decomposition"):
        x = builder.input("x", (2,))
        gradients(raised(x)[0], [x])
