"""Order, kernels, layouts, and what is known before any size is."""

import numpy as np

from noria.core.dims import symbol
from noria.core.flags import flags
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.kernels.registry import LAST, PLAIN
from noria.ops.control import cond
from noria.ops.create import size_of
from noria.runtime.plan import REORDER, describe, make_plan, schedule
from tests.runtime.programs import N, assert_engine_is_right, build, floats, mlp, value

NONE = frozenset()


def types(operators):
    return [op.type for op in operators]


def plan_of(fn, engines=NONE, **state):
    return make_plan(build(fn, **state), engines)


# ---- order -------------------------------------------------------------------------------------


def test_operators_that_nothing_needs_are_left_out():
    def fn(b):
        x = b.input("x", (N,))
        o.exp(x)
        return {"y": o.relu(x)}

    assert types(schedule(build(fn))) == ["relu"]


def test_an_update_runs_as_soon_as_what_it_needs_is_there():
    def fn(b):
        x, w = b.input("x", (4,)), value(b, "w")
        g = o.mul(x, x)
        y = o.relu(o.tanh(g))
        b.update("w", o.sub(w, g))
        return {"y": y}

    assert types(schedule(build(fn, w=floats(4)))) == ["mul", "sub", "tanh", "relu"]


def test_an_update_waits_for_the_last_reader_of_the_state_before_it():
    def fn(b):
        x, w = b.input("x", (4,)), value(b, "w")
        g = o.mul(x, x)
        y = o.relu(o.tanh(g))
        late = o.add(w, y)
        b.update("w", o.sub(w, g))
        return {"y": late}

    assert types(schedule(build(fn, w=floats(4)))) == ["mul", "tanh", "relu", "add", "sub"]


def test_an_update_that_needs_nothing_comes_first():
    def fn(b):
        b.update("n", o.fill(shape=(), value=3.0))
        return {"y": o.relu(b.input("x", (4,)))}

    assert types(schedule(build(fn, n=np.float32(0)))) == ["fill", "relu"]


def test_updates_that_wait_for_each_other_stay_in_a_valid_order():
    def fn(b):
        x, a, c = b.input("x", (4,)), value(b, "a"), value(b, "c")
        b.update("a", o.add(c, x))
        b.update("c", o.add(a, x))
        return {}

    program = build(fn, a=floats(4), c=floats(4, seed=1))
    assert len(schedule(program)) == 2
    assert_engine_is_right(program, [{"x": floats(4, seed=s)} for s in range(3)])


def test_a_long_program_is_ordered_in_linear_time():
    program = Program("long")
    with Builder(program) as b:
        x = b.input("x", (4,))
        for i in range(1500):
            w = b.state(f"w{i}", (4,))
            x = o.add(x, w)
            b.update(w, o.mul(w, 0.5))
        program.outputs = {"y": x}
    order = schedule(program)
    assert len(order) == 3001  # one fill
    assert [op.type for op in order[:4]] == ["add", "fill", "mul", "add"]


# ---- sizes -------------------------------------------------------------------------------------


def test_what_depends_on_the_number_of_elements_found_is_dynamic():
    def fn(b):
        found = o.nonzero(b.input("x", (N,)), size="K")
        fed = size_of(b.input("y", (N,)), axis=0)
        return {"count": size_of(found, axis=0), "sum": o.reduce_sum(found), "n": fed}

    plan = plan_of(fn)
    dynamic = {s.op.type: s.dynamic for s in plan.steps if s.op.type != "dim_value"}
    assert dynamic == {"nonzero": True, "reduce_sum": True}
    sizes = {str(s.op.attrs["dim"]): s for s in plan.steps if s.op.type == "dim_value"}
    assert sizes["K"].dynamic and not sizes["K"].once
    assert sizes["N"].once and not sizes["N"].dynamic


def test_an_operator_is_kept_for_a_size_that_only_it_tells():
    def fn(b):
        found = o.nonzero(o.greater(b.input("x", (N,)), 0.0), size="K")
        return {"count": size_of(found, axis=0)}

    program = build(fn)
    assert "nonzero" in types(schedule(program))
    assert_engine_is_right(program, [{"x": floats(n, seed=n)} for n in (5, 9, 0)])


def test_sizes_that_cannot_be_compared_yet_become_checks_that_name_the_line():
    def fn(b):
        return {"y": o.add(b.input("x", (N,)), b.input("z", (symbol("M"),)))}

    (check,) = plan_of(fn).checks
    assert {str(check.left), str(check.right)} == {"M", "N"}
    assert "add at" in check.where and "test_plan.py" in check.where


# ---- what runs once ----------------------------------------------------------------------------


def test_what_depends_on_constants_and_fixed_state_runs_once():
    def fn(b):
        w = value(b, "w")
        return {"y": o.matmul(b.input("x", (N, 4)), o.transpose(o.tanh(w), perm=(1, 0)))}

    plan = plan_of(fn, w=floats(4, 4))
    assert [s.op.type for s in plan.prologue] == ["tanh", "transpose"]
    assert [s.op.type for s in plan.body] == ["matmul"]


def test_what_depends_on_updated_state_runs_at_each_step():
    def fn(b):
        w = value(b, "w")
        y = o.tanh(w)
        b.update("w", o.mul(w, 0.5))
        return {"y": y}

    plan = plan_of(fn, w=floats(4))
    assert [s.op.type for s in plan.prologue] == ["fill"]


def test_random_numbers_are_never_drawn_once():
    def fn(b):
        key = b.state("key", (2,), "int64")
        return {"y": o.uniform(key, shape=(4,))}

    assert not plan_of(fn).prologue


def test_large_arrays_that_grow_with_a_size_are_not_kept():
    def fn(b):
        c = value(b, "c")
        x = b.input("x", (N, 4))
        return {"y": o.add(x, o.broadcast_to(o.tanh(c), shape=(N, 4)))}

    plan = plan_of(fn, c=floats(4))
    assert [s.op.type for s in plan.prologue] == ["tanh"]


def test_fixed_values_that_depend_on_a_size_are_told():
    def fn(b):
        n = size_of(b.input("x", (N,)), axis=0)
        return {"a": o.tanh(o.cast(n, dtype="float32")), "b": o.tanh(value(b, "c"))}

    plan = plan_of(fn, c=floats(4))
    assert {v.name for v in plan.sized} == {"dim_value", "cast", "tanh"}
    assert {v.name for v in plan.fixed} - {v.name for v in plan.sized} == {"c", "tanh_1"}


# ---- layouts and kernels -----------------------------------------------------------------------


def convolutions(b):
    x = b.input("x", (N, 8, 6, 6))
    y = o.conv2d(x, value(b, "w"), padding=1)
    z = o.conv2d(y, value(b, "w"), padding=1)
    return {"y": z, "flat": o.reshape(z, shape=(N, 288))}


def test_activations_stay_channels_last_between_convolutions():
    plan = plan_of(convolutions, frozenset({"onednn"}), w=floats(8, 8, 3, 3))
    kinds = [(s.op.type, plan.layouts[s.op.outputs[0]]) for s in plan.steps]
    assert kinds == [
        (REORDER, LAST),
        ("conv2d", LAST),
        ("conv2d", LAST),
        (REORDER, PLAIN),
        ("reshape", PLAIN),
    ]


def test_a_value_is_reordered_once_for_all_that_want_the_layout():
    def fn(b):
        x = b.input("x", (N, 8, 6, 6))
        a = o.conv2d(x, value(b, "w"))
        c = o.conv2d(x, value(b, "w"), stride=2)
        return {"a": a, "c": c}

    plan = plan_of(fn, frozenset({"onednn"}), w=floats(8, 8, 3, 3))
    assert types(s.op for s in plan.steps) == [REORDER, "conv2d", "conv2d"]


def test_the_reference_takes_any_memory_and_keeps_channels_last():
    def fn(b):
        y = o.conv2d(b.input("x", (N, 8, 6, 6)), value(b, "w"))
        return {"y": o.tanh(y)}

    plan = plan_of(fn, frozenset({"onednn"}), w=floats(8, 8, 3, 3))
    assert [s.engine for s in plan.steps][-1] == "reference"
    assert plan.layouts[plan.steps[-1].op.outputs[0]] == LAST


def test_an_input_may_be_given_in_channels_last():
    program = build(convolutions, w=floats(8, 8, 3, 3))
    plan = make_plan(program, frozenset({"onednn"}), {"x": LAST})
    assert plan.steps[0].op.type == "conv2d"


def test_control_flow_is_run_by_the_reference():
    def fn(b):
        x = b.input("x", (N,))
        return {"y": cond(o.greater(o.reduce_sum(x), 0.0), lambda: o.relu(x), lambda: x)}

    plan = make_plan(build(fn))
    assert [s.engine for s in plan.steps if s.op.type == "cond"] == ["reference"]


def test_a_reason_for_refusal_is_noted_once():
    plan = plan_of(convolutions, frozenset({"onednn"}), w=floats(8, 8, 3, 3))
    step = next(s for s in plan.steps if s.kernel)
    for _ in range(3):
        step.refuse(step.kernel, "too small")
    assert step.refused.count((step.kernel.name, "too small")) == 1


# ---- golden texts ------------------------------------------------------------------------------

GOLDEN = """\
reference                linear: float32[N, 3] = linear(x, w0, b0)
reference                relu: float32[N, 3] = relu(linear)
reference                linear_1: float32[N, 2] = linear(relu, w1, b1)"""


def test_a_plan_is_told_line_by_line():
    assert describe(make_plan(mlp(4, 3, 2), NONE)) == GOLDEN


def test_the_plan_of_convolutions_names_kernels_and_layouts():
    text = describe(plan_of(convolutions, frozenset({"onednn"}), w=floats(8, 8, 3, 3)))
    assert text.splitlines()[1:3] == [
        "onednn:conv              conv2d: float32[N, 8, 6, 6] channels_last"
        " = conv2d(x.channels_last, w, _)",
        "onednn:conv              conv2d_1: float32[N, 8, 6, 6] channels_last"
        " = conv2d(conv2d, w, _)",
    ]
    assert text.splitlines()[-1].startswith("view ")


def test_refusals_are_told_when_they_are_asked_for():
    program = mlp(4, 3)
    with flags.set(kernels="numba"):
        plan = make_plan(program)
    assert "not onednn:linear" not in describe(plan)
    with flags.set(debug=6):
        assert "not onednn:linear: switched off" in describe(plan)
