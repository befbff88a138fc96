"""Steps that are alike are prepared once; what does not depend on sizes, once for all sizes."""

import time

import numpy as np

from noria import nn
from noria.core.flags import flags
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ops.criterion import mse_loss
from noria.optim.optimizer import Adam
from noria.passes.pipeline import optimize
from noria.runtime.bind import Bound
from noria.runtime.nested import block_functions
from noria.runtime.plan import make_plan
from noria.runtime.scope import Scope
from tests.runtime.binding import Negate, step
from tests.runtime.programs import N, build, floats

TEST = frozenset({"test"})


class Counting(Negate):
    """The kernel of the tests, which counts how often it is prepared."""

    def __init__(self):
        super().__init__()
        self.bound = 0

    def bind(self, bound):
        self.bound += 1
        return super().bind(bound)


def chain(b):
    x = b.input("x", (N, 4))
    z = b.input("z", (4,))
    y = o.relu(o.abs(o.relu(o.abs(o.relu(x)))))
    return {"y": y, "z": o.relu(z)}


def bound_for(plan, n, threads=1):
    return Bound(plan, {"N": n}, {}, threads, block_functions)


def test_steps_that_are_alike_are_prepared_once(own_kernels):
    kernel = own_kernels(Counting())
    plan = make_plan(build(chain), TEST)
    x, z = floats(2, 4), floats(4)
    got = step(bound_for(plan, 2), x, z)
    assert kernel.bound == 2  # [N, 4] and [4]
    np.testing.assert_array_equal(got["y"], -np.abs(x))
    np.testing.assert_array_equal(got["z"], -z)


def test_only_what_depends_on_sizes_is_prepared_again(own_kernels):
    kernel = own_kernels(Counting())
    plan = make_plan(build(chain), TEST)
    for n, count in ((2, 2), (3, 3), (4, 4)):
        x, z = floats(n, 4), floats(4)
        got = step(bound_for(plan, n), x, z)
        assert kernel.bound == count
        np.testing.assert_array_equal(got["y"], -np.abs(x))
        np.testing.assert_array_equal(got["z"], -z)


def test_another_team_and_other_flags_prepare_anew(own_kernels):
    kernel = own_kernels(Counting())
    plan = make_plan(build(chain), TEST)
    bound_for(plan, 2)
    bound_for(plan, 2, threads=2)
    assert kernel.bound == 4
    with flags.set(fpmath="bf16"):
        bound_for(plan, 2)
    assert kernel.bound == 6


def test_other_attributes_are_not_alike(own_kernels):
    class Leaky(Counting):
        name, ops = "test:leaky", ("leaky_relu",)

    kernel = own_kernels(Leaky())

    def fn(b):
        x = b.input("x", (N, 4))
        return {f"y{i}": o.leaky_relu(x, negative_slope=s) for i, s in enumerate((0.1, 0.2, 0.1))}

    bound_for(make_plan(build(fn), TEST), 2)
    assert kernel.bound == 2


def test_a_size_of_zero_is_not_prepared(own_kernels):
    kernel = own_kernels(Counting())
    plan = make_plan(build(chain), TEST)
    step(bound_for(plan, 0), floats(0, 4), floats(4))
    assert kernel.bound == 1
    step(bound_for(plan, 2), floats(2, 4), floats(4))
    assert kernel.bound == 2


def deep(layers: int, width: int) -> Program:
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    program = Program("deep")
    with Builder(program) as b:
        loss = mse_loss(model(b.input("x", (N, width))), b.input("y", (N, width)))
        program.outputs = {"loss": loss}
    program.block.outputs = [loss]
    return Adam(1e-3).minimize(program)


def test_the_cost_of_planning_grows_with_the_number_of_operators_and_no_faster():
    def seconds(layers):
        program = deep(layers, 4)
        scope = Scope().initialize(program)
        start = time.perf_counter()
        plan = make_plan(optimize(program))
        for n in (2, 3):
            Bound(plan, {"N": n}, scope.arrays, 1, block_functions)
        return time.perf_counter() - start

    seconds(2)
    short = min(seconds(40) for _ in range(3))
    long = min(seconds(320) for _ in range(2))
    assert long < 3 * 8 * short  # eight times the operators; what is quadratic took 64 times
