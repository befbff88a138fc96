import pytest

import noria  # noqa: F401  (registers every op)
from noria.ir.opdef import lookup, registry
from noria.ops.precision import FOLLOWS, MOVES, POINTWISE, PRODUCTS


@pytest.mark.parametrize("name", sorted({*PRODUCTS, *FOLLOWS, *MOVES, *POINTWISE}))
def test_the_table_names_ops_and_inputs_they_have(name):
    inputs = lookup(name).inputs
    for i in PRODUCTS.get(name, ()) + FOLLOWS.get(name, ()):
        assert i < len(inputs) and not inputs[i].variadic


def test_no_op_is_of_two_kinds():
    kinds = [set(PRODUCTS), set(FOLLOWS), set(MOVES), set(POINTWISE)]
    assert sum(map(len, kinds)) == len(set().union(*kinds))


@pytest.mark.parametrize("name", sorted(registry))
def test_losses_softmax_and_updates_stay_float32(name):
    if name.endswith("_update") or "softmax" in name or "loss" in name or "reduce" in name:
        assert name not in {*PRODUCTS, *FOLLOWS, *MOVES, *POINTWISE}
