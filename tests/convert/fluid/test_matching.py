import numpy as np
import pytest

from noria.convert.fluid.handlers import Lod
from noria.core.errors import ProgramError


def test_steps_look_ahead_in_dense_rows_too(run_op):
    x = np.array([[[1.0], [2.0], [4.0]], [[8.0], [16.0], [32.0]]], np.float32)
    weight = np.array([[1.0], [10.0]], np.float32)
    got = run_op("row_conv", {"X": x, "Filter": weight})["Out"]
    assert got[:, :, 0].tolist() == [[21, 42, 4], [168, 336, 32]]


def test_an_instance_is_kept_for_one_of_its_tags(run_op):
    x = np.arange(5, dtype=np.float32)[:, None]
    given = {
        "Ins": Lod(x, (np.array([0, 2, 3, 5]),)),
        "Ins_tag": Lod(np.array([[1], [7], [2], [7], [7]]), (np.array([0, 2, 3, 5]),)),
        "Filter_tag": np.array([7, 9]),
    }
    attrs = {"is_lod": True, "out_val_if_empty": 0}
    got = run_op("filter_by_instag", given, attrs, ("Out", "LossWeight", "IndexMap"))
    assert got["Out"].tolist() == [[0], [1], [3], [4]]
    assert got["Out.row_splits"].tolist() == [0, 2, 4]
    assert got["IndexMap"].tolist() == [[0, 0, 2], [2, 3, 2]]
    assert got["LossWeight"].tolist() == [[1], [1]]


def test_an_image_of_one_pixel_is_convolved(run_op):
    splits = np.array([0, 1])
    side = Lod(np.zeros((1, 1), np.float32), (splits,))
    x = Lod(np.array([[3.0]], np.float32), (splits,))
    weight = np.arange(18, dtype=np.float32).reshape(2, 9)
    attrs = {"InputChannel": 1, "OutputChannel": 2, "KernelH": 3, "KernelW": 3}
    given = {"X": x, "ROW": side, "COLUMN": side, "W": weight}
    got = run_op("var_conv_2d", given, attrs, ("Out", "Col"))
    assert got["Out"].tolist() == [[12], [39]] and got["Col"].sum() == 3
    assert got["Out.row_splits"].tolist() == [0, 2]


def test_a_tree_is_convolved(run_op):
    x = np.array([[[1.0], [10.0]]], np.float32)
    given = {"NodesVector": x, "EdgeSet": np.array([[[1, 2]]], np.int32)}
    weight = np.array([1, 2, 4], np.float32).reshape(1, 3, 1, 1)  # left, right, top
    got = run_op("tree_conv", given | {"Filter": weight}, {"max_depth": 2})["Out"]
    assert np.allclose(got[0, :, 0, 0], [4 + 10 * (0.25 + 2 * 0.375 + 2), 40])


@pytest.mark.parametrize("training", [0, 1])
def test_runs_of_ids_have_vectors(run_op, training):
    x = Lod(np.array([[5], [3], [9], [2]], np.int32), (np.array([0, 3, 4]),))
    weight = np.arange(12, dtype=np.float32)[:, None] + 1
    attrs = {"num_emb": 4, "rand_len": 2, "space_len": 10, "pyramid_layer": 3}
    attrs |= {"is_training": training, "drop_out_percent": 0.5, "use_filter": False}
    got = run_op("pyramid_hash", {"X": x, "W": weight}, attrs, ("Out", "DropPos"))
    kept = int(got["DropPos"].sum())
    splits = got["Out.row_splits"].tolist()
    assert got["Out"].shape == (splits[-1], 4) and splits == [0, max(kept, 1), max(kept, 1) + 1]
    assert (got["Out"][-1] == 0).all()
    if not training:
        assert kept == 3 and (got["Out"][:3, 1::2] - got["Out"][:3, ::2] == 0.5).all()


def test_bloom_filters_are_told_to_be_missing(run_op):
    given = {"X": Lod(np.ones((2, 1), np.int32), (np.array([0, 2]),)), "W": np.ones((4, 1), "f4")}
    attrs = {"num_emb": 2, "rand_len": 2, "space_len": 2, "white_list_len": 5}
    with pytest.raises(ProgramError, match="Bloom"):
        run_op("pyramid_hash", given, attrs)
