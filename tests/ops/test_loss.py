import numpy as np
import pytest
from scipy import special

import noria.ops.loss as loss
from noria.core.errors import ArgumentError, DTypeError, ShapeError
from noria.grad import gradients
from noria.ir.emit import Builder
from noria.ir.interpret import run_program
from noria.ir.opdef import OpDef
from noria.ir.program import Program
from noria.ops.loss import softmax_cross_entropy
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

BOTH = {0: {0: "N"}, 1: {0: "N"}}
THREE = BOTH | {2: {0: "N"}}


def target_of(labels, classes, axis=-1, soft=False, ignore_index=None, label_smoothing=0.0):
    """[..., C] with the classes last, and which examples count."""
    if soft:
        target, kept = np.moveaxis(labels, axis, -1), np.ones(1)
    else:
        kept = labels != (10**9 if ignore_index is None else ignore_index)
        target = np.eye(classes)[np.where(kept, labels, 0)]
        kept = kept[..., None]
    smooth = target * (1 - label_smoothing) + label_smoothing / classes
    return smooth * kept


def entropy(**how):
    def apply(logits, labels):
        axis = how.get("axis", -1)
        log_prob = special.log_softmax(logits.astype(np.float64), axis)
        target = target_of(labels, logits.shape[axis], **how)
        last = np.moveaxis(log_prob, axis, -1)
        return -(target * np.where(target == 0, 0, last)).sum(-1), log_prob

    return apply


def slope(**how):
    def apply(log_prob, labels, grad):
        axis = how.get("axis", -1)
        target = target_of(labels, log_prob.shape[axis], **how)
        prob = np.exp(np.moveaxis(log_prob, axis, -1).astype(np.float64))
        out = (prob * target.sum(-1, keepdims=True) - target) * grad[..., None]
        return np.moveaxis(out, -1, axis)

    return apply


def pair(logits, labels, symbolic=True, grad2=True, id="", **how):
    """The loss and its gradient for the same labels."""
    axis = how.get("axis", -1) % len(logits.shape)
    losses = (*logits.shape[:axis], *logits.shape[axis + 1 :])
    float_labels = how.get("soft", False)
    return [
        Case(
            "softmax_cross_entropy",
            [logits, labels],
            how,
            expect=entropy(**how),
            symbolic=BOTH if symbolic else None,
            grad2=grad2,
            id=id,
        ),
        Case(
            "softmax_cross_entropy_grad",
            [logits, labels, arr(*losses, dtype=logits.dtype)],
            how,
            expect=slope(**how),
            symbolic=THREE if symbolic else None,
            grad=None if float_labels else [0, 2],
            grad2=grad2,
            id=id,
        ),
    ]


IGNORED = np.array([0, -100, 3, -100, 2])
CASES = [
    *pair(arr(4, 5), ints(4, high=5)),
    *pair(arr(4, 5), ints(4, high=5, dtype="int32"), id="int32"),
    *pair(arr(4, 5), ints(4, high=5), label_smoothing=0.2),
    *pair(arr(5, 4), IGNORED, symbolic=False, ignore_index=-100),
    *pair(arr(5, 4), IGNORED, symbolic=False, ignore_index=-100, label_smoothing=0.1),
    *pair(arr(5, 4), ints(5, high=4), ignore_index=2),
    *pair(arr(3, 4), arr(3, 4, low=0, high=1), soft=True),
    *pair(arr(3, 4), arr(3, 4, low=0, high=1), soft=True, label_smoothing=0.3),
    *pair(arr(2, 4, 3), ints(2, 3, high=4), axis=1),
    *pair(arr(2, 4, 3), arr(2, 4, 3), axis=-2, soft=True, symbolic=False),
    *pair(arr(4), np.int64(2), symbolic=False, id="one example"),
    *pair(arr(3, 1), ints(3, high=1), id="one class"),
    *pair(arr(0, 4), ints(0, high=4), symbolic=False, id="no examples"),
    *pair(arr(3, 20, dtype="bfloat16"), ints(3, high=20), grad2=False),
    *pair(arr(3, 20, dtype="float16"), ints(3, high=20), grad2=False),
    Case(
        "softmax_cross_entropy",
        [np.array([[1e4, -1e4, 0], [0, -np.inf, 0]], np.float32), np.array([1, 2])],
        expect=entropy(),
        grad=False,  # not finite
        id="far",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case):
    check_case(case)


def test_every_op_of_the_family_has_a_case():
    assert {d.name for d in vars(loss).values() if isinstance(d, OpDef)} == {c.op for c in CASES}


def test_the_gradient_in_soft_labels_is_minus_log_prob():
    program = Program()
    with Builder(program) as builder:
        logits, labels = builder.input("logits", (2, 3)), builder.input("labels", (2, 3))
        out, log_prob = softmax_cross_entropy(logits, labels, soft=True, label_smoothing=0.25)
        program.outputs = {"g": gradients(out, [labels])[0], "log_prob": log_prob}
    feeds = {n: np.random.default_rng(0).random((2, 3), np.float32) for n in ("logits", "labels")}
    out, _ = run_program(program, feeds, {})
    assert np.allclose(out["g"], -0.75 * out["log_prob"])


@pytest.mark.parametrize("label", [-1, 5, 100])
def test_a_label_that_is_no_class_is_told(label):
    with pytest.raises(ArgumentError, match="no class"):
        softmax_cross_entropy(np.ones((2, 5)), np.array([0, label]))
    kept, _ = softmax_cross_entropy(np.ones((2, 5)), np.array([0, label]), ignore_index=label)
    assert kept[1] == 0


def test_a_label_that_is_no_class_gives_nan_under_xla():
    jnp = pytest.importorskip("jax.numpy")
    attrs = softmax_cross_entropy.bind_attrs({"ignore_index": -100})
    inputs = [jnp.ones((4, 3)), jnp.array([-1, 3, 2, -100])]
    losses, _ = softmax_cross_entropy.run(jnp, inputs, attrs)
    assert np.isnan(np.asarray(losses)).tolist() == [True, True, False, False]
    assert losses[3] == 0


@pytest.mark.parametrize(
    ("logits", "labels", "how", "error", "match"),
    [
        ((2, 3), np.zeros((2, 1), int), {}, ShapeError, "soft=True"),
        ((2, 3), np.zeros(3, int), {}, ShapeError, "logits and labels"),
        ((2, 3), np.zeros((2, 4)), {"soft": True}, ShapeError, "logits and labels"),
        ((2, 3), np.zeros(2), {}, DTypeError, "integer"),
        ((2, 3), np.zeros((2, 3), int), {"soft": True}, DTypeError, "float"),
        ((2, 3), np.zeros(2, int), {"label_smoothing": 1.0}, ArgumentError, "label_smoothing"),
        ((2, 3), np.zeros(2, int), {"axis": 2}, ArgumentError, "axis"),
        ((), np.zeros((), int), {}, ArgumentError, "axis"),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, how, error, match):
    with pytest.raises(error, match=match):
        softmax_cross_entropy(np.ones(logits), labels, **how)
