"""Gradients of tables as pairs of ids and rows."""

import numpy as np

from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.program import Program
from noria.ir.sparse import SparseGrad, add_sparse
from tests.ir.programs import finish

IDS = np.array([2, 0, 2])
ROWS = np.array([[1.0, 2], [3, 4], [5, 6]], np.float32)
DENSE = np.array([[3.0, 4], [0, 0], [6, 8], [0, 0]], np.float32)


def pair(builder, k):
    ids = builder.input(f"ids{k}", (3,), "int64")
    return SparseGrad(ids, builder.input(f"rows{k}", (3, 2)), (4, 2))


def test_rows_of_one_id_add_up():
    program = Program("p")
    with Builder(program) as b:
        grad = pair(b, 0)
        assert grad.dtype == "float32"
        finish(program, out=grad.dense())
    got, _ = run_program(program, {"ids0": IDS, "rows0": ROWS}, {})
    np.testing.assert_array_equal(got["out"], DENSE)


def test_a_sum_of_pairs_is_a_pair_of_all_rows():
    program = Program("p")
    with Builder(program) as b:
        total = add_sparse([pair(b, 0), pair(b, 1)])
        assert (total.ids.shape, total.rows.shape, total.shape) == ((6,), (6, 2), (4, 2))
        finish(program, out=total.dense())
    feeds = {"ids0": IDS, "rows0": ROWS, "ids1": IDS[::-1], "rows1": ROWS[::-1]}
    got, _ = run_program(program, feeds, {})
    np.testing.assert_array_equal(got["out"], 2 * DENSE)


def test_a_sum_of_one_is_itself():
    with Builder(Program("p")) as b:
        grad = pair(b, 0)
        assert add_sparse([grad]) is grad
        assert b.block.operators == []
