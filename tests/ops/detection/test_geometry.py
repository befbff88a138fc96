import numpy as np
import pytest

from noria.core.errors import EngineError
from noria.ops.detection import geometry

QUAD = np.array([[0, 0], [4, 1], [2, 2], [3, 5]], float)  # not convex
BOX = np.array([[1, 0], [5, 0], [5, 3], [1, 3]], float)


def inside(polygon, points):
    """Whether points lie in a polygon: how often a ray crosses its sides."""
    odd = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if y0 != y1:
            at = x0 + (points[:, 1] - y0) * (x1 - x0) / (y1 - y0)
            odd ^= ((y0 > points[:, 1]) != (y1 > points[:, 1])) & (points[:, 0] < at)
    return odd


def sampled_area(a, b, steps=600):
    """Area in common, by counting points of a fine grid."""
    low, high = np.minimum(a.min(0), b.min(0)), np.maximum(a.max(0), b.max(0))
    axes = [
        np.linspace(x, y, steps, endpoint=False) + (y - x) / steps / 2
        for x, y in zip(low, high, strict=True)
    ]
    points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    return (inside(a, points) & inside(b, points)).mean() * np.prod(high - low)


def test_rotated_boxes_share_what_a_fine_grid_counts():
    rng = np.random.default_rng(0)
    for _ in range(5):
        boxes = np.array([[0, 0, 4, 2, 30], [*rng.uniform(-1, 1, 2), 3, 3, rng.uniform(0, 360)]])
        a, b = geometry.rotated_corners(boxes)
        assert geometry.convex_common_area(a, b) == pytest.approx(sampled_area(a, b), rel=0.02)


def test_polygons_that_are_not_convex_in_either_order_and_direction():
    expected = sampled_area(QUAD, BOX)
    for one, other in ((QUAD, BOX), (QUAD[::-1], BOX), (BOX, QUAD), (BOX, QUAD[::-1])):
        (area,) = geometry.polygon_common_area(one, other[None])
        assert area == pytest.approx(expected, rel=0.02)


def test_a_shape_covers_itself_and_neighbours_share_nothing():
    one = np.array([0, 0, 2, 2, 0.0])
    others = np.array([[0, 0, 2, 2, 90.0], [2, 0, 2, 2, 0], [2, 0, 2, 2, 90], [1, 0, 2, 2, 0]])
    np.testing.assert_allclose(geometry.rotated_overlap(one, others), [1, 0, 0, 1 / 3], atol=1e-12)
    turned = np.array([3, 4, 5, 2, 17.0], np.float32)
    np.testing.assert_allclose(geometry.rotated_overlap(turned, turned[None]), 1)
    flat = BOX.reshape(1, -1)
    np.testing.assert_allclose(geometry.polygon_overlap(flat[0], flat), 1)
    assert geometry.polygon_overlap(flat[0], np.zeros((1, 8)))[0] == 0


def test_rotation_is_counter_clockwise_with_y_down():
    corners = geometry.rotated_corners(np.array([0, 0, 4, 0, 90.0]))
    np.testing.assert_allclose(corners[1], [0, -2], atol=1e-12)  # the right end points up


def test_pixels_that_touch_overlap_by_the_added_pixel_or_not():
    one, many = np.array([0, 0, 4, 4.0]), np.array([[4.5, 0, 8.5, 4.0], [0, 0, 4, 4], [9, 9, 3, 3]])
    touching = geometry.BoxOverlap(False)(one, many)
    np.testing.assert_allclose(touching[:2], [0.5 * 5 / (50 - 2.5), 1])
    assert geometry.BoxOverlap(False, touching=False)(one, many)[0] == 0
    assert geometry.box_areas(many, True)[2] == 0


def test_iou_matrix_is_zero_for_what_has_no_area():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 5, 5.0]])
    found = geometry.iou_matrix(boxes, boxes, True)
    np.testing.assert_allclose(found, [[1, 1 / 7, 0], [1 / 7, 1, 0], [0, 0, 0]])


def test_xla_is_refused():
    with pytest.raises(EngineError, match="XLA cannot compile nms"):
        geometry.numpy_only(object(), "nms")
