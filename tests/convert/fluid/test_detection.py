"""Detection operators of Fluid that no shared vector judges, and what handlers decide."""

import numpy as np
import pytest

BOXES = np.array([[0, 0, 9, 9], [1, 1, 9, 9], [20, 20, 29, 29], [21, 20, 29, 29]], np.float32)


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


def test_polygons_and_grids_are_decoded(run_op):
    offsets = np.ones((1, 2, 2, 2), np.float32)
    got = run_op("polygon_box_transform", {"Input": offsets}, outputs=("Output",))["Output"]
    assert got[0, 0].tolist() == [[-1, 3], [-1, 3]] and got[0, 1].tolist() == [[-1, -1], [3, 3]]
    inputs = {"X": np.zeros((1, 14, 1, 1), np.float32), "ImgSize": np.array([[32, 64]], np.int32)}
    attrs = {"anchors": [8, 16, 16, 8], "class_num": 2, "conf_thresh": 0.1, "downsample_ratio": 32}
    got = run_op("yolo_box", inputs, attrs, outputs=("Boxes", "Scores"))
    np.testing.assert_allclose(got["Boxes"][0], [[24, 8, 40, 24], [16, 12, 48, 20]])
    np.testing.assert_allclose(got["Scores"], 0.25)


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
