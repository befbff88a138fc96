import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import targets as family
from noria.testing.case import Case
from noria.testing.check import check_case

ANCHORS = np.array(
    [[0, 0, 9, 9], [0, 0, 9, 8], [10, 10, 19, 19], [20, 20, 39, 39], [-5, 0, 9, 9], [30, 0, 39, 9]],
    np.float32,
)
OBJECTS = np.array([[0, 0, 4.5, 4.5], [5, 5, 9, 9], [0, 0, 9, 7], [10, 10, 19, 15]], np.float32)
CROWD, SPLITS = np.array([0, 0, 0, 1]), np.array([0, 2, 4])
INFO = np.array([[40, 40, 2.0], [40, 40, 1.0]], np.float32)
NAMES = {"located": "L", "scored": "S"}
ANCHOR_INPUTS = [ANCHORS, OBJECTS, CROWD, SPLITS, INFO]
ROIS = np.array([[0, 0, 9, 9], [18, 18, 30, 30], [0, 0, 9, 6], [30, 30, 35, 35]], np.float32)
SAMPLE = [ROIS, np.array([0, 2, 4]), OBJECTS, np.array([1, 2, 1, 2]), CROWD, SPLITS, INFO]


def delta(box, to):
    w, h, ow, oh = box[2] - box[0] + 1, box[3] - box[1] + 1, to[2] - to[0] + 1, to[3] - to[1] + 1
    dx, dy = to[0] + ow / 2 - box[0] - w / 2, to[1] + oh / 2 - box[1] - h / 2
    return [dx / w, dy / h, np.log(ow / w), np.log(oh / h)]


def rpn(anchors, objects, crowd, splits, info):
    """By hand: of image 0, anchors 0 and 2 are the best of the two objects, 1 is good enough, 5 and
    3 hit nothing, 4 reaches out of the image; in image 1 anchor 1 is the best, 0 good enough."""
    located, scored = [0, 1, 2, 6, 7], [0, 1, 2, 3, 5, 6, 7, 8, 9, 11]
    labels = [1, 1, 1, 0, 0, 1, 1, 0, 0, 0]
    big = objects * 2
    deltas = [
        delta(anchors[0], big[0]),
        delta(anchors[1], big[0]),
        delta(anchors[2], big[1]),
        delta(anchors[0], objects[2]),
        delta(anchors[1], objects[2]),
    ]
    ones = np.ones((5, 4))
    return tuple(map(np.array, (located, scored, deltas, labels, ones, [0, 3, 5], [0, 5, 10])))


CASES = [
    Case("rpn_target_assign", ANCHOR_INPUTS, NAMES, expect=rpn, jax=False),
    Case(
        "retinanet_target_assign",
        [ANCHORS, OBJECTS, np.array([3, 4, 5, 6]), CROWD, SPLITS, INFO],
        NAMES,
        jax=False,
    ),
    Case("sample_proposals", SAMPLE, {"size": "K", "classes": 3}, jax=False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_a_key_draws_some_of_the_examples():
    few = {"count": 4, "fraction": 0.5}
    first = family.rpn_target_assign(*ANCHOR_INPUTS, **NAMES, **few)
    assert first[0].tolist() == [0, 1, 6, 7] and first[1].tolist() == [0, 1, 3, 5, 6, 7, 8, 9]
    seen = set()
    for step in range(20):
        key = np.array([7, step])
        drawn = family.rpn_target_assign(*ANCHOR_INPUTS, key, **NAMES, **few)
        again = family.rpn_target_assign(*ANCHOR_INPUTS, key, **NAMES, **few)
        assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
        assert len(drawn[0]) == 4 and drawn[5].tolist() == [0, 2, 4]
        seen.add(tuple(drawn[0][:2].tolist()))
    assert seen == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(ArgumentError, match="random key"):
        family.rpn_target_assign(*ANCHOR_INPUTS, np.array([1]), **NAMES)


def test_retinanet_labels_are_classes_and_all_examples_count():
    inputs = [ANCHORS, OBJECTS, np.array([3, 4, 5, 6]), CROWD, SPLITS, INFO]
    *found, positives = family.retinanet_target_assign(*inputs, **NAMES)
    located, _, _, labels, *_ = found
    assert located.tolist() == [0, 1, 2, 4, 6, 7, 10]
    assert labels[:4].tolist() == [3, 3, 4, 3]
    assert positives.tolist() == [5, 4]


def test_an_anchor_that_is_both_is_negative_and_counts_for_nothing_in_its_place():
    far = np.array([[0, 0, 1, 1], [30, 30, 35, 35]], np.float32)
    objects, splits = np.array([[0, 0, 9, 9]], np.float32), np.array([0, 1])
    got = family.rpn_target_assign(
        far, objects, np.array([0]), splits, np.array([[40, 40, 1.0]], np.float32), **NAMES
    )
    located, scored, _, labels, weights, *_ = got
    assert located.tolist() == [0] and weights.tolist() == [[0] * 4]
    assert scored.tolist() == [0, 1] and labels.tolist() == [0, 0]


def test_regions_are_sampled_with_the_objects_among_them():
    rois, labels, targets, inside, outside, splits = family.sample_proposals(
        *SAMPLE, size="K", classes=3
    )
    # Image 0, at scale 2: both objects and the first region; image 1: an object and two regions,
    # the first of which is near it; the crowd is no example.
    assert splits.tolist() == [0, 4, 7]
    assert labels.tolist() == [1, 2, 1, 0, 1, 1, 0]
    np.testing.assert_allclose(rois[:2], OBJECTS[:2] * 2)
    want = np.array(delta(ROIS[0] / 2, OBJECTS[0])) / [0.1, 0.1, 0.2, 0.2]
    np.testing.assert_allclose(targets[2].reshape(3, 4)[1], want, rtol=1e-4)
    assert inside.sum() == 5 * 4 and np.array_equal(inside, outside)
    assert not targets[labels == 0].any()
    agnostic = family.sample_proposals(*SAMPLE, size="K", classes=3, agnostic=True)
    assert agnostic[3].reshape(-1, 3, 4)[1, :, 0].tolist() == [0, 1, 0]


def test_a_limit_and_a_key_draw_regions():
    how = {"size": "K", "classes": 3, "count": 2, "fraction": 0.5}
    _, labels, *_, splits = family.sample_proposals(*SAMPLE, **how)
    assert splits.tolist() == [0, 2, 4] and labels.tolist() == [1, 0, 1, 0]
    drawn = {
        tuple(family.sample_proposals(*SAMPLE, np.array([0, s]), **how)[1].tolist())
        for s in range(12)
    }
    assert len(drawn) > 1 and all(d[1] == d[3] == 0 for d in drawn)


def test_cascades_take_all_regions_but_the_objects_they_begin_with():
    rois = np.concatenate([OBJECTS[:2] * 2, ROIS[:1], OBJECTS[2:], ROIS[2:]])
    inputs = [rois, np.array([0, 3, 7]), *SAMPLE[2:]]
    *_, splits = family.sample_proposals(*inputs, size="K", classes=3, count=1, cascade=True)
    assert splits.tolist() == [0, 3, 6]


def test_an_image_without_anything_has_no_examples():
    none, splits = np.zeros((0, 4), np.float32), np.array([0, 0])
    ids = np.zeros(0, int)
    inputs = [none, splits, none, ids, ids, splits, INFO[:1]]
    rois, _, targets, *_, rows = family.sample_proposals(*inputs, size="K", classes=3)
    assert rois.shape == (0, 4) and targets.shape == (0, 12) and rows.tolist() == [0, 0]
    found = family.rpn_target_assign(ANCHORS, none, ids, splits, INFO[:1], **NAMES)
    assert len(found[0]) == 0 and len(found[1]) == 5  # all inside are negative


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(ArgumentError, match="label is no class"):
        family.sample_proposals(*SAMPLE, size="K", classes=2)


def test_tables_of_another_width_are_refused():
    for i, what in ((0, "anchors"), (1, "boxes"), (4, "image_info")):
        wide = [np.pad(a, [(0, 0), (0, 1)]) if i == n else a for n, a in enumerate(ANCHOR_INPUTS)]
        with pytest.raises(ShapeError, match=f"columns of {what}"):
            family.rpn_target_assign(*wide, **NAMES)
    with pytest.raises(ShapeError, match="columns of rois"):
        family.sample_proposals(ROIS[:, :3], *SAMPLE[1:], size="K", classes=3)
