"""Against every path of tags, written out."""

import itertools

import numpy as np
import pytest
from scipy import special

from noria.core.errors import ArgumentError, NoriaError
from noria.ir.trace import spec, trace
from noria.ops import crf
from noria.runtime.executor import Executor
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

SPLITS = np.array([0, 3, 3, 4, 8])  # one row is empty, one has one step
LABELS = np.array([2, 0, 0, 1, 1, 1, 2, 0])


def score(e, transition, path):
    start, stop, pair = transition[0], transition[1], transition[2:]
    moves = sum(pair[a, b] for a, b in itertools.pairwise(path))
    return start[path[0]] + stop[path[-1]] + moves + sum(e[t, y] for t, y in enumerate(path))


def all_scores(e, transition):
    paths = list(itertools.product(range(e.shape[1]), repeat=len(e)))
    return paths, np.array([score(e, transition, p) for p in paths])


def loss(emission, transition, labels, splits):
    out = []
    for a, b in itertools.pairwise(splits):
        e = emission[a:b].astype(np.float64)
        known = score(e, transition, labels[a:b]) if b > a else 0
        out.append(special.logsumexp(all_scores(e, transition)[1]) - known if b > a else 0)
    return np.array(out)


def loss_only(*inputs):
    return loss(*inputs), crf.crf_sequence_loss(*inputs)[1]


def best(emission, transition, splits):
    path, top = [], []
    for a, b in itertools.pairwise(splits):
        paths, scores = all_scores(emission[a:b], transition) if b > a else ([()], np.zeros(1))
        path += paths[int(np.argmax(scores))]
        top.append(scores.max())
    return np.array(path), np.array(top)


OPEN = {0: {0: "T"}, 2: {0: "T"}}
EMPTY = [arr(0, 3), arr(5, 3), ints(0), np.array([0, 0])]
CASES = [
    # log_alpha has no gradient: only `out` has one (tested below)
    Case("crf_sequence_loss", [arr(8, 3), arr(5, 3), LABELS, SPLITS], expect=loss_only, grad=False),
    Case(
        "crf_sequence_loss",
        [arr(6, 2), arr(4, 2), ints(6, high=2), np.array([0, 6])],
        expect=loss_only,
        grad=False,
    ),
    Case("crf_sequence_loss", EMPTY, expect=loss_only, grad=False),
    Case("crf_decode", [arr(8, 3), arr(5, 3), SPLITS], expect=best),
    Case("crf_decode", [arr(6, 2), arr(4, 2), np.array([0, 6], "int32")], expect=best),
    Case(
        "crf_decode", [arr(0, 3), arr(5, 3), np.array([0, 0])], expect=lambda *_: (np.zeros(0), [0])
    ),
]


def backward(inputs, id):
    saved = crf.crf_sequence_loss(*inputs)
    grads = np.linspace(0.5, 1.5, len(inputs[3]) - 1).astype(np.float32)
    return Case("crf_sequence_loss_grad", [*inputs, *saved, grads], grad=False, id=id)


_RNG = np.random.default_rng(3)
ROWS = [_RNG.standard_normal(s).astype(np.float32) for s in ((8, 3), (5, 3))]
CASES += [
    backward([*ROWS, LABELS, SPLITS], "ragged"),
    backward([ROWS[0][:0], ROWS[1], LABELS[:0], np.array([0, 0])], "no steps"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_the_gradient_is_the_slope():
    rng = np.random.default_rng(1)
    e, t = rng.standard_normal((8, 3)), rng.standard_normal((5, 3))
    de, dt = rng.standard_normal((8, 3)), rng.standard_normal((5, 3))
    weights = np.array([0.5, -1.0, 2.0, 1.5])

    def total(step):
        return float(weights @ loss(e + step * de, t + step * dt, LABELS, SPLITS))

    slope = (total(1e-5) - total(-1e-5)) / 2e-5
    saved = crf.crf_sequence_loss(e, t, LABELS, SPLITS)
    ge, gt = crf.crf_sequence_loss_grad(e, t, LABELS, SPLITS, *saved, weights)
    assert (ge * de).sum() + (gt * dt).sum() == pytest.approx(slope, rel=1e-7)


def test_a_very_unlikely_row_still_has_a_finite_loss():
    e = np.zeros((300, 2), np.float32)
    e[:, 0] = 50
    out = crf.crf_sequence_loss(e, np.zeros((4, 2), np.float32), np.ones(300, int), [0, 300])[0]
    assert out[0] == pytest.approx(15000, rel=1e-5)


def test_a_move_that_is_forbidden_is_not_taken():
    transition = np.zeros((4, 2))
    transition[2, 1] = -np.inf  # from tag 0 to tag 1
    e, splits = np.array([[5.0, 0.0], [0.0, 2.0]]), np.array([0, 2])
    path, score = crf.crf_decode(e, transition, splits)
    assert path.tolist() == [0, 0] and score.tolist() == [5.0]
    assert np.isfinite(crf.crf_sequence_loss(e, transition, path, splits)[0]).all()


E, T = np.ones((8, 3)), np.ones((5, 3))
WRONG = {
    "a label that is no tag": (E, T, LABELS + 1, SPLITS),
    "a negative label": (E, T, LABELS - 1, SPLITS),
    "too few labels": (E, T, LABELS[1:], SPLITS),
    "transition of other tags": (E, np.ones((6, 4)), LABELS, SPLITS),
    "transition without start and stop": (E, T[:3], LABELS, SPLITS),
    "splits of other steps": (E, T, LABELS, SPLITS[:-1]),
    "integers as scores": (E.astype(int), T, LABELS, SPLITS),
}


@pytest.mark.parametrize("inputs", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(inputs):
    with pytest.raises(NoriaError):
        crf.crf_sequence_loss(*inputs)


def test_a_path_of_wrong_splits_is_refused():
    with pytest.raises(ArgumentError, match="divide"):
        crf.crf_decode(E, T, np.array([0, 5, 4, 8]))


def test_every_op_has_a_case():
    names = {"crf_sequence_loss", "crf_sequence_loss_grad", "crf_decode"}
    assert {c.op for c in CASES} == names


@pytest.mark.parametrize("splits", [[0, 3, 3, 7], [0, 0, 1], [0]], ids=str)
def test_the_best_path_in_simpler_ops(splits):
    rng = np.random.default_rng(3)
    emission = rng.normal(size=(splits[-1], 4)).astype(np.float32)
    transition = rng.normal(size=(6, 4)).astype(np.float32)
    want = crf.crf_decode(emission, transition, np.array(splits))

    def fn(e, t, s):
        path, score = crf.crf_decode.decompose_fn(e, t, s)
        return {"path": path, "score": score}

    specs = {"e": spec("T", 4), "t": spec(6, 4), "s": spec("B+1", dtype="int64")}
    feeds = {"e": emission, "t": transition, "s": np.array(splits)}
    got = Executor(trace(fn, **specs)).run(feeds)
    np.testing.assert_array_equal(got["path"], want[0])
    np.testing.assert_allclose(got["score"], want[1], rtol=1e-5, atol=1e-6)
