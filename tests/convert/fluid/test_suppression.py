"""Suppression in Fluid that no shared vector judges."""

import numpy as np
import pytest

from noria import ops

BOXES = np.array([[0, 0, 9, 9], [1, 1, 9, 9], [20, 20, 29, 29], [21, 20, 29, 29]], np.float32)
SCORES = np.array([[[0.1, 0.2, 0.1, 0.3], [0.9, 0.8, 0.6, 0.7]]], np.float32)
NMS = {"score_threshold": 0.5, "nms_threshold": 0.5, "nms_top_k": 10, "keep_top_k": 10}


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


def test_boxes_of_each_class_come_with_the_lengths_of_their_images(run_op):
    boxes = np.stack([BOXES, BOXES], axis=1)  # [rows, classes, 4]
    inputs = {"BBoxes": boxes, "Scores": SCORES[0].T, "RoisNum": np.array([1, 3], np.int32)}
    got = run_op("multiclass_nms3", inputs, NMS, outputs=("Out", "Index", "NmsRoisNum"))
    assert got["Index"].tolist() == [[1], [3], [7]] and got["NmsRoisNum"].tolist() == [1, 2]
