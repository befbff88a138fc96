"""The loss of padded batches, beside PyTorch's."""

import numpy as np
import pytest

from noria import ops
from noria.core.errors import ArgumentError, ShapeError
from noria.grad import gradients
from noria.ir.trace import spec, trace
from noria.runtime.executor import Executor

T, N, C = 9, 3, 5


def batch():
    rng = np.random.default_rng(4)
    logits = rng.standard_normal((T, N, C)).astype(np.float32)
    labels = rng.integers(1, C, (N, 3))
    labels[2] = labels[2, 0]  # three of a kind need five steps
    return logits, labels, np.array([9, 6, 4]), np.array([3, 2, 3])


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_loss_and_gradient_are_pytorchs(reduction, batch_first):
    torch = pytest.importorskip("torch")
    logits, labels, steps, counts = batch()
    x = torch.tensor(logits, requires_grad=True)
    given = [torch.tensor(a) for a in (labels, steps, counts)]
    theirs = torch.nn.functional.ctc_loss(
        x.log_softmax(-1), *given, reduction=reduction, zero_infinity=True
    )
    theirs.sum().backward()
    wanted = x.grad.numpy()
    if batch_first:
        logits, wanted = (np.ascontiguousarray(a.swapaxes(0, 1)) for a in (logits, wanted))

    def both(logits, labels, steps, counts):
        loss = ops.ctc_loss(
            logits,
            labels,
            steps,
            counts,
            batch_first=batch_first,
            reduction=reduction,
            zero_infinity=True,
        )
        (gradient,) = gradients([ops.reduce_sum(loss)], [logits])
        return {"loss": loss, "gradient": gradient}

    feeds = {"logits": logits, "labels": labels, "steps": steps, "counts": counts}
    sizes = {"logits": ("N", "T", C) if batch_first else ("T", "N", C), "labels": ("N", "W")}
    specs = {k: spec(*sizes.get(k, ("N",)), dtype=str(a.dtype)) for k, a in feeds.items()}
    out = Executor(trace(both, **specs)).run(feeds)
    np.testing.assert_allclose(out["loss"], theirs.detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(out["gradient"], wanted, atol=1e-6)


def test_a_sequence_too_short_is_infinite_unless_told_otherwise():
    logits, labels, steps, counts = batch()
    losses = ops.ctc_loss(logits, labels, steps, counts, reduction="none")
    assert np.isinf(losses).tolist() == [False, False, True]
    finite = ops.ctc_loss(logits, labels, steps, counts, reduction="none", zero_infinity=True)
    assert finite[2] == 0


def test_what_does_not_fit_is_refused():
    logits, *rest = batch()
    with pytest.raises(ShapeError, match="batch of sequences"):
        ops.ctc_loss(logits[0], *rest)
    with pytest.raises(ArgumentError, match="reduction"):
        ops.ctc_loss(logits, *rest, reduction="most")
