import numpy as np
import pytest
from scipy import special

from noria.core.errors import EngineError, NoriaError
from noria.ops import sampled
from noria.testing.case import Case, arr
from noria.testing.check import check_case

KEY = np.array([3, 1])
LABELS = np.array([0, 4, 2])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_walking(x, labels, weight, bias):
    """Down the complete binary tree, numbered as a heap: leaf c is node c + classes."""
    classes, out = len(weight) + 1, []
    for row, label in zip(x, labels, strict=True):
        node, cost = int(label) + classes, 0.0
        while node > 1:
            score = row @ weight[node // 2 - 1] + bias[node // 2 - 1]
            cost -= np.log(sigmoid(score if node % 2 else -score))
            node //= 2
        out.append(cost)
    return np.array(out)


def test_a_class_costs_the_turns_of_its_path():
    def fn(x, labels, weight, bias):
        return sampled.hsigmoid_loss(x, labels, weight, bias, classes=6)

    inputs = [arr(3, 4), LABELS, arr(5, 4), arr(5)]
    check_case(Case("hsigmoid", inputs, expect=by_walking, grad=[0, 2, 3], tol=1e-5), fn)


def test_the_probabilities_of_all_classes_add_up_to_one():
    rng = np.random.default_rng(0)
    x, weight, bias = rng.standard_normal((1, 4)), rng.standard_normal((6, 4)), np.ones(6)
    rows = np.repeat(x, 7, 0)
    costs = sampled.hsigmoid_loss(rows, np.arange(7), weight, bias, classes=7)
    assert np.exp(-costs).sum() == pytest.approx(1)


def test_a_tree_of_ones_own():
    nodes, turns = np.array([[0, 2, -1], [1, -1, -1]]), np.array([[1, 0, 1], [1, 1, 0]])

    def fn(x, weight):
        return sampled.hsigmoid_loss(x, None, weight, nodes=nodes, turns=turns)

    def expect(x, weight):
        p = sigmoid(x @ weight.T)
        return -np.log([p[0, 0] * (1 - p[0, 2]), p[1, 1]])

    check_case(Case("own tree", [arr(2, 4), arr(3, 4)], expect=expect, grad=[0, 1], tol=1e-5), fn)


def test_noise_is_told_from_the_truth():
    def fn(scores, likely, weights):
        options = {"labels": 1, "negatives": 3, "weights": weights}
        return sampled.nce_loss(scores, likely, **options)[0]

    def expect(scores, likely, weights):
        p, b = sigmoid(scores), 3 * likely
        right = p / (p + b)
        return weights * -(np.log(right[:, 0]) + np.log(1 - right[:, 1:]).sum(1))

    inputs = [arr(2, 4), arr(2, 4, low=0.1, high=0.9), arr(2)]
    check_case(Case("nce", inputs, expect=expect, grad=[0, 2], tol=1e-5), fn)


def test_sampled_logits_lose_what_makes_them_likely():
    samples = np.array([[1, 0, 1, 4], [3, 0, 1, 4]])

    def fn(logits, likely):
        return sampled.sample_logits(logits, samples, likely, labels=1)

    def expect(logits, likely):
        out = np.take_along_axis(logits, samples, 1) - np.log(likely)
        out[0, 2] = -1e20  # the true class again
        return out

    inputs = [arr(2, 5), arr(2, 4, low=0.1, high=0.9)]
    check_case(Case("sampled", inputs, expect=expect, grad=[0]), fn)


def test_what_cannot_be_drawn_has_a_finite_logit():
    out = sampled.sample_logits(
        np.array([[1.0, -np.inf]]), np.array([[0, 1]]), np.array([[0.0, 0.5]]), labels=0
    )
    assert out.tolist() == [[1e20, -1e20]]


def test_low_classes_are_drawn_more_often():
    ids = sampled.log_uniform(KEY, shape=(20000,), classes=5)
    likely = sampled.log_uniform_probability(np.arange(5), classes=5, dtype="float64")
    assert likely.sum() == pytest.approx(1)
    assert np.allclose(np.bincount(ids, minlength=5) / 20000, likely, atol=0.02)


def test_distinct_classes_are_drawn_once():
    ids, draws = sampled.distinct_log_uniform(KEY, count=20, classes=20)
    assert sorted(ids) == list(range(20)) and draws >= 20
    again = sampled.distinct_log_uniform(KEY, count=5, classes=20)
    assert again[0].tolist() == ids[:5].tolist() and again[1] <= draws


def test_estimates_of_the_whole_softmax_agree():
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((1, 300))
    want = special.logsumexp(logits)
    found = []
    for step in range(40):
        ids, draws = sampled.distinct_log_uniform(np.array([0, step]), count=100, classes=300)
        p = sampled.log_uniform_probability(ids, classes=300, dtype="float64")
        p = -np.expm1(draws * np.log1p(-p))
        found.append(special.logsumexp(sampled.sample_logits(logits, ids[None], p[None], labels=0)))
    assert np.mean(found) == pytest.approx(want, abs=0.1)


X, IDS, W = np.ones((3, 4)), np.zeros((3, 2), int), np.ones((5, 4))
WRONG = {
    "neither tree": lambda: sampled.hsigmoid_loss(X, LABELS, W),
    "both trees": lambda: sampled.hsigmoid_loss(X, LABELS, W, classes=6, nodes=IDS, turns=IDS),
    "paths without turns": lambda: sampled.hsigmoid_loss(X, LABELS, W, nodes=IDS),
    "one class": lambda: sampled.hsigmoid_loss(X, LABELS, W, classes=1),
    "a label beyond the tree": lambda: sampled.hsigmoid_loss(X, LABELS + 9, W, classes=6),
    "float ids": lambda: sampled.class_scores(X, IDS * 1.0, W),
    "more classes than there are": lambda: sampled.distinct_log_uniform(KEY, count=6, classes=5),
    "probabilities of others": lambda: sampled.sample_logits(X, IDS, X, labels=1),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(call):
    with pytest.raises(NoriaError):
        call()


def test_xla_cannot_compile_distinct_draws():
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(EngineError, match="XLA"):
        attrs = {"count": 2, "classes": 5, "stream": 0}
        sampled.distinct_log_uniform_op.run(jnp, [KEY], attrs)
