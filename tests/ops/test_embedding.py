import importlib
import itertools

import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.ir.sparse import SparseGrad
from noria.ops.embedding import embedding, embedding_bag, field_ids
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

family = importlib.import_module("noria.ops.embedding")  # the op has the name of its file


def rows(table, ids):
    out = [table[i] for i in ids.ravel()]
    return np.array(out, table.dtype).reshape(*ids.shape, *table.shape[1:])


SPLITS = np.array([0, 3, 3, 4, 9])


def bag(table, ids, weights=None, splits=None, mode="sum", padding_idx=None):
    """Bag by bag, in float64."""
    if splits is not None:
        bounds = list(itertools.pairwise(splits))
        ids = [ids[a:b] for a, b in bounds]
        weights = weights if weights is None else [weights[a:b] for a, b in bounds]
    out = np.zeros((len(ids), table.shape[1]))
    for i, each in enumerate(ids):
        kept = [j for j, k in enumerate(each) if k != padding_idx]
        scale = [1 if weights is None else float(weights[i][j]) for j in kept]
        picked = [table[each[j]].astype(float) * w for j, w in zip(kept, scale, strict=True)]
        pool = {"sum": np.sum, "mean": np.mean, "max": np.max}[mode]
        out[i] = pool(picked, axis=0) if kept else 0
    return out


OPEN = {1: {0: "N"}}
CASES = [
    Case(
        "field_ids",
        [np.array([[0, 0, 4], [2, 0, 0]])],
        {"sizes": (3, 1, 5)},
        expect=lambda i: i + np.array([0, 3, 4]),
    ),
    Case("field_ids", [ints(7, 4, high=9, dtype="int32")], {"sizes": (9,) * 4}),
    Case("embedding", [arr(5, 3), ints(4, high=5)], expect=rows, symbolic=OPEN, grad2=True),
    Case("embedding", [arr(5, 3), ints(2, 4, high=5)], {"sparse": True}, expect=rows),
    Case("embedding", [arr(5, 3), ints(6, high=5, dtype="int32")], expect=rows),
    Case("embedding", [arr(5, 2, 3), ints(3, 2, high=5)], expect=rows, symbolic=OPEN),
    Case("embedding", [arr(5), ints(3, high=5)], expect=rows),
    Case("embedding", [arr(5, 3), np.int64(4)], expect=rows),
    Case("embedding", [arr(5, 3), ints(0, 2)], expect=rows),
    Case("embedding", [arr(0, 3), ints(0)], expect=rows),
    Case("embedding", [arr(5, 3, dtype="bfloat16"), ints(9, high=5)], expect=rows),
    # the row of padding_idx gets no gradient, though out depends on it
    Case("embedding", [arr(5, 3), ints(9, high=5)], {"padding_idx": 2}, expect=rows, grad=False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    found = {d.name for d in vars(family).values() if isinstance(d, OpDef)}
    assert found == {c.op for c in CASES}


def table_gradient(ids, sparse, padding_idx=None):
    program = Program()
    with Builder(program) as builder:
        table = builder.input("table", (4, 2))
        value = builder.input("ids", ids.shape, "int64")
        out = embedding(table, value, sparse=sparse, padding_idx=padding_idx)
        seed = builder.input("seed", out.shape)
        (g,) = gradients(out, [table], [seed], sparse=True)
        assert isinstance(g, SparseGrad) == sparse
        parts = {"ids": g.ids, "rows": g.rows, "g": g.dense()} if sparse else {"g": g}
        program.outputs = parts
    seeds = np.arange(ids.size * 2, dtype=np.float32).reshape(*ids.shape, 2) + 1
    table_ = np.zeros((4, 2), np.float32)
    return run_program(program, {"table": table_, "ids": ids, "seed": seeds}, {})[0]


@pytest.mark.parametrize("padding_idx", [None, 1])
def test_sparse_and_dense_gradients_are_the_same_and_leave_out_padding(padding_idx):
    ids = np.array([[1, 0], [1, 3]])
    sparse = table_gradient(ids, True, padding_idx)
    dense = table_gradient(ids, False, padding_idx)
    assert sparse["ids"].tolist() == [[1, 0], [1, 3]]
    assert np.array_equal(sparse["g"], dense["g"])
    row = [0, 0] if padding_idx == 1 else [6, 8]
    assert dense["g"].tolist() == [[3, 4], row, [0, 0], [7, 8]]


PADDED = np.array([[0, 1], [1, 1], [0, 2]])
BAGS = [
    ([arr(5, 3), ints(4, 3, high=5)], {}),
    ([arr(5, 3), ints(4, 3, high=5)], {"mode": "mean"}),
    ([arr(9, 3, distinct=True), np.array([[0, 4, 8], [1, 2, 3]])], {"mode": "max"}),
    ([arr(5, 3), ints(4, 3, high=5), arr(4, 3)], {}),
    ([arr(3, 2), PADDED], {"mode": "mean", "padding_idx": 1}),
    ([arr(3, 2), PADDED], {"mode": "max", "padding_idx": 1}),
    ([arr(3, 2), PADDED, arr(3, 2)], {"padding_idx": 1}),
    ([arr(5, 3), ints(9, high=5), None, SPLITS], {}),
    ([arr(5, 3), ints(9, high=5), None, SPLITS], {"mode": "mean"}),
    ([arr(12, 3, distinct=True), np.arange(9), None, SPLITS], {"mode": "max"}),
    ([arr(5, 3), ints(9, high=5), arr(9), SPLITS], {}),
    ([arr(5, 3), ints(9, high=3), None, SPLITS], {"mode": "mean", "padding_idx": 1}),
    (
        [arr(5, 3), np.array([1, 1, 1, 0, 1, 2, 2, 1, 1]), None, SPLITS],
        {"mode": "max", "padding_idx": 1},
    ),
]


@pytest.mark.parametrize(("inputs", "how"), BAGS)
def test_bags_are_added_averaged_or_compared(inputs, how):
    inputs = [*inputs, *[None] * (4 - len(inputs))]
    equal = inputs[3] is None and "padding_idx" not in how and how.get("mode") != "max"
    case = Case(
        "bag",
        inputs,
        expect=lambda *a: bag(*a, **how),
        symbolic=OPEN | ({} if inputs[2] is None else {2: {0: "N"}}) if equal else None,
        grad=[0, 2] if "padding_idx" not in how else False,  # none for the row of padding
    )
    check_case(case, lambda t, i, w, splits: embedding_bag(t, i, w, row_splits=splits, **how))


@pytest.mark.parametrize("ids", [[-1], [5], [[0, 9]]])
def test_ids_outside_the_table_are_told(ids):
    with pytest.raises(ArgumentError, match="outside the table"):
        embedding(np.ones((5, 2)), np.array(ids))


def test_ids_outside_the_table_give_nan_under_xla():
    jnp = pytest.importorskip("jax.numpy")
    out = embedding.run(jnp, [jnp.ones((3, 1)), jnp.array([-1, 0, 3])], embedding.bind_attrs({}))
    assert np.isnan(np.asarray(out[0])).ravel().tolist() == [True, False, True]


def test_wrong_dtypes_and_attributes_are_refused():
    table, ids = np.ones((5, 2)), np.zeros(3, int)
    with pytest.raises(DTypeError):
        embedding(table, np.zeros(3))
    with pytest.raises(DTypeError):
        embedding(np.ones((5, 2), int), ids)
    for idx in (5, -1, 1.0):
        with pytest.raises(ArgumentError, match="padding_idx"):
            embedding(table, ids, padding_idx=idx)
    with pytest.raises(ShapeError, match="axis of rows"):
        embedding(np.float32(1), ids)


def test_bags_refuse_what_they_cannot_do():
    table, ids = np.ones((5, 2)), np.zeros((2, 3), int)
    with pytest.raises(ArgumentError, match="mode"):
        embedding_bag(table, ids, mode="min")
    for mode in ("mean", "max"):
        with pytest.raises(ArgumentError, match="mode"):
            embedding_bag(table, ids, np.ones((2, 3)), mode=mode)
    with pytest.raises(ShapeError, match="bags"):
        embedding_bag(table, ids, row_splits=np.array([0, 2]))
    with pytest.raises(ShapeError, match="bags"):
        embedding_bag(table, np.int64(0))
    with pytest.raises(ShapeError, match="weights"):
        embedding_bag(table, ids, np.ones((2, 2)))


def test_features_whose_ids_do_not_fit_are_refused():
    ids = np.zeros((2, 2), np.int8)
    assert field_ids(ids, sizes=(100, 28)).dtype == np.int8
    with pytest.raises(ArgumentError, match="does not hold"):
        field_ids(ids, sizes=(100, 29))
    with pytest.raises(ShapeError, match="features"):
        field_ids(ids, sizes=(1, 1, 1))
    with pytest.raises(ArgumentError, match="one id or more"):
        field_ids(ids, sizes=(1, 0))
    with pytest.raises(ShapeError, match="axis of features"):
        field_ids(np.int64(0), sizes=(1,))
