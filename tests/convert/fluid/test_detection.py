"""Detection operators of Fluid that no shared vector judges, and what handlers decide."""

import numpy as np
import pytest

from noria import ops
from noria.convert.fluid.handlers import Lod

BOXES = np.array([[0, 0, 9, 9], [1, 1, 9, 9], [20, 20, 29, 29], [21, 20, 29, 29]], np.float32)
SCORES = np.array([[[0.1, 0.2, 0.1, 0.3], [0.9, 0.8, 0.6, 0.7]]], np.float32)
NMS = {"score_threshold": 0.5, "nms_threshold": 0.5, "nms_top_k": 10, "keep_top_k": 10}


def test_anchors_have_their_variances(run_op):
    attrs = {
        "anchor_sizes": [32.0],
        "aspect_ratios": [1.0],
        "variances": [0.1, 0.1, 0.2, 0.2],
        "stride": [16.0, 16.0],
    }
    x = {"Input": np.zeros((1, 2, 2, 3), np.float32)}
    got = run_op("anchor_generator", x, attrs, outputs=("Anchors", "Variances"))
    assert got["Anchors"].shape == (2, 3, 1, 4)
    assert got["Anchors"][0, 1, 0].tolist() == [8, -8, 39, 23]
    np.testing.assert_allclose(got["Variances"][1, 2, 0], [0.1, 0.1, 0.2, 0.2])


def test_boxes_of_the_best_class_are_assigned(run_op):
    inputs = {
        "PriorBox": BOXES[:2],
        "PriorBoxVar": np.array([0.1, 0.1, 0.2, 0.2], np.float32),
        "TargetBox": np.arange(24, dtype=np.float32).reshape(2, 12) / 10,
        "BoxScore": np.array([[0.9, 0.2, 0.3], [0.1, 0.5, 0.4]], np.float32),
    }
    slots = ("DecodeBox", "OutputAssignBox")
    got = run_op("box_decoder_and_assign", inputs, {"box_clip": 4.135}, outputs=slots)
    decoded = got["DecodeBox"].reshape(2, 3, 4)
    np.testing.assert_array_equal(got["OutputAssignBox"], [decoded[0, 2], decoded[1, 1]])
    width = 10 * np.exp(0.2 * 0.2)
    assert decoded[0, 0, 2] - decoded[0, 0, 0] + 1 == pytest.approx(width, rel=1e-5)


def test_suppression_tells_ids_or_that_there_is_nothing(run_op):
    inputs = {"BBoxes": BOXES[None], "Scores": SCORES}
    got = run_op("multiclass_nms2", inputs, NMS, outputs=("Out", "Index"))
    assert got["Index"].tolist() == [[0], [3]]
    np.testing.assert_allclose(got["Out"][:, :2], [[1, 0.9], [1, 0.7]])
    none = run_op("multiclass_nms", inputs, NMS | {"score_threshold": 2.0})
    assert none["Out"].tolist() == [[-1]]
    merged = run_op("locality_aware_nms", inputs, NMS | {"background_label": 0})
    np.testing.assert_allclose(merged["Out"][:, 1], [1.7, 1.3], rtol=1e-5)


def test_scores_decay_in_matrix_suppression(run_op):
    inputs = {"BBoxes": BOXES[None], "Scores": SCORES}
    attrs = {"score_threshold": 0.5, "post_threshold": 0.0, "nms_top_k": -1, "keep_top_k": -1}
    for gaussian in (False, True):
        how = attrs | {"use_gaussian": gaussian, "gaussian_sigma": 2.0, "background_label": 0}
        got = run_op("matrix_nms", inputs, how, outputs=("Out", "Index"))
        assert got["Index"][:2].tolist() == [[0], [3]] and len(got["Out"]) == 4
        overlap = ops.box_iou(BOXES[:1], BOXES[1:2])[0, 0]
        decay = np.exp(-(overlap**2) * 2) if gaussian else 1 - overlap
        assert 0.8 * decay == pytest.approx(max(got["Out"][2:, 1]), rel=1e-4)


def test_polygons_and_grids_are_decoded(run_op):
    offsets = np.ones((1, 2, 2, 2), np.float32)
    got = run_op("polygon_box_transform", {"Input": offsets}, outputs=("Output",))["Output"]
    assert got[0, 0].tolist() == [[-1, 3], [-1, 3]] and got[0, 1].tolist() == [[-1, -1], [3, 3]]
    inputs = {"X": np.zeros((1, 14, 1, 1), np.float32), "ImgSize": np.array([[32, 64]], np.int32)}
    attrs = {"anchors": [8, 16, 16, 8], "class_num": 2, "conf_thresh": 0.1, "downsample_ratio": 32}
    got = run_op("yolo_box", inputs, attrs, outputs=("Boxes", "Scores"))
    np.testing.assert_allclose(got["Boxes"][0], [[24, 8, 40, 24], [16, 12, 48, 20]])
    np.testing.assert_allclose(got["Scores"], 0.25)


def test_proposals_of_all_levels_are_collected(run_op):
    rois = [Lod(BOXES[:2], (np.array([0, 2, 2]),)), Lod(BOXES[2:], (np.array([0, 1, 2]),))]
    scores = [
        Lod(np.array([[0.9], [0.1]], np.float32), rois[0].splits),
        Lod(np.array([[0.5], [0.7]], np.float32), rois[1].splits),
    ]
    inputs = {"MultiLevelRois": rois, "MultiLevelScores": scores}
    got = run_op("collect_fpn_proposals", inputs, {"post_nms_topN": 3}, outputs=("FpnRois",))
    np.testing.assert_array_equal(got["FpnRois"], BOXES[[0, 2, 3]])


def test_retinanet_decodes_each_level(run_op):
    one = np.zeros((1, 1, 4), np.float32)
    inputs = {
        "BBoxes": [one, one],
        "Scores": [np.array([[[0.3, 0.9]]], np.float32), np.array([[[0.2, 0.1]]], np.float32)],
        "Anchors": [BOXES[:1], BOXES[2:3]],
        "ImInfo": np.array([[25, 25, 1.0]], np.float32),
    }
    attrs = {
        "score_threshold": 0.5,
        "nms_top_k": 1,
        "nms_threshold": 0.5,
        "nms_eta": 1.0,
        "keep_top_k": 5,
    }
    got = run_op("retinanet_detection_output", inputs, attrs)["Out"]
    np.testing.assert_allclose(got, [[2, 0.9, 0, 0, 9, 9], [1, 0.2, 20, 20, 24, 24]])


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


def test_mean_iou_adds_to_what_came_before(run_op):
    inputs = {
        "Predictions": np.array([0, 1, 1], np.int32),
        "Labels": np.array([0, 1, 0], np.int32),
        "InWrongs": np.array([1, 0], np.int32),
        "InCorrects": np.array([0, 2], np.int32),
        "InMeanIou": np.array([0.5], np.float32),
    }
    slots = ("OutMeanIou", "OutWrong", "OutCorrect")
    got = run_op("mean_iou", inputs, {"num_classes": 2}, outputs=slots)
    assert got["OutWrong"].tolist() == [2, 1] and got["OutCorrect"].tolist() == [1, 3]
    assert got["OutMeanIou"][0] == pytest.approx(0.5 + (1 / 3 + 3 / 4) / 2)


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
