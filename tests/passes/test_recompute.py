"""Values computed again in the backward part: the same numbers in less memory."""

import numpy as np
import pytest

from noria import nn
from noria.core.dims import symbol
from noria.core.errors import ArgumentError, MissingError
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program
from noria.ir.text import format_program
from noria.ir.trace import spec, trace
from noria.ir.verify import verify
from noria.nn.layers import Dropout
from noria.ops.criterion import mse_loss
from noria.optim.optimizer import SGD, Adam
from noria.passes.pipeline import optimize
from noria.passes.recompute import Budget, recompute, recomputed
from noria.runtime.executor import Executor
from tests.passes.programs import program as parsed
from tests.passes.test_pipeline import pictures


def test_the_picture():
    ((given, result),) = pictures(recompute)
    before = parsed("\n".join(given.splitlines()[1:-1]))
    made = [v for op in before.operators[:3] for v in op.outputs]
    before.recomputed.append(frozenset(made))
    after = recompute(before, 3)
    verify(after)
    expected = parsed("\n".join(result.splitlines()[1:-1]))
    plain = [line.split("    #")[0] for line in format_program(after).splitlines()]
    assert plain == [line.split("    #")[0] for line in format_program(expected).splitlines()]


class Net(nn.Module):
    """Blocks of a linear layer, batch norm and dropout, with a way around them."""

    def __init__(self, blocks, width, marked):
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.BatchNorm(width) for _ in range(blocks))
        self.blocks = blocks
        self.drop, self.marked = Dropout(0.3), marked

    def block(self, i, x):
        return x + self.drop(o.tanh(self.norms[i](self.layers[i](x))))

    def __call__(self, x):
        for i in range(self.blocks):
            if self.marked:
                with recomputed():
                    x = self.block(i, x)
            else:
                x = self.block(i, x)
        return x


WIDTH = 8


def forward_of(blocks=6, marked=False):
    net = Net(blocks, WIDTH, marked)
    return trace(lambda x, y: {"loss": mse_loss(net(x), y)}, x=spec("N", WIDTH), y=spec("N", WIDTH))


def trained(program, steps=3, **how):
    executor = Executor(program, seed=3, **how)
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((512, WIDTH)).astype("f") for _ in range(2))
    losses = [executor.run({"x": x, "y": y})["loss"] for _ in range(steps)]
    return losses, executor.scope.state(), executor.bound({"x": x, "y": y}).peak_bytes


def assert_same_training(a, b):
    assert [x.tobytes() for x in a[0]] == [x.tobytes() for x in b[0]]
    assert a[1].keys() == b[1].keys()
    for name, array in a[1].items():
        np.testing.assert_array_equal(array, b[1][name], err_msg=name)


@pytest.mark.parametrize("threads", [1, 2])
def test_marked_parts_give_the_same_numbers_in_less_memory(threads):
    plain = trained(SGD(0.1).minimize(forward_of()), threads=threads)
    less = trained(SGD(0.1).minimize(forward_of(marked=True)), threads=threads)
    assert_same_training(plain, less)
    assert less[2] < 0.7 * plain[2]


def test_a_budget_gives_the_same_numbers_in_less_memory():
    forward = forward_of()
    plain = trained(Adam(0.01).minimize(forward))
    budget = Budget(0.6 * plain[2], N=512)
    less = trained(Adam(0.01).minimize(forward, recompute=budget))
    assert_same_training(plain, less)
    assert less[2] < 0.75 * plain[2]


def test_a_budget_that_is_large_enough_changes_nothing():
    forward = forward_of()
    plain = SGD(0.1).minimize(forward)
    same = SGD(0.1).minimize(forward, recompute=Budget(1e12, N=512))
    assert [op.type for op in same.operators] == [op.type for op in plain.operators]


def test_passes_do_not_merge_what_is_computed_again_with_the_first_time():
    program = SGD(0.1).minimize(forward_of(marked=True))
    again = [op.type for op in program.operators if op.made_by == "recompute"]
    assert again.count("linear") == 6 and again.count("dropout") >= 5
    after = optimize(program)
    linear = [op for op in after.operators if op.type in ("linear", "fused_linear")]
    assert len(linear) == 12


def test_what_leaves_a_marked_part_is_kept():
    program = SGD(0.1).minimize(forward_of(blocks=2, marked=True))
    sums = [op for op in program.operators if op.type == "add" and op.made_by == "recompute"]
    assert not sums  # x + ... of each block goes to the next one


def test_a_mark_on_arrays_does_nothing():
    with recomputed():
        np.testing.assert_array_equal(o.relu(np.array([-1.0, 2.0], "f")), [0, 2])


def test_a_module_can_be_marked_as_a_whole():
    layer = nn.Linear(WIDTH, WIDTH)
    marked = recomputed()(layer)
    program = trace(lambda x: {"loss": o.reduce_mean(o.tanh(marked(x)))}, x=spec("N", WIDTH))
    assert [len(part) for part in program.recomputed] == [1]
    training = SGD(0.1).minimize(program)
    assert not any(op.made_by == "recompute" for op in training.operators)  # tanh needs no more


def test_the_budget_names_all_sizes():
    with pytest.raises(MissingError) as error:
        SGD(0.1).minimize(forward_of(), recompute=Budget(1000, M=3))
    assert "N" in error.value.what and "N=32" in error.value.hint


@pytest.mark.parametrize("bad", [-1, "much", None, True])
def test_a_budget_is_a_number(bad):
    with pytest.raises(ArgumentError):
        Budget(bad)
    with pytest.raises(ArgumentError):
        Budget(1, N=bad)


def test_control_flow_is_kept():
    n = symbol("N")
    program = Program("loops")
    with Builder(program) as b:
        x, w = b.input("x", (n, 4)), b.state("w", (4,), trainable=True)
        with recomputed():
            y = o.tanh(o.mul(x, w))
            z = o.exp(y)
        program.outputs = {"loss": o.reduce_mean(o.square(z))}
    program.block.outputs = list(program.outputs.values())
    training = SGD(0.1).minimize(program)
    again = [op.type for op in training.operators if op.made_by == "recompute"]
    assert again == ["later", "mul", "tanh"]
