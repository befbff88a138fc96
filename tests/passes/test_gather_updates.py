import numpy as np
import pytest

import noria.ops.sweep  # noqa: F401  (importing a family registers its ops)
from noria.passes.gather_updates import MOST, SMALL, WAITING, gather_updates
from tests.passes.programs import apply, assert_same_numbers, program, types


def updates(*sizes, between=(), clip=False):
    """SGD of states of so many floats, each with a gradient that is made just before."""
    lines = ["state lr: float32[] = fill(value=0.1)"]
    lines += [f"input x{i}: float32[{n}]" for i, n in enumerate(sizes)]
    lines += [f"state w{i}: float32[{n}] = fill(value=1.0)" for i, n in enumerate(sizes)]
    made = [f"g{i}: float32[{n}] = softmax(x{i})" for i, n in enumerate(sizes)]
    done = [f"n{i}: float32[{n}] = sgd_update(w{i}, g{i}, lr)" for i, n in enumerate(sizes)]
    if clip:
        lines += [*made, *done]
    else:
        lines += [line for pair in zip(made, done, strict=True) for line in pair]
    lines += [*between, *(f"update w{i} = n{i}" for i in range(len(sizes)))]
    return program("\n".join(lines))


def groups(before):
    """How many updates each sweep has, and the types of the other operators."""
    after, _ = apply(gather_updates, before)
    assert_same_numbers(before, after)
    found = [len(o.blocks["body"].operators) for o in after.operators if o.type == "sweep"]
    return found, [t for t in types(after) if t not in ("sweep", "softmax")]


def test_small_updates_wait_for_each_other():
    assert groups(updates(3, 5, 1, 7)) == ([4], [])


def test_one_update_stays_as_it_is():
    assert groups(updates(3)) == ([], ["sgd_update"])


def test_small_ones_go_with_the_next_large_one():
    large = SMALL // 4 + 1
    assert groups(updates(3, 5, large, 7, large, 2)) == ([3, 2], ["sgd_update"])


def test_large_ones_that_come_one_after_the_other_stay_apart():
    large = SMALL // 4 + 1
    assert groups(updates(large, large, large)) == ([], ["sgd_update"] * 3)


def test_not_too_many_small_ones_wait():
    n = SMALL // 4
    count = 2 * (WAITING // SMALL) + 2
    found, rest = groups(updates(*[n] * count))
    assert len(found) == 2 and not rest


def test_one_call_has_a_limit():
    assert groups(updates(*[2] * (2 * MOST + 3))) == ([MOST, MOST, 3], [])
    assert groups(updates(*[2] * (MOST + 1))) == ([MOST], ["sgd_update"])


def test_large_ones_that_become_possible_at_once_go_together():
    n = SMALL // 4 + 1
    lines = [
        "input s: float32[]",
        "c: float32[] = exp(s)",
        *(f"input g{i}: float32[{n}]" for i in range(3)),
        *(f"state w{i}: float32[{n}] = fill(value=1.0)" for i in range(3)),
        *(f"n{i}: float32[{n}] = sgd_update(w{i}, g{i}, c)" for i in range(3)),
        *(f"update w{i} = n{i}" for i in range(3)),
    ]
    assert groups(program("\n".join(lines))) == ([3], ["exp"])


@pytest.mark.parametrize("which", ["used", "symbolic"])
def test_what_something_else_needs_or_has_no_known_size_stays(which):
    more = ("e: float32[3] = exp(n0)", "output e = e") if which == "used" else ()
    before = updates(3, 5, 7, between=more)
    if which == "symbolic":
        before = program("""
          input g: float32[N]
          input w: float32[N]
          input v: float32[N]
          state lr: float32[] = fill(value=0.1)
          a: float32[N] = sgd_update(w, g, lr)
          b: float32[N] = sgd_update(v, g, lr)
          output a = a
          output b = b
        """)
        assert groups(before) == ([], ["sgd_update", "sgd_update"])
    else:
        assert groups(before) == ([2], ["sgd_update", "exp"])


def test_an_elementwise_operator_that_updates_nothing_stays():
    before = program("""
      input x: float32[3]
      input y: float32[3]
      a: float32[3] = exp(x)
      b: float32[3] = exp(y)
      output a = a
      output b = b
    """)
    after, report = apply(gather_updates, before)
    assert after is before and not report.fired
    assert np.array_equal(types(after), ["exp", "exp"])
