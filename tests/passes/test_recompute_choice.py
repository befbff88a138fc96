"""The model of memory, and what is dropped when it does not fit."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.ir.emit import Builder
from noria.ir.opdef import vocabulary as o
from noria.ir.program import Program, Spec
from noria.passes.recompute_choice import Memory, Values, choose, cost_of, nbytes_of

N = symbol("N")
SIZES = {"N": 8}


def chain(length, width=4, act="tanh"):
    """x -> act -> act ... and a made-up backward part that reads all of it from the last on."""
    program = Program("chain")
    with Builder(program) as b:
        x = b.input("x", (N, width))
        values = [x]
        for _ in range(length):
            values.append(getattr(o, act)(values[-1]))
        forward = len(program.operators)
        g = o.square(values[-1])
        for v in reversed(values[1:]):
            g = o.mul(g, v)
        program.outputs = {"g": g}
    program.block.outputs = [g]
    return program, forward, values[1:]


def test_what_the_backward_part_reads_is_saved():
    program, forward, made = chain(5)
    values = Values(program, forward)
    assert values.saved == made
    assert [len(values.again[v]) for v in made] == [1] * 5
    assert values.inputs[made[0]] == [program.inputs["x"]]
    assert values.inputs[made[3]] == [made[2]]


def test_a_dropped_value_is_needed_as_early_as_what_is_computed_from_it():
    program, forward, made = chain(5)
    values = Values(program, forward)
    assert values.needs(made[:1]) == {made[0]: values.first[made[0]]}
    needs = values.needs(made)
    assert set(needs.values()) == {values.first[made[4]]}  # the last one is needed first of all


def test_the_model_counts_each_moment():
    program, forward, made = chain(4)
    memory = Memory(Values(program, forward), SIZES)
    one = 8 * 4 * 4
    usage = memory.usage(())
    assert usage[:4].tolist() == [one, 2 * one, 3 * one, 4 * one]
    assert usage.max() == 6 * one  # all four, and a gradient made from another
    less = memory.usage(made[1:2])
    assert (usage - less).min() >= 0 and (usage - less).sum() > 0


@pytest.mark.parametrize("count", [12, 30])
def test_what_is_dropped_fits_the_budget_and_no_more_is_dropped_than_that_takes(count):
    program, forward, _made = chain(count)
    values = Values(program, forward)
    memory = Memory(values, SIZES)
    peak = memory.usage(()).max()
    assert choose(values, SIZES, int(peak)) == []
    for share in (0.9, 0.75, 0.6):
        budget = int(share * peak)
        dropped = choose(values, SIZES, budget)
        assert 0 < len(dropped) < count
        assert memory.usage(dropped).max() <= budget
        for v in dropped:
            assert memory.usage([u for u in dropped if u is not v]).max() > budget


def test_a_budget_that_cannot_be_had_is_approached():
    program, forward, _made = chain(40)
    values = Values(program, forward)
    memory = Memory(values, SIZES)
    dropped = choose(values, SIZES, 1)
    assert memory.excess(dropped, 1) < 0.75 * memory.excess((), 1)


def test_the_cheap_one_of_two_is_dropped():
    program = Program("two")
    with Builder(program) as b:
        x = b.input("x", (N, 64))
        w = b.state("w", (64, 64))
        a, c = o.matmul(x, w), o.relu(x)
        both = o.add(a, c)
        forward = len(program.operators)
        g = o.square(both)
        program.outputs = {"g": o.mul(o.mul(g, a), c)}
    program.block.outputs = list(program.outputs.values())
    values = Values(program, forward)
    usage = Memory(values, SIZES).usage(())
    one = 8 * 64 * 4
    assert choose(values, SIZES, int(usage.max()) - one) == [c]
    by_type = {op.type: cost_of(op, SIZES) for op in program.operators}
    assert by_type["matmul"] > by_type["relu"]


def test_sizes_that_only_a_run_tells_count_nothing():
    assert nbytes_of(Spec((symbol("K"), 3)), SIZES) == 0
    assert nbytes_of(Spec((N, 3), "float64"), SIZES) == 8 * 3 * 8


def test_the_model_agrees_with_counting_by_hand_for_random_choices():
    program, forward, made = chain(12)
    values = Values(program, forward)
    memory = Memory(values, SIZES)
    rng = np.random.default_rng(0)
    base = memory.usage(())
    for _ in range(20):
        dropped = [v for v in made if rng.random() < 0.4]
        needs = values.needs(dropped)
        expected = base.copy()
        for v in dropped:
            made_at = program.operators.index(values.maker[v])
            read = [i for i in range(forward) if v in program.operators[i].operands]
            gone = max([*read, made_at]) + 1
            expected[gone : needs[v]] -= memory.nbytes[v]
        np.testing.assert_array_equal(memory.usage(dropped), expected)
