import numpy as np
import pytest

import noria
from noria.ops.detection import losses
from noria.testing.case import Case, arr
from noria.testing.check import check_case

LABELS = np.array([0, 2, -1, 1, 3])


def focal(gamma, alpha):
    def apply(logits, positives=None):
        p = 1 / (1 + np.exp(-logits.astype(float)))
        out = np.zeros(p.shape)
        for i, c in np.ndindex(p.shape):
            if LABELS[i] == c + 1:
                out[i, c] = -alpha * (1 - p[i, c]) ** gamma * np.log(p[i, c])
            elif LABELS[i] != -1:
                out[i, c] = -(1 - alpha) * p[i, c] ** gamma * np.log(1 - p[i, c])
        return out if positives is None else out / max(int(positives[0]), 1)

    return apply


@pytest.mark.parametrize("gamma", [2.0, 1.0])
def test_focal_loss(gamma):
    case = Case("focal", [arr(5, 3), np.array([4])], expect=focal(gamma, 0.3), grad=[0], tol=1e-5)
    how = {"gamma": gamma, "alpha": 0.3}
    check_case(case, lambda x, n: losses.sigmoid_focal_loss(x, LABELS, n, **how))
    alone = Case("focal", [arr(5, 3)], expect=focal(gamma, 0.3), tol=1e-5)
    check_case(alone, lambda x: losses.sigmoid_focal_loss(x, LABELS, **how))


PRIORS = np.array(
    [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]], np.float32
)


def test_ssd_loss_of_priors_that_predict_everything_is_nearly_zero():
    boxes, labels = PRIORS[[1, 2]], np.array([1, 2])
    splits = np.array([0, 1, 2])
    confidences = np.full((2, 4, 3), -20, np.float32)
    confidences[:, :, 0] = 20
    confidences[0, 1], confidences[1, 2] = [-20, 20, -20], [-20, -20, 20]
    places = np.zeros((2, 4, 4), np.float32)

    def step(places, confidences):
        how = {"size": "negatives"}
        args = (places, confidences, boxes, labels, splits, PRIORS)
        return {"loss": noria.ops.reduce_sum(losses.ssd_loss(*args, **how))}

    program = noria.trace(step, places=noria.spec(2, 4, 4), confidences=noria.spec(2, 4, 3))
    fed = {"places": places, "confidences": confidences}
    assert noria.Executor(program).run(fed)["loss"] < 1e-6
    backward, gradients = noria.append_backward(program, "loss", wrt=["places", "confidences"])
    wrong = {"places": places + 0.5, "confidences": -confidences}
    backward.outputs["in_places"] = gradients["places"]
    got = noria.Executor(backward).run(wrong)
    # Each match: 4 * 0.5^2 / 2 of its place; each of 2 positives and 6 negatives: 40 + log 2.
    assert got["loss"] == pytest.approx((2 * 0.5 + 8 * (40 + np.log(2))) / 2, rel=1e-4)
    moved = got["in_places"]
    assert np.count_nonzero(moved) == 8 and np.count_nonzero(moved[0, 1]) == 4
