"""The list of all kernels."""

from __future__ import annotations

from collections import defaultdict

from noria.ir.opdef import lookup
from noria.kernels import library
from noria.kernels.registry import kernels
from noria.ops.library import FAMILIES


def test_every_kernel_runs_ops_that_exist() -> None:
    assert library and FAMILIES
    for kernel in kernels():
        assert kernel.ops, kernel.name
        for op in kernel.ops:
            assert lookup(op).compute_fn is not None, f"{kernel.name}: {op} has no reference"


def test_kernels_have_names_of_their_own_and_an_engine() -> None:
    names = [k.name for k in kernels()]
    assert len(set(names)) == len(names)
    assert {k.engine for k in kernels()} == {"onednn", "numba"}


def test_kernels_that_share_an_op_say_who_is_asked_first() -> None:
    asked = defaultdict(list)
    for kernel in kernels():
        for op in kernel.ops:
            asked[op, kernel.priority].append(kernel.name)
    same = {op: names for (op, _), names in asked.items() if len(names) > 1}
    assert not same, f"give them different `priority` (noria/kernels/registry.py): {same}"
