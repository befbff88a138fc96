import math

import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import boxes
from noria.testing.case import Case, arr
from noria.testing.check import check_case


def some_boxes(count, seed=0, size=20.0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, size, (count, 2))
    return np.concatenate([low, low + rng.uniform(2, size, (count, 2))], 1).astype(np.float32)


def check(name, inputs, expect, **attrs):
    fn = getattr(boxes, name)
    case = Case(name, inputs, expect=expect, tol=1e-5)
    check_case(case, lambda *values: fn(*values, **attrs))


def iou(extra):
    def apply(a, b):
        out = np.zeros((len(a), len(b)))
        for i, p in enumerate(a.astype(float)):
            for j, q in enumerate(b.astype(float)):
                w = max(min(p[2], q[2]) - max(p[0], q[0]) + extra, 0)
                h = max(min(p[3], q[3]) - max(p[1], q[1]) + extra, 0)
                area = [(r[2] - r[0] + extra) * (r[3] - r[1] + extra) for r in (p, q)]
                out[i, j] = w * h / (sum(area) - w * h)
        return out

    return apply


@pytest.mark.parametrize("normalized", [True, False])
def test_iou_of_all_pairs(normalized):
    inputs = [some_boxes(5), some_boxes(4, 1)]
    check("box_iou", inputs, iou(0 if normalized else 1), normalized=normalized)


@pytest.mark.parametrize("normalized", [True, False])
def test_decoding_undoes_encoding(normalized):
    found, priors = some_boxes(3), some_boxes(4, 1)
    variances = np.array([0.1, 0.1, 0.2, 0.2], np.float32)
    shift = 0.0 if normalized else 0.5  # of the centre, in pixels: only priors have it
    deltas = boxes.box_encode(found, priors, variances, normalized=normalized)
    back = boxes.box_decode(deltas, priors[None], variances, normalized=normalized)
    np.testing.assert_allclose(back, np.broadcast_to(found[:, None] - shift, back.shape), atol=1e-3)


def test_encoding_and_decoding_have_gradients():
    priors = some_boxes(4, 1)
    check("box_encode", [some_boxes(3), priors], None)
    check("box_decode", [arr(3, 4, 4), priors[None], arr(4, low=0.1, high=1)], None)


def test_other_codes_of_ssd():
    priors, deltas = some_boxes(3), np.ones((3, 4), np.float32)
    np.testing.assert_allclose(boxes.box_decode(deltas, priors, code="corner"), priors + 1)
    w, h = (priors[:, 2:] - priors[:, :2]).T
    by_size = boxes.box_decode(deltas, priors, code="corner_size")
    np.testing.assert_allclose(by_size, priors + np.stack([w, h, w, h], 1), rtol=1e-6)
    with pytest.raises(ArgumentError, match="unknown code"):
        boxes.box_decode(deltas, priors, code="edges")


def transformed(legacy, clip):
    def apply(b, d):
        b, d = b.astype(float), d.astype(float) / [10, 10, 5, 5]
        w, h = b[:, 2] - b[:, 0] + 1, b[:, 3] - b[:, 1] + 1
        x, y = b[:, 0] + w / 2 + d[:, 0] * w, b[:, 1] + h / 2 + d[:, 1] * h
        w, h = w * np.exp(np.minimum(d[:, 2], clip)), h * np.exp(np.minimum(d[:, 3], clip))
        less = 0 if legacy else 1
        return np.stack([x - w / 2, y - h / 2, x + w / 2 - less, y + h / 2 - less], 1)

    return apply


@pytest.mark.parametrize("legacy", [True, False])
def test_transform_applies_weighted_deltas_and_limits_growth(legacy):
    inputs = [some_boxes(6), arr(6, 4, low=-3, high=9)]
    how = {"weights": (10, 10, 5, 5), "clip": 1.0, "legacy": legacy}
    check("box_transform", inputs, transformed(legacy, 1.0), **how)
    assert math.log(62.5) == boxes.LARGEST_GROWTH


def test_rotated_transform_moves_angles_into_their_bounds():
    found = np.array([[10, 10, 4, 2, 80], [10, 10, 4, 2, -80], [0, 0, 1, 1, 0]], np.float32)
    deltas = np.zeros((3, 5), np.float32)
    deltas[:, 4] = np.deg2rad([30, -30, 45])
    deltas[:, 0] = 0.5
    moved = boxes.rotated_box_transform(found, deltas)
    np.testing.assert_allclose(moved[:, 4], [-70, 70, 45], rtol=1e-5)
    np.testing.assert_allclose(moved[:, 0], [12, 12, 0.5])
    free = boxes.rotated_box_transform(found, deltas, bounds=None)
    np.testing.assert_allclose(free[:, 4], [110, -110, 45], rtol=1e-5)
    with pytest.raises(ArgumentError, match="half turns"):
        boxes.rotated_box_transform(found, deltas, bounds=(0, 90))


def test_clipping_keeps_boxes_in_the_image_and_turned_ones_as_they_are():
    found = np.array([[-3, 2, 30, 40], [5, 5, 6, 6]], np.float32)
    np.testing.assert_allclose(boxes.box_clip(found, 19.0, 9.0), [[0, 2, 19, 9], [5, 5, 6, 6]])
    turned = np.array([[2, 5, 9, 3, 0.5], [2, 5, 9, 3, 30]], np.float32)
    clipped = boxes.rotated_box_clip(turned, 19.0, 9.0)
    np.testing.assert_allclose(clipped, [[3, 5, 7, 3, 0.5], turned[1]])


def test_polygons_from_offsets_start_at_their_place():
    def expect(offsets):
        rows, columns = np.mgrid[:2, :3] * 4
        places = np.stack([columns, rows, columns, rows])
        return places[None] - offsets

    check("polygon_from_offsets", [arr(2, 4, 2, 3)], expect)
    with pytest.raises(ShapeError, match="even"):
        boxes.polygon_from_offsets(np.zeros((1, 3, 2, 2), np.float32))


def test_boxes_of_another_width_are_refused():
    with pytest.raises(ShapeError, match="4 coordinates"):
        boxes.box_iou(np.zeros((2, 5), np.float32), np.zeros((2, 4), np.float32))
