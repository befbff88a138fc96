import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ops.detection import levels as family
from noria.testing.case import Case, arr
from noria.testing.check import check_case

ROIS = np.array(
    [[0, 0, 30, 30], [0, 0, 220, 230], [5, 5, 900, 800], [0, 0, 120, 100], [9, 9, 3, 3]], np.float32
)


def levels(rois, splits):
    area = [max(x2 - x1 + 1, 0) * max(y2 - y1 + 1, 0) if x2 >= x1 else 0 for x1, y1, x2, y2 in rois]
    target = [int(np.clip(np.floor(4 + np.log2(np.sqrt(a) / 224)), 2, 5)) if a else 2 for a in area]
    order = [i for k in range(2, 6) for i in range(len(rois)) if target[i] == k]
    restore = np.argsort(order)
    rows = [rois[[i for i in range(len(rois)) if target[i] == k]] for k in range(2, 6)]
    ends = [np.array([sum(t == k for t in target[:s]) for s in splits]) for k in range(2, 6)]
    return restore, *rows, *ends


CASES = [
    Case(
        "best_rows",
        [arr(9, distinct=True)],
        {"limit": 4, "size": "K"},
        expect=lambda s: np.argsort(-s)[:4],
        jax=False,
    ),
    Case(
        "distribute_proposals",
        [ROIS, np.array([0, 2, 5])],
        {"sizes": ("a", "b", "c", "d"), "low": 2, "high": 5},
        expect=levels,
        jax=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_the_best_of_all_levels_come_image_by_image():
    rois = [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        100 + np.arange(8.0, dtype=np.float32).reshape(2, 4),
    ]
    scores = [np.array([0.9, 0.2, 0.5], np.float32), np.array([0.8, 0.7], np.float32)]
    splits = [np.array([0, 2, 3]), np.array([0, 0, 2])]
    case = Case("collect", [*rois, *scores, *splits], jax=False)

    def fn(a, b, s, t, p, q):
        return family.collect_proposals([a, b], [s, t], [p, q], limit=4, size="K")

    check_case(case, fn)
    found, rows = fn(*rois, *scores, *splits)
    assert found[:, 0].tolist() == [0, 100, 104, 8] and rows.tolist() == [0, 1, 4]
    best = family.collect_proposals(rois, scores, limit=2, size="K")
    assert best[:, 0].tolist() == [0, 100]


def test_bad_inputs_are_refused():
    with pytest.raises(ArgumentError, match="one size for each"):
        family.distribute_proposals(ROIS, sizes=("a",), low=2, high=5)
    with pytest.raises(ArgumentError, match="limit"):
        family.best_rows(np.zeros(3, np.float32), limit=-2, size="K")
