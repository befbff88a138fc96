"""Proposals and targets in Fluid that no shared vector judges."""

import numpy as np
import pytest

from noria.convert.fluid.handlers import Lod

BOXES = np.array([[0, 0, 9, 9], [1, 1, 9, 9], [20, 20, 29, 29], [21, 20, 29, 29]], np.float32)


def test_proposals_of_all_levels_are_collected(run_op):
    rois = [Lod(BOXES[:2], (np.array([0, 2, 2]),)), Lod(BOXES[2:], (np.array([0, 1, 2]),))]
    scores = [
        Lod(np.array([[0.9], [0.1]], np.float32), rois[0].splits),
        Lod(np.array([[0.5], [0.7]], np.float32), rois[1].splits),
    ]
    inputs = {"MultiLevelRois": rois, "MultiLevelScores": scores}
    got = run_op("collect_fpn_proposals", inputs, {"post_nms_topN": 3}, outputs=("FpnRois",))
    np.testing.assert_array_equal(got["FpnRois"], BOXES[[0, 2, 3]])


OBJECTS = {
    "GtBoxes": Lod(BOXES[[0, 2]], (np.array([0, 2]),)),
    "IsCrowd": Lod(np.zeros((2, 1), np.int32), (np.array([0, 2]),)),
    "ImInfo": np.array([[40, 40, 1.0]], np.float32),
}


SLOTS = ("LocationIndex", "ScoreIndex", "TargetBBox", "TargetLabel", "BBoxInsideWeight")


@pytest.mark.parametrize("random", [True, False])
def test_anchors_are_assigned(run_op, random):
    attrs = {"use_random": random, "rpn_fg_fraction": 0.5, "rpn_batch_size_per_im": 4}
    got = run_op("rpn_target_assign", {"Anchor": BOXES} | OBJECTS, attrs, outputs=SLOTS)
    assert len(got["LocationIndex"]) == 2 and not set(got["LocationIndex"]) - {0, 1, 2, 3}
    assert got["TargetLabel"].shape == (2, 1) and got["TargetLabel"].dtype == np.int32
    labels = {"GtLabels": Lod(np.array([[3], [5]], np.int32), (np.array([0, 2]),))}
    attrs = {"positive_overlap": 0.95, "negative_overlap": 0.1}
    inputs = {"Anchor": BOXES} | OBJECTS | labels
    got = run_op("retinanet_target_assign", inputs, attrs, outputs=(*SLOTS, "ForegroundNumber"))
    assert got["TargetLabel"].tolist() == [[3], [5]] and got["ForegroundNumber"].tolist() == [[3]]


def test_masks_are_drawn_for_regions_with_a_label(run_op):
    square = np.array([[2, 2], [10, 2], [10, 10], [2, 10]], np.float32)
    one = np.array([0, 1])
    inputs = {
        "ImInfo": np.array([[20, 20, 1.0]], np.float32),
        "GtClasses": Lod(np.array([[1]], np.int32), (one,)),
        "IsCrowd": Lod(np.array([[0]], np.int32), (one,)),
        "GtSegms": Lod(square, (one, one, np.array([0, 4]))),
        "Rois": Lod(np.array([[0, 0, 8, 8], [2, 2, 18, 18]], np.float32), (np.array([0, 2]),)),
        "LabelsInt32": Lod(np.array([[0], [1]], np.int32), (np.array([0, 2]),)),
    }
    slots = ("MaskRois", "RoiHasMaskInt32", "MaskInt32")
    attrs = {"num_classes": 2, "resolution": 4}
    got = run_op("generate_mask_labels", inputs, attrs, outputs=slots)
    assert got["RoiHasMaskInt32"].tolist() == [[1]] and got["MaskInt32"].shape == (1, 32)
    mask = got["MaskInt32"].reshape(2, 4, 4)
    assert (mask[0] == -1).all() and mask[1].tolist() == [[1, 1, 0, 0]] * 2 + [[0] * 4] * 2


def test_newer_models_tell_images_by_their_sizes_and_counts(run_op):
    inputs = {
        "Scores": np.array([3, 2], np.float32).reshape(2, 1, 1, 1),
        "BboxDeltas": np.zeros((2, 4, 1, 1), np.float32),
        "ImShape": np.array([[40, 40], [8, 8]], np.float32),
        "Anchors": BOXES[:1].reshape(1, 1, 1, 4),
        "Variances": np.ones((1, 1, 1, 4), np.float32),
    }
    attrs = {"pixel_offset": False, "nms_thresh": 0.5, "min_size": 1.0}
    slots = ("RpnRois", "RpnRoiProbs", "RpnRoisNum")
    got = run_op("generate_proposals_v2", inputs, attrs, outputs=slots)
    assert got["RpnRois"].tolist() == [[0, 0, 9, 9], [0, 0, 8, 8]]
    assert got["RpnRoisNum"].tolist() == [1, 1]
    attrs = {"min_level": 2, "max_level": 3, "refer_level": 3, "refer_scale": 9}
    inputs = {"FpnRois": BOXES, "RoisNum": np.array([1, 3], np.int32)}
    outputs = {
        "MultiFpnRois": ["a", "b"],
        "MultiLevelRoIsNum": ["c", "d"],
        "RestoreIndex": ["restore"],
    }
    attrs |= {"pixel_offset": False}
    got = run_op("distribute_fpn_proposals", inputs, attrs, outputs=outputs)
    assert got["a"].tolist() == BOXES[[1, 3]].tolist() and got["c"].tolist() == [0, 2]
    assert got["d"].tolist() == [1, 1] and got["restore"].tolist() == [[2], [0], [3], [1]]
    inputs = {
        "MultiLevelRois": [BOXES[:2], BOXES[2:]],
        "MultiLevelScores": [np.float32([[0.9], [0.1]]), np.float32([[0.5], [0.7]])],
        "MultiLevelRoIsNum": [np.array([2, 0], np.int32), np.array([1, 1], np.int32)],
    }
    slots, attrs = ("FpnRois", "RoisNum"), {"post_nms_topN": 3}
    got = run_op("collect_fpn_proposals", inputs, attrs, outputs=slots)
    assert got["FpnRois"].tolist() == BOXES[[0, 2, 3]].tolist()
    assert got["RoisNum"].tolist() == [2, 1]
