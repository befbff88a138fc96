"""Phases and layers, read off the data flow."""

import pytest

from noria.ir.opdef import vocabulary as o
from noria.ir.trace import spec, trace
from noria.nn.layers import BatchNorm2d, Conv2d, Flatten, Linear, ReLU
from noria.nn.module import Sequential
from noria.optim.optimizer import Adam
from noria.passes.pipeline import OPTIMIZE, run
from noria.runtime.plan import make_plan
from noria.runtime.profiling.phases import BACKWARD, FORWARD, UPDATE, layers, phases
from tests.runtime.programs import mlp


def training(outputs=True, sweep=True):
    net = Sequential(
        Conv2d(3, 4, 3, bias=False), BatchNorm2d(4), ReLU(), Flatten(), Linear(4 * 36, 5)
    )

    def step(x, y):
        return {"loss": o.reduce_mean(o.softmax_cross_entropy(net(x), y)[0])}

    program = trace(step, x=spec("N", 3, 8, 8), y=spec("N", dtype="int64"))
    program = Adam(1e-3).minimize(program)
    if not outputs:
        program.outputs, program.block.outputs = {}, []
    return run(program, [line for line in OPTIMIZE if sweep or line.name != "gather_updates"])


@pytest.mark.parametrize("outputs", [True, False])
def test_a_training_step_has_three_phases(outputs):
    program = training(outputs)
    found = phases(program, program.operators)
    by_type = {op.type: phase for op, phase in found.items()}
    assert by_type["conv2d_weight_grad"] == by_type["batch_norm_relu_grad"] == BACKWARD
    assert by_type["conv2d"] == by_type["batch_norm_relu"] == by_type["linear"] == FORWARD
    assert by_type["sweep"] == UPDATE
    assert set(found) == set(program.operators)


def test_inference_is_forward_only():
    program = mlp(4, 8, 2)
    assert set(phases(program, program.operators).values()) == {FORWARD}


def test_layers_are_named_by_their_parameters_forward_and_backward():
    program = training()
    steps = [s.op for s in make_plan(program, frozenset()).steps]
    found = {}
    for op, layer in layers(program, steps).items():
        found.setdefault(op.type, set()).add(layer)
    assert found["conv2d"] == found["conv2d_weight_grad"] == {"0"}
    assert found["batch_norm_relu"] == found["batch_norm_relu_grad"] == {"1"}
    assert found["linear"] == {"4"} and found["sweep"] == {""}  # of all of them
    assert found["softmax_cross_entropy"] == {"4"}


def test_gradients_belong_to_the_layer_whose_part_of_a_sweep_reads_them():
    program = training()
    (sweep,) = (op for op in program.operators if op.type == "sweep")
    named = layers(program, program.operators)
    makers = {v: op for op in program.operators for v in op.outputs}
    read = {named[makers[v]] for v in sweep.operands if v in makers}
    assert read >= {"0", "1", "4"}


def test_what_an_optimizer_keeps_belongs_to_the_parameter():
    program = training(sweep=False)
    steps = list(program.operators)
    named = layers(program, steps)
    updates = [named[op] for op in steps if op.type == "adam_update"]
    assert "0" in updates and not any("weight" in name for name in updates)
