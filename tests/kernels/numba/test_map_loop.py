"""Generated maps: every point once, by whichever thread, with rows of any length."""

import platform
import re

import numpy as np
import pytest

from noria.kernels.numba import lower
from noria.kernels.numba.body import body_of, copy_body
from noria.kernels.numba.codegen import form_of
from noria.kernels.numba.elementwise import Elementwise
from noria.kernels.numba.map_loop import map_source
from noria.kernels.numba.space import Space
from tests.kernels.numba.running import compute, operator, reference, same_bits, team

SHAPES = [
    ((1,), (1,)),
    ((1000,), (1000,)),
    ((7, 33), (33,)),
    ((33, 7), (33, 1)),
    ((3, 17, 5), (17, 1)),
    ((2, 3, 4, 5), (1, 3, 1, 5)),
    ((65, 1), (1, 65)),
    ((1000, 3), (3,)),
]


@pytest.mark.parametrize("size", [1, 2, 5, 16])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_threads_share_all_points_and_no_more(left, right, size):
    rng = np.random.default_rng(1)
    x, y = (rng.standard_normal(s).astype("f") for s in (left, right))
    op = operator("sub", [x, y])
    with team(size):
        (got,) = compute(Elementwise(), op, [x, y], threads=size)
    assert same_bits(got, reference(op, [x, y])[0])


def test_contiguous_operands_are_one_plain_loop():
    source = map_source(form_of(copy_body("uint32"), Space((8,), ((1, 1),), (False,))))
    assert source.splitlines() == [
        "def map(args):",
        "    p0 = load_int64(args, 0)",
        "    p1 = load_int64(args, 1)",
        "    n0 = load_int64(args, 2)",
        "    me = thread_id()",
        "    team = team_size()",
        "    count = n0",
        "    at = count * me // team // 64 * 64",
        "    end = count * (me + 1) // team // 64 * 64",
        "    if me + 1 == team:",
        "        end = count",
        "    for i in range(at, end):",
        "        independent()",
        "        t1 = load_uint32(p0, i)",
        "        store_uint32(p1, i, t1)",
        "    return 0",
    ]


@pytest.mark.parametrize("name", ["add", "relu", "where", "gelu", "tanh", "adam_update"])
def test_contiguous_float32_becomes_vectors(name):
    if platform.machine() != "x86_64":
        pytest.skip("looks for instructions of x86-64")
    x, flag, scalar = np.zeros(8, np.float32), np.zeros(8, bool), np.zeros((), np.float32)
    inputs = {
        "add": [x, x],
        "where": [flag, x, x],
        "adam_update": [x, x, x, x, scalar, np.array(1)],
    }.get(name, [x])
    op = operator(name, inputs)
    space = Space((8,), (tuple(int(a.ndim) for a in (*inputs, *op.outputs)),), (False,))
    text = lower.assembly(map_source(form_of(body_of(op), space)), "map")
    assert re.search(
        r"\tv?mov(ups|aps|dq[ua]\d*)\t%[xyz]mm\d+, .*\(", text
    )  # a store of several elements


def test_a_row_loads_what_it_repeats_once():
    space = Space((5, 8), ((1, 8), (0, 1)), (False, False))
    source = map_source(form_of(copy_body("uint32"), space))
    row, point = source.split("        for i in")
    assert "t1 = load_uint32(q0, 0)" in row
    assert "load" not in point
