"""Detection in Caffe2; the shared vectors judge some of it."""

from typing import Any

import numpy as np

from noria import ops

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
ROIS = np.array([[1, 0, 0, 10, 8], [0, 3, 2, 12, 14]], np.float32)
SIZE = {"pooled_h": 2, "pooled_w": 3, "spatial_scale": 0.5}


def test_regions_are_pooled_in_either_order(run: Any) -> None:
    want = ops.roi_align(X, ROIS[:, 1:], np.array([1, 0]), size=(2, 3), scale=0.5, samples=2)
    y = run("RoIAlign", X, ROIS, sampling_ratio=2, **SIZE)
    np.testing.assert_allclose(y, want, rtol=1e-5)
    last = run("RoIAlign", X.transpose(0, 2, 3, 1), ROIS, sampling_ratio=2, order="NHWC", **SIZE)
    np.testing.assert_allclose(last.transpose(0, 3, 1, 2), want, rtol=1e-5)
    dx = run("RoIAlignGradient", X, ROIS, np.ones_like(y), sampling_ratio=2, **SIZE)
    np.testing.assert_allclose(np.sum(dx * X), want.sum(), rtol=1e-4)
    one = run("RoIAlign", X[:1], ROIS[1:, 1:], sampling_ratio=2, **SIZE)
    np.testing.assert_allclose(one, want[1:], rtol=1e-5)


def test_turned_regions_have_a_gradient(run: Any) -> None:
    rois = np.array([[0, 8, 8, 6, 4, 30]], np.float32)
    y = run("RoIAlignRotated", X, rois, sampling_ratio=2, **SIZE)
    dx = run("RoIAlignRotatedGradient", X, rois, np.ones_like(y), sampling_ratio=2, **SIZE)
    np.testing.assert_allclose(np.sum(dx * X), y.sum(), rtol=1e-4)


def test_the_largest_of_a_region_and_its_gradient(run: Any) -> None:
    y, where = run("RoIPool", X, ROIS, outputs=2, **SIZE)
    assert y[0, 0, 0, 0] == X[1, 0].flat[where[0, 0, 0, 0]] and where.dtype == np.int32
    dx = run("RoIPoolGradient", X, ROIS, where, np.ones_like(y), **SIZE)
    assert dx.sum() == y.size
    assert np.array_equal(run("RoIPool", X, ROIS, is_test=1, **SIZE), y)


def test_images_of_a_batch_are_suppressed_one_by_one(run: Any) -> None:
    scores = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], np.float32)
    boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (3, 2))
    found = run("BoxWithNMSLimit", scores, boxes, np.array([2, 1], np.float32), outputs=6)
    kept_scores, _, classes, counts, kept, of_class = found
    assert kept_scores.tolist() == scores[[0, 2], 1].tolist() and classes.tolist() == [1, 1]
    assert counts.tolist() == [1, 1] and kept.tolist() == [0, 0]
    assert of_class.tolist() == [[0, 1], [0, 1]]
    soft = run("BoxWithNMSLimit", scores, boxes, outputs=3, soft_nms_enabled=1, nms=0.5)
    assert soft[0].tolist() == scores[:1, 1].tolist()  # the others overlap it completely


def test_proposals_carry_the_number_of_their_image(run: Any) -> None:
    scores = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    deltas = np.zeros((2, 4, 2, 2), np.float32)
    info = np.array([[40, 40, 1]] * 2, np.float32)
    anchors = np.array([[0, 0, 15, 15]], np.float32)
    rois, values = run(
        "GenerateProposals", scores, deltas, info, anchors, outputs=2, post_nms_topN=2
    )
    assert values.tolist() == [3, 2, 7, 6]
    assert rois.tolist() == [
        [0, 16, 16, 31, 31],
        [0, 0, 16, 15, 31],
        [1, 16, 16, 31, 31],
        [1, 0, 16, 15, 31],
    ]


def test_proposals_are_collected_and_shared_out(run: Any) -> None:
    small, large = np.array([[0, 0, 0, 30, 30]]), np.array([[0, 0, 0, 400, 400]])
    inputs = [v.astype(np.float32) for v in (large, small)] + [np.float32([0.4]), np.float32([0.9])]
    how = {"rpn_min_level": 2, "rpn_max_level": 3, "roi_min_level": 2, "roi_max_level": 4}
    found = run("CollectAndDistributeFpnRpnProposals", *inputs, outputs=5, **how)
    rois, two, three, four, restore = found
    assert rois[:, 3].tolist() == [30, 400] and restore.tolist() == [0, 1]
    assert [len(v) for v in (two, three, four)] == [1, 0, 1]
    *levels, again = run("DistributeFpnProposals", rois, outputs=4, **how)
    assert np.array_equal(np.concatenate(levels)[again], rois)


def test_keypoints_lie_in_their_box(run: Any) -> None:
    heat = np.zeros((1, 1, 4, 4), np.float32)
    heat[0, 0, 1, 2] = 1
    y = run("HeatmapMaxKeypoint", heat, np.array([[0, 0, 8, 8]], np.float32))
    np.testing.assert_allclose(y[0, :, 0], [5, 3, 1, 0], atol=1e-6)
