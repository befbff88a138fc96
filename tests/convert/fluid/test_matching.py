import numpy as np

from noria.convert.fluid.handlers import Lod


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
