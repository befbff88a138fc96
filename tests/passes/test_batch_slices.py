"""A training step cut for slices of its batch: what goes where, and what cannot be cut."""

import pytest

import noria
from noria import nn, ops, optim
from noria.core.errors import ArgumentError
from noria.ir.opdef import lookup
from noria.ir.verify import verify
from noria.passes.batch_slices import ROW_BY_ROW, STATISTICS, SUMS, split_batch


def training(model, *shape, rate=0.1):
    program = noria.trace(
        lambda x, y: {"loss": ops.reduce_mean(ops.square(model(x) - y)), "out": model(x)},
        x=noria.spec("N", *shape),
        y=noria.spec("N", 1),
    )
    return optim.SGD(rate).minimize(program)


def types(program):
    return [op.type for op in program.operators]


@pytest.mark.parametrize("op", sorted({*ROW_BY_ROW, *SUMS, *STATISTICS}))
def test_the_tables_name_ops(op):
    assert lookup(op).name == op


def test_gradients_are_sums_and_updates_come_after_them():
    split = split_batch(training(nn.Linear(3, 1), 3), 2)
    verify(split.rows)
    verify(split.whole)
    assert split.batch == "N" and split.sliced == ["x", "y"]
    assert "sgd_update" not in types(split.rows) and types(split.whole).count("sgd_update") == 2
    assert sorted(map(len, split.sums.values())) == [2, 2]
    weight = next(n for n in split.sums if split.rows.outputs[n].shape == (1, 3))
    assert all(split.whole.state[n].value.shape == (1, 3) for n in split.sums[weight])


def test_rows_that_are_needed_together_are_joined():
    split = split_batch(training(nn.Linear(3, 1), 3), 2)
    shapes = {str(split.rows.outputs[n]) for n in split.joined}
    assert shapes == {"float32[N, 1]"}  # of the loss, and the output that is fetched
    assert {v.name for v in split.whole.block.inputs} == {*split.joined}


def test_the_divisor_of_a_mean_is_the_number_of_all_rows():
    split = split_batch(training(nn.Linear(3, 1), 3), 2)
    assert [str(d) for d in split.numbers.values()] == ["N"]
    assert "dim_value" not in types(split.rows)


def test_the_slices_do_not_change_state():
    program = training(nn.Linear(3, 1), 3)
    split = split_batch(program, 3)
    assert split.rows.updates.keys() == program.updates.keys()
    assert all(v is program.state[n].value for n, v in split.rows.updates.items())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda x: ops.reduce_sum(ops.softmax(x, axis=0), axis=1, keepdims=True), "softmax"),
        (lambda x: x[:, :1] - ops.reduce_mean(x), "sub"),
        (lambda x: ops.reduce_sum(ops.cumsum(x, axis=0), axis=1, keepdims=True), "cumsum"),
    ],
)
def test_rows_that_depend_on_each_other_are_refused(model, words):
    linear = nn.Linear(3, 3)
    with pytest.raises(ArgumentError, match=f"cut into slices here\n.*{words}"):
        split_batch(training(lambda x: model(linear(x)), 3), 2)


def test_statistics_of_the_batch_are_refused_unless_each_slice_may_have_its_own():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    program = training(model, 3)
    with pytest.raises(ArgumentError, match="own_statistics"):
        split_batch(program, 2)
    split = split_batch(program, 2, own_statistics=True)
    assert "batch_norm" in types(split.rows) and "batch_norm" not in types(split.whole)


def test_a_program_without_an_open_batch_is_refused():
    program = noria.trace(lambda x: {"y": ops.exp(x)}, x=noria.spec(3, 4))
    with pytest.raises(ArgumentError, match="no batch"):
        split_batch(program, 2)
