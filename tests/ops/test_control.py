import numpy as np
import pytest

from noria.core.dims import symbol
from noria.core.errors import ArgumentError, DTypeError, ProgramError, ShapeError
from noria.grad import append_backward
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.verify import verify
from noria.ops import control
from noria.ops.control import case, cond, switch_case
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case, check_program, load_ops
from noria.testing.engines import executor
from noria.testing.record import named, record, set_outputs

load_ops()


def positive(x):
    return o.greater(o.reduce_sum(x), 0.0)


def closures(x, y):
    return cond(positive(x), lambda: o.mul(x, y), lambda: o.square(x))


def operands(x, y):
    return cond(positive(x), lambda a, b: o.mul(a, b), lambda a, b: o.tanh(b), x, y)


def structures(x, y):
    def yes(pair):
        return {"a": pair[0], "b": (o.exp(pair[1]), pair[1])}

    def no(pair):
        return {"b": (pair[0], o.sin(pair[1])), "a": pair[1]}

    out = cond(positive(x), yes, no, (x, y))
    return out["a"], *out["b"]


def nested(x, y):
    def inner():
        return cond(positive(y), lambda: o.mul(x, y), lambda: o.sin(y))

    return cond(positive(x), inner, lambda: o.mul(o.cos(x), inner()))


def only_one_side_depends(x, y):
    return cond(positive(x), lambda: o.tanh(x), lambda: y)


def chosen_by_case(x, y):
    pairs = [(positive(x), lambda: o.exp(x)), (positive(y), lambda: o.mul(x, y))]
    return case(pairs, lambda: o.sin(x))


def chosen_by_index(x, y, i):
    return switch_case(i, [lambda: x, lambda: o.mul(x, y), lambda: o.tanh(y)], lambda: o.exp(x))


def expect_nested(x, y):
    inner = x * y if y.sum() > 0 else np.sin(y)
    return inner if x.sum() > 0 else np.cos(x) * inner


def expect_case(x, y):
    return np.exp(x) if x.sum() > 0 else x * y if y.sum() > 0 else np.sin(x)


EXPECT = {
    closures: lambda x, y: x * y if x.sum() > 0 else x**2,
    operands: lambda x, y: x * y if x.sum() > 0 else np.tanh(y),
    structures: lambda x, y: (x, np.exp(y), y) if x.sum() > 0 else (y, x, np.sin(y)),
    nested: expect_nested,
    only_one_side_depends: lambda x, y: np.tanh(x) if x.sum() > 0 else y,
    chosen_by_case: expect_case,
    chosen_by_index: lambda x, y, i: [x, x * y, np.tanh(y), np.exp(x)][i if 0 <= i <= 2 else 3],
}
ROWS = {0: {0: "N"}, 1: {0: "N"}}
SIGNS = [((0.1, 2.0), (0.1, 2.0)), ((-2.0, -0.1), (0.1, 2.0)), ((-2.0, -0.1), (-2.0, -0.1))]
FUNCTIONS = {}
CASES = []


def add_case(fn, inputs, name, **more):
    FUNCTIONS[name] = fn
    CASES.append(Case("cond", inputs, expect=EXPECT[fn], id=name, grad2=True, **more))


for function in (closures, operands, structures, nested, only_one_side_depends, chosen_by_case):
    for n, (first, second) in enumerate(SIGNS):
        pair = [arr(3, 2, low=first[0], high=first[1]), arr(3, 2, low=second[0], high=second[1])]
        add_case(function, pair, f"{function.__name__}-{n}", symbolic=ROWS)
for index in (-1, 0, 1, 2, 3, 9):
    array = np.array(index)
    add_case(chosen_by_index, [arr(2, 2), arr(2, 2), array], f"index-{index}")
add_case(closures, [arr(0, 2), arr(0, 2)], "empty", symbolic=ROWS)
add_case(closures, [arr(), arr()], "scalars")
add_case(closures, [arr(3, dtype="bfloat16", low=0.1), arr(3, dtype="bfloat16")], "bfloat16")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case, FUNCTIONS[case.id])


def test_every_op_of_the_family_has_a_case():
    assert {v.name for v in vars(control).values() if isinstance(v, OpDef)} == {c.op for c in CASES}


def trace(fn, *arrays):
    return record(fn, [np.asarray(a) for a in arrays])


def test_only_the_chosen_branch_runs():
    def fn(x):
        def fails():
            return o.reshape(o.nonzero(x, size="K"), shape=(7,))

        return cond(
            o.equal(o.reduce_sum(x), 7.0), fails, lambda: o.fill(shape=(7,), value=1, dtype="int64")
        )

    x = np.ones(3)
    recorded = trace(fn, x)
    out, _ = run_program(recorded.program, recorded.feeds([x]), {})
    assert out["out0"].tolist() == [1] * 7


def test_on_arrays_it_is_pythons_if():
    ran = []
    x = np.ones(2, np.float32)
    out = cond(np.array(True), lambda a: ran.append("yes") or a, lambda a: ran.append("no") or a, x)
    assert out is x and ran == ["yes"]


def test_a_choice_known_when_the_program_is_built_leaves_no_operator():
    recorded = trace(lambda x: cond(True, lambda: o.exp(x), lambda: o.log(x)), np.ones(2))
    assert [op.type for op in recorded.program.operators] == ["exp"]


def test_values_around_become_operands_of_both_blocks_once():
    def fn(x, y, z):
        return cond(positive(x), lambda: o.mul(x, y), lambda: o.mul(y, z))

    (op,) = [op for op in trace(fn, *[np.ones(2)] * 3).program.operators if op.type == "cond"]
    assert [v.name for v in op.inputs[1:]] == ["x0", "x1", "x2"]
    assert all(len(block.inputs) == 3 for block in op.blocks.values())


def test_operands_that_no_branch_uses_are_not_kept():
    def fn(x, y):
        return cond(positive(x), lambda a, b: o.exp(a), lambda a, b: o.sin(a), x, y)

    (op,) = [op for op in trace(fn, np.ones(2), np.ones(2)).program.operators if op.type == "cond"]
    assert [v.name for v in op.inputs[1:]] == ["x0"]


def test_the_gradient_keeps_only_what_a_branch_needs():
    recorded = trace(
        lambda x, y: cond(positive(x), lambda: o.mul(x, 2.0), lambda: o.add(x, y)),
        np.ones(2),
        np.ones(2),
    )
    program = recorded.program
    with Builder(program):
        set_outputs(program, {"loss": o.reduce_sum(recorded.outputs[0])})
    program, _ = append_backward(program, "loss", ["x0", "x1"])
    backward = [op for op in program.operators if op.type == "cond"][1]
    assert len(backward.inputs) == 2  # pred and the gradient: neither x nor y


def test_parameters_are_captured_and_learn():
    program = Program()
    with Builder(program) as builder:
        x, w = builder.input("x", (symbol("N"), 2)), builder.state("w", (2,), trainable=True)
        y = cond(positive(x), lambda: o.mul(x, w), lambda: o.mul(o.square(w), x))
        set_outputs(program, {"loss": o.reduce_sum(y)})
    program, grads = append_backward(program)
    set_outputs(program, {"g": grads["w"]})
    verify(program)
    state = {"w": np.array([2.0, 3.0], np.float32)}
    for sign in (1, -1):
        x = sign * np.arange(1, 5, dtype=np.float32).reshape(2, 2)
        want = x.sum(0) if sign > 0 else 2 * state["w"] * x.sum(0)
        loss = (x * state["w"] if sign > 0 else x * state["w"] ** 2).sum()
        check_program(program, {"x": x}, {"loss": loss, "g": want}, state=state)


def test_a_branch_may_return_nothing():
    recorded = trace(lambda x: (cond(positive(x), lambda: None, lambda: None), x)[1], np.ones(2))
    verify(recorded.program)


def test_a_python_scalar_takes_the_dtype_of_the_other_branch():
    def fn(x):
        return cond(positive(x), lambda: (o.reduce_sum(x), 1), lambda: (0, 2.5))

    for sign in (1, -1):
        x = sign * np.ones(3, np.float16)
        recorded = trace(fn, x)
        assert [v.dtype for v in recorded.outputs] == ["float16", "float32"]
        check_program(
            recorded.program,
            recorded.feeds([x]),
            named("out", [np.float16(3 if sign > 0 else 0), np.float32(1 if sign > 0 else 2.5)]),
        )


def test_branches_of_different_structure_are_told_apart():
    with pytest.raises(ProgramError, match=r"expected \(\*, \*\).*\n.*got +\*"):
        trace(lambda x: cond(positive(x), lambda: (x, x), lambda: x), np.ones(2))


def test_branches_of_different_shape_or_dtype_are_named():
    with pytest.raises(ShapeError, match=r"result\['h'\] of the second(.|\n)*\[2\](.|\n)*\[1\]"):
        trace(
            lambda x: cond(
                positive(x), lambda: {"h": x}, lambda: {"h": o.reshape(o.reduce_sum(x), shape=(1,))}
            ),
            np.ones(2),
        )
    with pytest.raises(DTypeError, match=r"float64\[2\](.|\n)*float32\[2\]"):
        trace(
            lambda x: cond(positive(x), lambda: x, lambda: o.cast(x, dtype="float32")), np.ones(2)
        )


def test_a_size_known_only_inside_a_branch_is_refused():
    with pytest.raises(ShapeError, match="known only inside"):
        trace(
            lambda x: cond(
                positive(x), lambda: o.nonzero(x, size="K"), lambda: o.nonzero(x, size="K")
            ),
            np.ones(2),
        )


def test_the_condition_is_one_bool():
    with pytest.raises(DTypeError, match="bool"):
        trace(lambda x: cond(o.reduce_sum(x), lambda: x, lambda: x), np.ones(2))
    with pytest.raises(ShapeError, match="scalar"):
        trace(lambda x: cond(o.greater(x, 0.0), lambda: x, lambda: x), np.ones(2))
    with pytest.raises(ShapeError, match="scalar"):
        cond(np.array([True, False]), lambda: 1, lambda: 2)


def test_open_sizes_of_two_branches_are_compared_when_bound():
    def fn(x, y):
        return cond(positive(x), lambda: x, lambda: y)

    x, y = np.ones(2, np.float32), np.ones(3, np.float32)
    recorded = record(fn, [x, x], [(symbol("N"),), (symbol("M"),)])
    out, _ = run_program(recorded.program, recorded.feeds([x, x]), {})
    assert out["out0"].shape == (2,)
    with pytest.raises(ShapeError, match=r"expected M equal to N"):
        executor(recorded.program, recorded.feeds([x, y]), {})


def test_case_without_default_takes_the_last_function():
    assert case([(False, lambda: 1), (False, lambda: 2)]) == 2
    assert case([(False, lambda: 1), (np.array(True), lambda: 2)], lambda: 3) == 2
    with pytest.raises(ArgumentError, match="at least one"):
        case([])


def test_switch_case_takes_integers_with_gaps():
    fns = {3: lambda: np.array(30), 7: lambda: np.array(70)}
    got = [int(switch_case(i, fns, lambda: np.array(-1))) for i in (3, 7, 0, 5, 9)]
    assert got == [30, 70, -1, -1, -1]
    assert int(switch_case(5, fns)) == 70
    with pytest.raises(ArgumentError, match="at least one"):
        switch_case(0, [])
    with pytest.raises(DTypeError, match="integer"):
        switch_case(1.0, fns)


def test_switch_case_looks_at_few_conditions():
    fns = [lambda k=k: o.fill(shape=(), value=k, dtype="int64") for k in range(16)]
    recorded = record(lambda i: switch_case(i, fns), [np.array(0)])
    depth, block = 0, recorded.program.block
    while inner := [op for op in block.operators if op.type == "cond"]:
        depth, block = depth + 1, inner[0].blocks["then"]
    assert depth == 4
    for i in range(16):
        out, _ = run_program(recorded.program, {"x0": np.array(i)}, {})
        assert out["out0"] == i


def test_integers_and_booleans_pass_through_a_branch():
    def fn(x, i):
        return cond(
            positive(x), lambda: (i, o.greater(x, 1.0)), lambda: (o.add(i, 1), o.less(x, 1.0))
        )

    check_case(Case("cond", [arr(3), ints(3)], jax=True), fn)
