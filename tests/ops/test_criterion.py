import math

import numpy as np
import pytest
from scipy import special

from noria.core.errors import ArgumentError
from noria.ops import criterion
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

ROWS = {0: {0: "N"}, 1: {0: "N"}}
IGNORED = np.array([0, -100, 3, -100, 2])
PROB = {"low": 0.05, "high": 0.95}


def picks(log_prob, labels, weight=None, ignore_index=None, axis=-1):
    """(loss, weight) of each example, one after the other."""
    rows = np.moveaxis(log_prob.astype(np.float64), axis, -1)
    losses, weights = np.zeros(labels.shape), np.zeros(labels.shape)
    for i in np.ndindex(labels.shape):
        if labels[i] != ignore_index:
            weights[i] = 1 if weight is None else weight[labels[i]]
            losses[i] = -rows[i][labels[i]] * weights[i]
    return losses, weights


def reduce(losses, weights=None, reduction="mean"):
    if reduction == "mean" and weights is not None:
        return losses.sum() / weights.sum()
    return losses if reduction == "none" else getattr(np, reduction)(losses)


def nll(reduction="mean", **how):
    def apply(log_prob, labels, weight=None):
        return reduce(*picks(log_prob, labels, weight, **how), reduction=reduction)

    return apply


def entropy(axis=-1, **how):
    def apply(logits, labels, weight=None):
        log_prob = special.log_softmax(logits.astype(np.float64), axis)
        return nll(axis=axis, **how)(log_prob, labels, weight)

    return apply


def soft_entropy(smooth=0.0):
    def apply(logits, labels):
        target = labels * (1 - smooth) + smooth / labels.shape[-1]
        return -(target * special.log_softmax(logits.astype(np.float64), -1)).sum(-1).mean()

    return apply


def check(name, inputs, expect, symbolic=ROWS, grad=None, **how):
    fn = getattr(criterion, name)
    case = Case(name, inputs, expect=expect, symbolic=symbolic, grad=grad)
    if len(inputs) == 3 and name in ("cross_entropy", "nll_loss"):
        check_case(case, lambda x, y, w: fn(x, y, weight=w, **how))
    else:
        check_case(case, lambda *a: fn(*a, **how))


CLASSES = [
    ("cross_entropy", [arr(4, 5), ints(4, high=5)], entropy(), {}),
    ("cross_entropy", [arr(4, 5), ints(4, high=5)], entropy(reduction="sum"), "sum"),
    ("cross_entropy", [arr(4, 5), ints(4, high=5)], entropy(reduction="none"), "none"),
    ("cross_entropy", [arr(4, 5), ints(4, high=5), arr(5, low=0.1)], entropy(), {}),
    ("cross_entropy", [arr(2, 5, 3), ints(2, 3, high=5)], entropy(axis=1), {"axis": 1}),
    ("cross_entropy", [arr(3, 5), arr(3, 5)], soft_entropy(), {}),
    ("cross_entropy", [arr(3, 5), arr(3, 5)], soft_entropy(0.2), {"label_smoothing": 0.2}),
    ("nll_loss", [arr(4, 5), ints(4, high=5)], nll(), {}),
    ("nll_loss", [arr(4, 5), ints(4, high=5), arr(5, low=0.1)], nll(), {}),
    ("nll_loss", [arr(2, 5, 3), ints(2, 3, high=5)], nll(axis=1), {"axis": 1}),
]


@pytest.mark.parametrize(("name", "inputs", "expect", "how"), CLASSES)
def test_losses_of_classes(name, inputs, expect, how):
    check(name, inputs, expect, **({"reduction": how} if isinstance(how, str) else how))


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("weight", [None, arr(4, low=0.1)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_labels_do_not_count(name, weight, reduction):
    expect = (entropy if name == "cross_entropy" else nll)(ignore_index=-100, reduction=reduction)
    inputs = [arr(5, 4), IGNORED, *([] if weight is None else [weight])]
    check(name, inputs, expect, symbolic=None, ignore_index=-100, reduction=reduction)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_the_mean_of_nothing_but_ignored_labels_is_zero(name):
    fn = getattr(criterion, name)
    assert fn(np.ones((2, 3), np.float32), np.array([9, 9]), ignore_index=9) == 0


def test_nll_with_an_open_number_of_classes():
    check(
        "nll_loss", [arr(4, 5), ints(4, high=5)], nll(), symbolic={0: {0: "N", 1: "C"}, 1: {0: "N"}}
    )


@pytest.mark.parametrize("label", [-1, 3])
def test_nll_tells_a_label_that_is_no_class(label):
    with pytest.raises(ArgumentError, match="out of range"):
        criterion.nll_loss(np.ones((1, 3)), np.array([label]))


def test_weights_and_ignored_labels_go_with_classes_only():
    x, soft, weight = np.ones((2, 3)), np.ones((2, 3)), np.ones(3)
    for how in ({"weight": weight}, {"ignore_index": 0}):
        with pytest.raises(ArgumentError):
            criterion.cross_entropy(x, soft, **how)
    with pytest.raises(ArgumentError):
        criterion.cross_entropy(x, np.array([0, 1]), weight=weight, label_smoothing=0.1)


def test_a_mean_over_many_halves_does_not_stop_counting():
    labels = np.zeros(5000, int)
    x = np.zeros((5000, 2), np.float16)
    got = criterion.cross_entropy(x, labels, ignore_index=1)
    assert got.dtype == np.float16 and abs(got - math.log(2)) < 1e-3


def binary(p, y, w=1.0):
    return (-(y * np.log(p) + (1 - y) * np.log(1 - p)) * w).mean()


def soft(v):
    return np.logaddexp(0, v.astype(np.float64))


def kl(p, t):
    return np.where(t > 0, t * (np.log(np.where(t > 0, t, 1)) - p), 0)


def huber(delta, x, y):
    d = np.abs(x - y)
    return np.where(d <= delta, d * d / 2, delta * (d - delta / 2)).mean()


def cosine(x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    return (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))


TWO = [arr(3, 4), arr(3, 4)]
ZERO_ONE = arr(3, 4, low=0, high=1)
NUMBERS = [
    (
        "prob_cross_entropy",
        [arr(3, 4, **PROB), ZERO_ONE],
        lambda p, y: -(y * np.log(p)).sum(-1),
        {},
    ),
    (
        "prob_cross_entropy",
        [arr(3, 4, **PROB), ints(3, high=4)],
        lambda p, y: nll("none")(np.log(p), y),
        {},
    ),
    ("binary_cross_entropy", [arr(3, 4, **PROB), ZERO_ONE], binary, {}),
    (
        "bce_with_logits",
        [arr(3, 4), ZERO_ONE],
        lambda x, y: binary(special.expit(x.astype(np.float64)), y),
        {},
    ),
    (
        "bce_with_logits",
        [arr(3, 4), ZERO_ONE],
        lambda x, y: (3 * y * soft(-x) + (1 - y) * soft(x)).sum(),
        {"pos_weight": np.float32(3), "reduction": "sum"},
    ),
    (
        "bce_with_logits",
        [arr(3, 4), ZERO_ONE],
        lambda x, y: (soft(x) - x * y) * 2,
        {"weight": np.float32(2), "reduction": "none"},
    ),
    ("kl_div", [arr(3, 4), arr(3, 4, **PROB)], lambda p, t: kl(p, t).mean(), {}),
    (
        "kl_div",
        [arr(3, 4), arr(3, 4, **PROB)],
        lambda p, t: kl(p, t).sum() / len(p),
        {"reduction": "batchmean"},
    ),
    (
        "kl_div",
        [arr(3, 4), arr(3, 4)],
        lambda p, t: np.exp(t) * (t - p),
        {"log_target": True, "reduction": "none"},
    ),
    ("mse_loss", TWO, lambda x, y: ((x - y) ** 2).mean(), {}),
    ("mse_loss", TWO, lambda x, y: ((x - y) ** 2).sum(), {"reduction": "sum"}),
    ("l1_loss", TWO, lambda x, y: np.abs(x - y), {"reduction": "none"}),
    ("huber_loss", TWO, lambda x, y: huber(0.7, x, y), {"delta": 0.7}),
    ("smooth_l1_loss", TWO, lambda x, y: huber(0.7, x, y) / 0.7, {"beta": 0.7}),
    ("smooth_l1_loss", TWO, lambda x, y: np.abs(x - y).mean(), {"beta": 0}),
    (
        "hinge_loss",
        [arr(3, 4), ints(3, 4, high=2)],
        lambda x, y: np.maximum(0, 1 - x * (2 * y - 1)).mean(),
        {},
    ),
    (
        "margin_ranking_loss",
        [*TWO, np.sign(np.linspace(-1, 1, 12)).reshape(3, 4).astype(np.float32)],
        lambda x, y, s: np.maximum(0, 0.3 - s * (x - y)).mean(),
        {"margin": 0.3},
    ),
    ("cosine_similarity", TWO, cosine, {}),
]


@pytest.mark.parametrize(("name", "inputs", "expect", "how"), NUMBERS)
def test_losses_of_numbers(name, inputs, expect, how):
    symbolic = None if name == "margin_ranking_loss" else ROWS
    check(name, inputs, expect, symbolic=symbolic, **how)


def test_binary_cross_entropy_weighs_elements():
    case = Case("weighted", [arr(3, 4, **PROB), ZERO_ONE, arr(3, 4)], expect=binary)
    check_case(case, lambda p, y, w: criterion.binary_cross_entropy(p, y, weight=w))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_stay_halves_and_certain_probabilities_finite(dtype):
    p = arr(2, 3, dtype=dtype, low=0, high=1).make((0,)) * 0 + np.array([0, 1, 1]).astype(dtype)
    y = np.array([0, 1, 0]).astype(dtype)
    got = criterion.binary_cross_entropy(p, y, reduction="none")
    assert got.dtype == p.dtype
    assert got[0, :2].tolist() == [0, 0] and 80 < got[0, 2] < 100


def test_logits_far_from_zero_neither_overflow_nor_lose_their_loss():
    x, y = np.array([-1e4, 1e4, -1e4], np.float32), np.array([0, 0, 1], np.float32)
    got = criterion.bce_with_logits(x, y, reduction="none")
    assert got.tolist() == [0, 1e4, 1e4]


def test_the_angle_to_a_vector_of_zeros_is_right():
    zeros, ones = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    assert criterion.cosine_similarity(zeros, ones).tolist() == [0]


def test_kl_div_of_an_impossible_outcome_is_zero():
    got = criterion.kl_div(np.array([-np.inf, -1.0]), np.array([0.0, 1.0]), reduction="none")
    assert got.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["mse_loss", "hinge_loss", "kl_div", "cross_entropy"])
def test_unknown_reductions_are_refused(name):
    labels = np.array([0, 1]) if name == "cross_entropy" else np.ones((2, 2))
    with pytest.raises(ArgumentError, match="reduction"):
        getattr(criterion, name)(np.ones((2, 2)), labels, reduction="average")


def test_huber_needs_a_positive_delta():
    with pytest.raises(ArgumentError, match="delta"):
        criterion.huber_loss(np.ones(2), np.ones(2), delta=0.0)
