import numpy as np
import pytest

from noria.core.errors import ShapeError
from noria.ops.detection import proposals as family
from noria.ops.detection.boxes import box_transform, rotated_box_transform
from noria.testing.case import Case
from noria.testing.check import check_case

RNG = np.random.default_rng(2)
LOW = RNG.uniform(0, 30, (3, 4, 2, 2))
ANCHORS = np.concatenate([LOW, LOW + RNG.uniform(4, 12, LOW.shape)], -1).astype(np.float32)
SCORES = RNG.permutation(48).reshape(2, 2, 3, 4).astype(np.float32)
DELTAS = RNG.normal(0, 0.3, (2, 8, 3, 4)).astype(np.float32)
INFO = np.array([[36, 40, 1.0], [36, 40, 2.0]], np.float32)


def iou(a, b):
    w = max(min(a[2], b[2]) - max(a[0], b[0]) + 1, 0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]) + 1, 0)
    areas = [(r[2] - r[0] + 1) * (r[3] - r[1] + 1) for r in (a, b)]
    return w * h / (sum(areas) - w * h)


def proposed(scores, deltas, info, anchors):
    rois, values, splits = [], [], [0]
    for n in range(2):
        found = []
        for y, x, a in np.ndindex(3, 4, 2):
            delta = deltas[n, 4 * a : 4 * a + 4, y, x][None]
            (box,) = box_transform(anchors[y, x, a][None], delta)
            box = np.clip(box, 0, [39, 35, 39, 35])
            found.append((scores[n, a, y, x], box))
        found = sorted(found, key=lambda f: -f[0])[:20]
        least = 5 * info[n, 2]
        found = [f for f in found if min(f[1][2:] - f[1][:2]) + 1 >= least]
        kept = []
        for score, box in found:
            if all(iou(box, other) <= 0.3 for _, other in kept) and len(kept) < 6:
                kept.append((score, box))
        rois += [b for _, b in kept]
        values += [s for s, _ in kept]
        splits.append(len(rois))
    return np.array(rois), np.array(values), np.array(splits)


HOW = {"size": "K", "pre_limit": 20, "post_limit": 6, "iou_threshold": 0.3, "min_size": 5.0}
CASES = [
    Case(
        "generate_proposals",
        [SCORES, DELTAS, INFO, ANCHORS],
        HOW,
        expect=proposed,
        symbolic={0: {0: "N"}, 1: {0: "N"}, 2: {0: "N"}},
        jax=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_sizes_are_those_of_the_original_or_of_the_image():
    box = np.array([[0, 0, 16.5, 16.5]], np.float32)  # at twice the size
    one = [SCORES[:1, :1, :1, :1], np.zeros((1, 4, 1, 1), np.float32), INFO[1:], box]
    how = {"size": "K", "stride": 1.0, "min_size": 9.0}
    assert len(family.generate_proposals(*one, **how)[0]) == 0  # 17.5 < 9 * 2
    assert len(family.generate_proposals(*one, **how, scaled_sizes=True)[0]) == 1  # 9.25 > 9


def test_where_nothing_is_proposed_there_may_be_a_box_of_zeros():
    whole = [SCORES, DELTAS, INFO, ANCHORS]
    none = HOW | {"min_size": 1e6}
    rois, _, splits = family.generate_proposals(*whole, **none, at_least_one=True)
    assert rois.tolist() == [[0] * 4] * 2 and splits.tolist() == [0, 1, 2]
    assert family.generate_proposals(*whole, **none)[0].shape == (0, 4)


def test_variances_multiply_and_few_anchors_move_by_the_stride():
    half = np.full(ANCHORS.shape, 0.5, np.float32)
    one = family.generate_proposals(SCORES, DELTAS, INFO, ANCHORS, half, **HOW)
    two = family.generate_proposals(SCORES, DELTAS / 2, INFO, ANCHORS, **HOW)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    few = ANCHORS[0, 0]
    move = np.array([[[x, y, x, y] for x in (0, 8, 16, 24)] for y in (0, 8, 16)], np.float32)
    every = few + move[:, :, None]
    moved = family.generate_proposals(SCORES, DELTAS, INFO, few, stride=8.0, **HOW)
    listed = family.generate_proposals(SCORES, DELTAS, INFO, every, **HOW)
    assert all(np.array_equal(a, b) for a, b in zip(moved, listed, strict=True))


def test_rotated_anchors_give_rotated_proposals():
    anchors = np.array([[10, 10, 12, 8, 30], [10, 10, 8, 12, -60]], np.float32)
    deltas = np.zeros((1, 10, 1, 2), np.float32)
    scores = np.array([[[[4, 3]], [[2, 1]]]], np.float32)
    rois, values, splits = family.generate_proposals(
        scores, deltas, INFO[:1], anchors, size="K", stride=20.0, min_size=1.0
    )
    assert values.tolist() == [
        4,
        3,
    ]  # a box turned by 90 degrees with its sides swapped is the same
    np.testing.assert_allclose(rois, [[10, 10, 12, 8, 30], [30, 10, 12, 8, 30]])
    assert splits.tolist() == [0, 2]


def test_transformed_regions_are_those_of_the_original_image():
    rois = np.array([[0, 4, 4, 20, 12], [1, 8, 9, 30, 30]], np.float32)
    deltas = np.random.default_rng(0).normal(0, 0.05, (2, 8)).astype(np.float32)
    info = np.array([[40, 60, 2.0], [64, 64, 1.0]], np.float32)

    def expect(rois, deltas, info):
        out = np.zeros((2, 8))
        for r in range(2):
            height, width, scale = info[int(rois[r, 0])]
            for k in range(2):
                box = box_transform(
                    rois[r : r + 1, 1:] / scale, deltas[r : r + 1, 4 * k : 4 * k + 4]
                )
                right, bottom = round(width / scale) - 1, round(height / scale) - 1
                out[r, 4 * k : 4 * k + 4] = np.clip(box[0], 0, [right, bottom] * 2) * scale
        return out, np.ones(2)

    rows = {
        0: {0: "R"},
        1: {0: "R"},
    }  # regions and images are rounded: no gradient is checked there
    case = Case("transform", [rois, deltas, info], expect=expect, symbolic=rows, grad=[1])
    check_case(case, lambda *v: family.transform_rois(*v, legacy=False))


def test_transformed_rotated_regions():
    rois, deltas = np.array([[8, 8, 6, 4, 30]], np.float32), np.full((1, 5), 0.1, np.float32)
    info = np.array([[40, 60, 2.0]], np.float32)
    boxes, counts = family.transform_rois(rois, deltas, info, rotated=True)
    want = rotated_box_transform(rois * np.float32([0.5, 0.5, 0.5, 0.5, 1]), deltas)
    np.testing.assert_allclose(boxes, want * [2, 2, 2, 2, 1], rtol=1e-5)
    assert counts.tolist() == [1]
    with pytest.raises(ShapeError, match="coordinates"):
        family.transform_rois(rois, deltas[:, :4], info, rotated=True)


def test_each_region_gets_the_box_of_its_best_class():
    boxes = np.arange(24, dtype=np.float32).reshape(2, 12)
    scores = np.array([[0.9, 0.2, 0.3], [0.1, 0.5, 0.4]], np.float32)
    found = family.box_assign(boxes, scores, np.zeros((2, 4), np.float32))
    assert found.tolist() == [[8, 9, 10, 11], [16, 17, 18, 19]]


def test_bad_inputs_are_refused():
    with pytest.raises(ShapeError, match="4 or 5"):
        family.generate_proposals(SCORES, DELTAS, INFO, ANCHORS[..., :3], **HOW)


@pytest.mark.parametrize(
    ("deltas", "info", "told"),
    [
        (DELTAS, INFO[:, :2], "columns of image_info"),
        (DELTAS[:1], INFO, "numbers of images"),
        (DELTAS[:, :, :2], INFO, "positions"),
    ],
)
def test_inputs_of_other_sizes_are_refused(deltas, info, told):
    with pytest.raises(ShapeError, match=told):
        family.generate_proposals(SCORES, deltas, info, ANCHORS, size="K")
