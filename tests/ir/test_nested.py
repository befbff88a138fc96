import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import DTypeError, ProgramError, ShapeError
from noria.ir.emit import Builder
from noria.ir.nested import (
    Nested,
    close,
    follows_from,
    has_effect,
    is_scalar,
    leads_to,
    need_flag,
    need_inputs,
    require_spec,
    resolved,
    scalar_dtype,
    value_of,
)
from noria.ir.opdef import collect_checks, op, registry
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Block, Operator, Program, Spec, Value
from noria.testing.check import load_ops

load_ops()


@pytest.fixture
def outer():
    """A Program being built, with inputs x, y: float32[2] and flag: bool[]."""
    with Builder(Program()) as builder:
        for name in "xy":
            builder.input(name, (2,))
        builder.input("flag", (), "bool")
        yield builder


def test_what_any_block_captures_becomes_an_input_of_all(outer):
    x, y, _ = outer.block.inputs
    first, second = Nested([x], ["x"]), Nested([x], ["x"])
    with first:
        first.block.outputs = [o.mul(first.inputs[0], y)]
    with second:
        second.block.outputs = [o.neg(second.inputs[0])]
    blocks, operands = close([first, second], [x])
    assert operands == [x, y]
    assert [[v.shape for v in b.inputs] for b in blocks] == [[(2,), (2,)]] * 2
    names = [v.name for b in blocks for v in b.inputs]
    assert len(set(names)) == 4


def test_dead_operators_and_unused_inputs_are_left_out(outer):
    x, y, _ = outer.block.inputs
    part = Nested([x, y], ["x", "y"])
    with part:
        o.exp(part.inputs[0])
        part.block.outputs = [o.neg(part.inputs[1])]
    (block,), operands = close([part], [x, y])
    assert operands == [y] and len(block.inputs) == 1
    assert [op.type for op in block.operators] == ["neg"]


def test_the_first_inputs_may_be_kept_whatever_happens(outer):
    x, y, _ = outer.block.inputs
    part = Nested([x, y], ["x", "y"])
    with part:
        part.block.outputs = [part.inputs[0]]
    (block,), operands = close([part], [x, y], fixed=2)
    assert operands == [x, y] and len(block.inputs) == 2


def test_operators_with_an_effect_are_not_dead(outer):
    @op(effect="ordered")
    def spoken(x):
        return x

    try:
        part = Nested([], [])
        with part:
            spoken(outer.block.inputs[0])
        (block,), operands = close([part], [])
        assert len(block.operators) == 1 and operands == [outer.block.inputs[0]]
        assert has_effect(block.operators[0])
        around = Operator("cond", (), (), blocks={"then": block})
        assert has_effect(around)
    finally:
        del registry["spoken"]


def test_a_size_known_outside_may_leave_a_block_and_another_may_not(outer):
    n = symbol("N")
    far = outer.input("far", (n,))
    part = Nested([], [])
    with part:
        part.block.outputs = [o.fill(shape=(n, 2), value=0.0)]
    part.check_sizes(["y"])
    with part:
        part.block.outputs = [o.nonzero(far, size="K")]
    with pytest.raises(ShapeError, match="size of y is known only inside"):
        part.check_sizes(["y"])


def test_numbers_become_constants_and_values_are_captured(outer):
    x, _, _ = outer.block.inputs
    assert value_of(x) is x
    assert value_of(2).dtype == "int64" and value_of(2.0).dtype == "float32"
    assert value_of(2, "float16").dtype == "float16"
    assert value_of(np.float64(2), "float16").dtype == "float64"
    assert value_of(np.ones(3, np.int8)).dtype == "int8"
    with Nested([], []) as part:
        assert value_of(x) is part.builder.captures[x]
    with pytest.raises(DTypeError):
        value_of("text")


def test_a_stand_in_gives_its_value(outer):
    x, _, _ = outer.block.inputs

    class Parameter:
        def __noria_value__(self):
            return x

    assert resolved(Parameter()) is x and resolved(5) == 5
    assert value_of(Parameter()) is x


def test_a_python_scalar_takes_the_dtype_beside_it_if_it_fits():
    half, flag = Spec((), "float16"), np.array(True)
    assert scalar_dtype(1, half) == scalar_dtype(1.5, half) == "float16"
    assert scalar_dtype(1, np.int8(3)) == "int8"
    assert scalar_dtype(1.5, np.int8(3)) is None
    assert scalar_dtype(1, flag) is None and scalar_dtype(True, half) is None
    assert scalar_dtype(1, 2.5) == scalar_dtype(2.5, 1) == "float32"
    assert scalar_dtype(1, 2) is None
    assert scalar_dtype(np.float64(1), half) is None and not is_scalar(np.float64(1))


def test_one_bool_is_needed():
    need_flag(Spec((), "bool"), "p")
    with pytest.raises(DTypeError, match="p must be a bool"):
        need_flag(Spec((), "int64"), "p")
    with pytest.raises(ShapeError, match="p must be a scalar"):
        need_flag(Spec((1,), "bool"), "p")


def test_specs_are_compared_now_or_when_sizes_are_bound():
    n, m = symbol("N"), symbol("M")
    require_spec(Spec((n, 2)), Spec((n, 2)), "y")
    with pytest.raises(DTypeError, match=r"y has another dtype(.|\n)*float32(.|\n)*int64"):
        require_spec(Spec((2,), "int64"), Spec((2,)), "y")
    for shape in ((3,), (2, 1), ()):
        with pytest.raises(ShapeError, match="y has another shape"):
            require_spec(Spec(shape), Spec((2,)), "y")
    checks = []
    with collect_checks(checks):
        require_spec(Spec((n, 2)), Spec((m, 2)), "y")
    assert [(c.left, c.right, c.where) for c in checks] == [(n, m, "y")]


def test_a_block_must_take_the_operands_of_its_op():
    block = Block([Value("a", (2,))], [], [])
    need_inputs(block, [Spec((2,))], "block 'then'")
    with pytest.raises(ProgramError, match="block 'then' takes another number"):
        need_inputs(block, [], "block 'then'")
    with pytest.raises(ShapeError, match="input 'a' of block 'then'"):
        need_inputs(block, [Spec((3,))], "block 'then'")


def test_gradients_flow_along_floats_only():
    program = Program()
    with Builder(program) as builder:
        x, y = builder.input("x", (2,)), builder.input("y", (2,))
        whole = o.cast(x, dtype="int64")
        back = o.cast(whole, dtype="float32")
        total = o.add(back, y)
    block = program.block
    assert leads_to(block, [total]) == {total, back, y}
    assert follows_from(block, [x]) == {x}
    assert follows_from(block, [y]) == {y, total}
    assert leads_to(block, [whole]) == set()
