import numpy as np
import pytest

from noria.core.errors import ArgumentError, ShapeError
from noria.ops.detection import average_precision as family
from noria.testing.case import Case
from noria.testing.check import check_case

LABELS = np.array(
    [
        [1, 0, 0.1, 0.1, 0.3, 0.3],
        [1, 1, 0.6, 0.6, 0.8, 0.8],
        [2, 0, 0.3, 0.3, 0.6, 0.5],
        [1, 0, 0.7, 0.1, 0.9, 0.3],
        [2, 0, 0.1, 0.7, 0.3, 0.9],
    ],
    np.float32,
)
LABEL_SPLITS = np.array([0, 3, 5])


def guesses(seed=0, count=40):
    """Noisy copies of the objects, with wrong ones among them, packed by image."""
    rng = np.random.default_rng(seed)
    rows, splits = [], [0]
    for a, b in ((0, 3), (3, 5)):
        for _ in range(count // 2):
            label = LABELS[rng.integers(a, b)]
            box = label[2:] + rng.normal(0, 0.03, 4)
            kind = label[0] if rng.random() < 0.8 else rng.integers(1, 4)
            rows.append([kind, rng.random(), *box])
        splits.append(len(rows))
    return np.array(rows, np.float32), np.array(splits)


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(w, 0) * max(h, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def by_ranking(kind, difficult=True, overlap=0.5):
    """One list of all detections of a class, best first, and what Everingham et al. say of it."""

    def apply(found, splits):
        precisions = []
        for c in (1, 2):
            objects = [i for i in range(len(LABELS)) if LABELS[i, 0] == c]
            total = sum(difficult or not LABELS[i, 1] for i in objects)
            image = np.searchsorted(splits, np.arange(len(found)), side="right") - 1
            own = sorted(
                (i for i in range(len(found)) if found[i, 0] == c), key=lambda i: -found[i, 1]
            )
            taken, marks = set(), []
            for i in own:
                near = [
                    o for o in objects if LABEL_SPLITS[image[i]] <= o < LABEL_SPLITS[image[i] + 1]
                ]
                box = np.clip(found[i, 2:].astype(float), 0, 1)
                best = max(near, key=lambda o: iou(box, LABELS[o, 2:].astype(float)), default=None)
                if best is None or iou(box, LABELS[best, 2:].astype(float)) <= overlap:
                    marks.append(0)
                elif difficult or not LABELS[best, 1]:
                    marks.append(int(best not in taken))
                    taken.add(best)
            hits = np.cumsum(marks)
            precision, recall = hits / np.arange(1, len(marks) + 1), hits / total
            if kind == "11point":
                points = [max(precision[recall >= j / 10], default=0) for j in range(11)]
                precisions.append(sum(points) / 11)
            else:
                precisions.append(
                    sum(p for p, m in zip(precision, marks, strict=True) if m) / total
                )
        return np.mean(precisions)

    return apply


DETECTIONS, SPLITS = guesses()


@pytest.mark.parametrize("kind", family.TYPES)
@pytest.mark.parametrize("difficult", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_precision_is_that_of_a_ranked_list(kind, difficult, seed):
    found, splits = guesses(seed)
    value, *_ = family.detection_map(
        found, splits, LABELS, LABEL_SPLITS, classes=4, size="K", kind=kind, difficult=difficult
    )
    assert value == pytest.approx(by_ranking(kind, difficult)(found, splits), rel=1e-5)


CASES = [
    Case(
        "detection_map",
        [DETECTIONS, SPLITS, LABELS, LABEL_SPLITS],
        {"classes": 4, "size": "K"},
        jax=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_batches_one_after_another_are_as_good_as_all_at_once():
    how = {"classes": 4, "size": "K"}
    whole = family.detection_map(DETECTIONS, SPLITS, LABELS, LABEL_SPLITS, **how)
    first = family.detection_map(
        DETECTIONS[: SPLITS[1]], SPLITS[:2], LABELS[:3], LABEL_SPLITS[:2], **how
    )
    rest = DETECTIONS[SPLITS[1] :], SPLITS[1:] - SPLITS[1], LABELS[3:], LABEL_SPLITS[1:] - 3
    both = family.detection_map(*rest, np.array([1]), *first[1:], **how)
    assert both[0] == pytest.approx(whole[0], rel=1e-5)
    assert both[1].tolist() == whole[1].tolist() == [0, 3, 2, 0]
    assert both[3].tolist() == whole[3].tolist()
    forgotten = family.detection_map(*rest, np.array([0]), *first[1:], **how)
    assert forgotten[1].tolist() == [0, 1, 1, 0]


def test_bad_inputs_are_refused():
    how = {"classes": 4, "size": "K"}
    with pytest.raises(ArgumentError, match="unknown kind"):
        family.detection_map(DETECTIONS, SPLITS, LABELS, LABEL_SPLITS, kind="mean", **how)
    with pytest.raises(ShapeError, match="columns"):
        family.detection_map(DETECTIONS[:, :5], SPLITS, LABELS, LABEL_SPLITS, **how)
    with pytest.raises(ArgumentError, match="or nothing"):
        family.detection_map(
            DETECTIONS, SPLITS, LABELS, LABEL_SPLITS, None, np.zeros(4, int), **how
        )


def test_mean_iou_of_pixels():
    predictions, labels = np.array([[0, 1, 1], [2, 2, 0]]), np.array([[0, 1, 2], [2, 1, 0]])

    def expect(predictions, labels):
        ious = []
        for c in range(3):
            both = np.sum((predictions == c) & (labels == c))
            wrong = np.sum((predictions != labels) & (predictions == c))
            wrong += np.sum((predictions != labels) & (labels == c))
            ious.append(both / (both + wrong))
        return np.mean(ious), np.array([0, 2, 2, 0]), np.array([2, 1, 1, 0])

    case = Case("mean_iou", [predictions, labels], expect=expect)
    check_case(case, lambda p, y: family.mean_iou(p, y, classes=4))
