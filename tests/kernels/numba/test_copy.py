"""Ops that only move elements, beside their reference."""

import numpy as np
import pytest

from noria.core.dims import symbol
from noria.kernels.numba import generate
from noria.kernels.numba.copy import Copy
from noria.kernels.registry import LAST, PLAIN, Declined
from tests.kernels.numba.running import bind, compute, empty, last, operator, reference, team

KERNEL, N = Copy(), symbol("N")
X = np.random.default_rng(1).integers(-99, 99, (3, 5, 7)).astype(np.float32)

CASES = [
    ("broadcast_to", [X[:, :1]], {"shape": (4, 3, 9, 7)}),
    ("broadcast_to", [X], {"shape": (3, 5, 7)}),
    ("broadcast_to", [np.array(2, np.int8)], {"shape": (100,)}),
    ("transpose", [X], {}),
    ("transpose", [X], {"perm": (1, -1, 0)}),
    ("transpose", [X[0]], {"perm": (0, 1)}),
    ("tile", [X], {"repeats": (2, 1, 3)}),
    ("tile", [np.array(2.0)], {"repeats": ()}),
    ("slice", [X], {"axes": (0, 2), "starts": (1, -1), "stops": (None, None), "steps": (1, -2)}),
    ("slice", [X], {"axes": (-1,), "starts": (None,), "stops": (-2,)}),
    ("slice", [X], {"axes": (), "starts": (), "stops": ()}),
    ("pad", [X], {"pads": ((1, 2), (0, 3), (1, 0)), "value": 2.5}),
    ("pad", [X], {"pads": ((0, 0),) * 3}),
    ("pad", [X.astype(np.uint8)], {"pads": ((1, 1),) * 3, "value": 7}),
    ("unpad", [X], {"pads": ((1, 1), (0, 3), (2, 0))}),
    ("roll", [X], {"shift": 3}),
    ("roll", [X], {"shift": (1, -9), "axis": (0, -1)}),
    ("roll", [X], {"shift": 5, "axis": 1}),
    ("concat", [X, X[:, :2], X[:, 1:]], {"axis": 1}),
    ("concat", [X, X], {"axis": -1}),
    ("split", [X], {"sizes": (1, 3, 1), "axis": 1}),
    ("split", [X], {"num": 7, "axis": -1}),
    ("fill", [], {"shape": (3, 5), "value": 1.5, "dtype": "bfloat16"}),
    ("fill", [], {"shape": (), "value": -7, "dtype": "int8"}),
    ("fill", [], {"shape": (100,), "value": True, "dtype": "bool"}),
    ("dim_value", [], {"dim": 12}),
]
UNSLICED = [
    {"axes": (0, 2), "starts": (1, 2), "stops": (3, 6)},
    {"axes": (0, 2), "starts": (1, 2), "stops": (3, 6), "steps": (1, 2)},
    {"axes": (1,), "starts": (4,), "stops": (0,), "steps": (-1,)},
]


def check(name, inputs, attrs, **how):
    op = operator(name, inputs, **attrs)
    for got, want in zip(compute(KERNEL, op, inputs, **how), reference(op, inputs), strict=True):
        assert (got == want).all()


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize(("name", "inputs", "attrs"), CASES)
def test_elements_go_where_the_reference_puts_them(name, inputs, attrs, size):
    with team(size):
        check(name, inputs, attrs, threads=size)


@pytest.mark.parametrize("attrs", UNSLICED)
def test_unslice_puts_a_slice_back(attrs):
    op = operator("slice", [X], **attrs)
    part = np.ascontiguousarray(reference(op, [X])[0])
    check("unslice", [part], {"shape": X.shape, **attrs})


@pytest.mark.parametrize(
    ("name", "attrs"),
    [
        ("slice", {"axes": (1,), "starts": (2,), "stops": (9,)}),
        ("pad", {"pads": ((0, 0), (1, 0), (2, 2), (2, 2))}),
        ("tile", {"repeats": (1, 2, 1, 1)}),
        ("roll", {"shift": 2, "axis": 1}),
        ("concat", {"axis": 1}),
    ],
)
def test_channels_last_stays_channels_last(name, attrs):
    x = np.random.default_rng(1).standard_normal((2, 16, 3, 4)).astype("f")
    inputs = [last(x), x] if name == "concat" else [last(x)]
    op = operator(name, inputs, **attrs)
    given = [LAST, PLAIN][: len(inputs)]
    assert KERNEL.layout(op, given) == ([None] * len(inputs), [LAST])
    check(name, inputs, attrs, layout=LAST)


def test_transposes_and_flattened_rolls_are_plain():
    x = np.zeros((2, 3, 4, 5), np.float32)
    assert KERNEL.layout(operator("transpose", [x]), [LAST]) == ([None], [PLAIN])
    assert KERNEL.layout(operator("roll", [x], shift=1), [LAST]) == ([PLAIN], [PLAIN])
    split = operator("split", [x], num=3, axis=1)
    assert KERNEL.layout(split, [LAST]) == ([None], [LAST] * 3)


@pytest.mark.parametrize("name", ["pad", "unpad"])
def test_borders_that_repeat_the_inside_are_declined(name):
    op = operator(name, [X], pads=((1, 1),) * 3, mode="edge")
    with pytest.raises(Declined, match="edge"):
        KERNEL.accepts(op)


@pytest.mark.parametrize(
    ("name", "shape", "attrs"),
    [
        ("slice", (N, 6, 5), {"axes": (1,), "starts": (2,), "stops": (4,)}),
        ("transpose", (N, 20, 30), {"perm": (0, 2, 1)}),
        ("tile", (N, 4), {"repeats": (1, 2)}),
        ("broadcast_to", (N, 1, 5), {"shape": (N, 4, 5)}),
        ("broadcast_to", (1, 5), {"shape": (N, 5)}),
    ],
)
def test_a_new_batch_size_needs_no_new_source(name, shape, attrs):
    counts = []
    for batch in (4, 1, 9):
        inputs = [np.zeros([batch if d == N else d for d in shape], np.float32)]
        op = operator(name, inputs, [shape], **attrs)
        sizes = [[batch if d == N else d for d in v.shape] for v in op.outputs]
        now = {
            k: tuple(batch if d is N else d for d in v) if k == "shape" else v
            for k, v in op.attrs.items()
        }
        bind(KERNEL, op, inputs, [empty(s, "float32") for s in sizes], attrs=now)
        counts.append(len(generate._sources))
    assert counts[0] == counts[1] == counts[2]


def test_nothing_is_copied_by_an_empty_part():
    op = operator("split", [X], sizes=(5, 0), axis=1)
    out = [empty((3, 5, 7), "float32"), empty((3, 0, 7), "float32")]
    prepared = bind(KERNEL, op, [X], out)
    assert len(prepared.emit([0], [0, 0], [], 0)) == 1


def test_numbers_of_channels_spread_over_images_lie_channels_last():
    x = np.arange(6, dtype=np.float32).reshape(2, 3, 1, 1)
    op = operator("broadcast_to", [x], shape=(2, 3, 5, 4))
    assert KERNEL.layout(op, [PLAIN]) == ([None], [LAST])
    (got,) = compute(KERNEL, op, [x], layout=LAST)
    assert (got == x).all()
    for shape, to in (((2, 1, 5, 4), (2, 3, 5, 4)), ((1, 4), (3, 4)), ((4, 1), (2, 3, 4, 5))):
        op = operator("broadcast_to", [np.zeros(shape, "f")], shape=to)
        assert KERNEL.layout(op, [PLAIN])[1] == [PLAIN]
