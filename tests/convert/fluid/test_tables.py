from itertools import pairwise

import numpy as np
import pytest

from tests.convert.fluid.describing import Desc

LENGTHS = [2, 0, 4, 1]
SPLITS = np.cumsum([0, *LENGTHS])
X = np.arange(14, dtype=np.float32).reshape(7, 2)
FEEDS = {"x": X, "x.row_splits": SPLITS}


def dynamic_rnn():
    """Running sums along each sequence, as Fluid's DynamicRNN writes them."""
    desc = Desc().var("x", [-1, 2], levels=1).array("xs", "out", "memory")
    desc.op("lod_rank_table", {"X": "x"}, {"Out": "table"}, level=0)
    desc.op("max_sequence_len", {"RankTable": "table"}, {"Out": "n"})
    desc.op("lod_tensor_to_array", {"X": "x", "RankTable": "table"}, {"Out": "xs"})
    desc.number("i", 0).number("zero", 0)
    shape = {"shape": [-1, 2], "value": 0.0, "dtype": 5}
    desc.op("fill_constant_batch_size_like", {"Input": "x"}, {"Out": "start"}, **shape)
    inputs = {"X": "start", "RankTable": "table"}
    desc.op("reorder_lod_tensor_by_rank", inputs, {"Out": "ranked"})
    desc.op("write_to_array", {"X": "ranked", "I": "zero"}, {"Out": "memory"})
    desc.op("less_than", {"X": "i", "Y": "n"}, {"Out": "go"}).inner()
    desc.op("read_from_array", {"X": "xs", "I": "i"}, {"Out": "now"})
    desc.op("read_from_array", {"X": "memory", "I": "i"}, {"Out": "all"})
    inputs = {"X": "all", "I": "i", "RankTable": "table"}
    desc.op("shrink_rnn_memory", inputs, {"Out": "before"})
    desc.op("elementwise_add", {"X": "before", "Y": "now"}, {"Out": "sum"})
    desc.op("write_to_array", {"X": "sum", "I": "i"}, {"Out": "out"})
    desc.op("increment", {"X": "i"}, {"Out": "i"}, step=1.0)
    desc.op("write_to_array", {"X": "sum", "I": "i"}, {"Out": "memory"})
    desc.op("less_than", {"X": "i", "Y": "n"}, {"Out": "go"}).outer()
    outs = ["out", "memory", "i"]
    desc.op("while", {"X": ["xs"], "Condition": "go"}, {"Out": outs}, sub_block=1)
    inputs = {"X": "out", "RankTable": "table"}
    return desc.op("array_to_lod_tensor", inputs, {"Out": "y"})


def test_a_recurrence_over_sequences_of_different_lengths():
    y, splits = dynamic_rnn().run("y", "y.row_splits", **FEEDS)
    assert splits.tolist() == SPLITS.tolist()
    for a, b in pairwise(SPLITS):
        assert np.array_equal(y[a:b], X[a:b].cumsum(0))


def test_sequences_are_put_in_order_of_their_lengths():
    desc = Desc().var("x", [-1, 2], levels=1)
    desc.op("lod_rank_table", {"X": "x"}, {"Out": "table"}, level=0)
    desc.op("reorder_lod_tensor_by_rank", {"X": "x", "RankTable": "table"}, {"Out": "y"})
    y, splits = desc.run("y", "y.row_splits", **FEEDS)
    assert np.diff(splits).tolist() == [4, 2, 1, 0]
    assert np.array_equal(y, X[[2, 3, 4, 5, 0, 1, 6]])


@pytest.mark.parametrize("mask", [[1, 0, 1], [0, 0, 0], [1, 1, 1]])
def test_rows_apart_and_together_again(mask):
    x, mask = X[:3], np.array(mask, bool)[:, None]
    desc = Desc().var("x", [3, 2]).var("m", [3, 1], dtype=0)
    outs = {"OutTrue": "a", "OutFalse": "b"}
    desc.op("split_lod_tensor", {"X": "x", "Mask": "m"}, outs, level=0)
    desc.op("scale", {"X": "a"}, {"Out": "c"}, scale=-1.0)
    inputs = {"X": "x", "Mask": "m", "InTrue": "c", "InFalse": "b"}
    desc.op("merge_lod_tensor", inputs, {"Out": "y"}, level=0)
    assert np.array_equal(desc.run("y", x=x, m=mask), np.where(mask, -x, x))
