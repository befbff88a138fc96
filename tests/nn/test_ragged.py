import numpy as np
import pytest

from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.ir.trace import spec, trace
from noria.nn.ragged import Ragged
from noria.runtime.executor import Executor

ROWS = [np.arange(6.0).reshape(3, 2), np.zeros((0, 2)), np.array([[9.0, -1.0]])]


def test_rows_are_packed_and_come_back():
    batch = Ragged.pack(ROWS)
    assert batch.splits.tolist() == [0, 3, 3, 4] and batch.count == 3
    for got, want in zip(batch.rows(), ROWS, strict=True):
        assert np.array_equal(got, want)


def test_each_row_is_reduced_alone():
    batch = Ragged.pack(ROWS)
    assert batch.lengths.tolist() == [3, 0, 1]
    assert batch.sum().tolist() == [[6, 9], [0, 0], [9, -1]]
    assert batch.mean().tolist() == [[2, 3], [0, 0], [9, -1]]
    assert batch.max().tolist() == [[4, 5], [0, 0], [9, -1]]
    assert batch.first().tolist() == [[0, 1], [0, 0], [9, -1]]
    assert batch.last().tolist() == [[4, 5], [0, 0], [9, -1]]


def test_a_softmax_adds_up_to_one_in_each_row():
    totals = Ragged.pack(ROWS).softmax().sum()
    assert np.allclose(totals, [[1, 1], [0, 0], [1, 1]])


def test_map_keeps_the_rows():
    doubled = Ragged.pack(ROWS).map(lambda v: v * 2)
    assert doubled.rows()[2].tolist() == [[18, -2]]


def test_rows_are_padded_and_unpadded():
    batch = Ragged.pack(ROWS)
    padded = batch.pad(size="longest")
    assert padded.shape == (3, 3, 2) and padded[2, 1:].sum() == 0
    back = Ragged.unpad(padded, batch.lengths, size="steps")
    assert back.values.tolist() == batch.values.tolist()
    assert back.splits.tolist() == batch.splits.tolist()


def test_the_steps_of_rows_are_moved_about():
    batch = Ragged.pack(ROWS)
    assert batch.reverse().rows()[0].tolist() == ROWS[0][::-1].tolist()
    joined = Ragged.concat(batch, batch.reverse())
    assert joined.lengths.tolist() == [6, 0, 2]
    assert joined.rows()[0].tolist() == [*ROWS[0].tolist(), *ROWS[0][::-1].tolist()]
    cut = batch.slice(np.array([1, 0, 0]), np.array([2, 0, 1]), size="steps")
    assert cut.rows()[0].tolist() == ROWS[0][1:].tolist() and cut.lengths.tolist() == [2, 0, 1]
    kept = batch.filter(batch.values[:, 0] > 1, size="steps")
    assert kept.lengths.tolist() == [2, 0, 1]
    assert batch.windows(2, pad=5).rows()[2].tolist() == [[[9, -1], [5, 5]]]


def words(*lengths):
    return Ragged.pack([np.full((n, 2), 10.0 * n) + np.arange(n)[:, None] for n in lengths])


DOCUMENTS = (words(2, 0), words(1), words(3, 1, 0))


def test_rows_of_rows_are_packed_and_come_back():
    batch = Ragged.pack(DOCUMENTS)
    assert batch.count == 3 and batch.lengths.tolist() == [2, 1, 3]
    assert batch.values.lengths.tolist() == [2, 0, 1, 3, 1, 0]
    for got, want in zip(batch.rows(), DOCUMENTS, strict=True):
        assert got.values.tolist() == want.values.tolist()
        assert got.splits.tolist() == want.splits.tolist()


def test_three_levels():
    shelves = Ragged.pack([Ragged.pack(DOCUMENTS[:2]), Ragged.pack(DOCUMENTS[2:])])
    assert shelves.lengths.tolist() == [2, 1]
    assert [d.count for shelf in shelves.rows() for d in shelf.rows()] == [2, 1, 3]
    assert shelves.sum().values.splits.tolist() == [0, 2, 3, 6]


def test_the_innermost_rows_are_reduced_and_moved():
    batch = Ragged.pack(DOCUMENTS)
    sums = batch.sum()
    assert sums.values[:, 0].tolist() == [41, 0, 10, 93, 10, 0]
    assert sums.splits.tolist() == [0, 2, 3, 6]
    assert sums.sum()[:, 0].tolist() == [41, 10, 103]
    assert batch.reverse().values.rows()[3][:, 0].tolist() == [32, 31, 30]
    assert batch.map(lambda v: v * 2).max().values[0].tolist() == [42, 42]
    assert batch.inner(lambda b: b.softmax()).values.sum().shape == (6, 2)


def test_levels_are_values_of_a_program_too():
    def fn(values, inner, outer):
        return {"out": Ragged(Ragged(values, inner), outer).mean().sum()}

    splits = {"inner": spec("M", dtype="int64"), "outer": spec("N", dtype="int64")}
    program = trace(fn, values=spec("T", 2), **splits)
    batch = Ragged.pack(DOCUMENTS)
    feeds = {"values": batch.values.values.astype(np.float32)}
    feeds |= {"inner": batch.values.splits, "outer": batch.splits}
    got = Executor(program, threads=1).run(feeds)["out"]
    assert got[:, 0].tolist() == [20.5, 10, 41]


def test_the_level_inside_is_left_out():
    flat = Ragged.pack(DOCUMENTS).flatten()
    assert flat.lengths.tolist() == [2, 1, 4]
    with pytest.raises(ArgumentError, match="steps"):
        flat.flatten()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: Ragged.pack([]), ArgumentError, "told by a row"),
        (lambda: Ragged.pack([DOCUMENTS[0], np.ones((2, 2))]), ArgumentError, "go together"),
        (lambda: Ragged.pack([np.ones((2, 3)), np.ones((2, 4))]), ShapeError, "first axis only"),
        (lambda: Ragged.pack([np.float64(1)]), ShapeError, "first axis only"),
        (lambda: Ragged(np.ones(()), np.array([0])), ShapeError, "first axis"),
        (lambda: Ragged(np.ones(3), np.array([0.0, 3.0])), DTypeError, "integer"),
        (lambda: Ragged(np.ones(3), np.array([], int)), ShapeError, r"N \+ 1"),
    ],
)
def test_what_is_no_ragged_batch_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()
