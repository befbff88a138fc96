from __future__ import annotations

import numpy as np

from noria.ir.trace import spec, trace
from noria.optim.optimizer import SGD
from noria.runtime.executor import Executor
from noria.zoo.rnn_lm import RNNLM, predict_next

IDS = spec("N", "T", dtype="int64")


def test_parameters_have_the_names_and_shapes_of_pytorch() -> None:
    assert {n: p.shape for n, p in RNNLM(11, 4, 2).parameters().items()} == {
        "encoder.weight": (11, 4),
        "rnn.weight_ih_l0": (16, 4),
        "rnn.weight_hh_l0": (16, 4),
        "rnn.bias_ih_l0": (16,),
        "rnn.bias_hh_l0": (16,),
        "rnn.weight_ih_l1": (16, 4),
        "rnn.weight_hh_l1": (16, 4),
        "rnn.bias_ih_l1": (16,),
        "rnn.bias_hh_l1": (16,),
        "decoder.weight": (11, 4),
        "decoder.bias": (11,),
    }


def test_it_learns_a_text_by_heart_also_with_sparse_rows() -> None:
    rng = np.random.default_rng(0)
    text = rng.integers(0, 11, (3, 9))
    for sparse in (False, True):
        model = RNNLM(11, 16, 2, dropout=0.1, sparse=sparse)
        program = trace(predict_next(model), ids=IDS, targets=IDS)
        executor = Executor(SGD(3.0, clip_norm=5.0).minimize(program))
        feeds = {"ids": text[:, :-1], "targets": text[:, 1:]}
        losses = [float(executor.run(feeds)["loss"]) for _ in range(80)]
        assert losses[0] > 2 and losses[-1] < 1


def test_a_text_in_two_parts_is_the_text() -> None:
    model, ids = RNNLM(11, 4, 2), np.random.default_rng(0).integers(0, 11, (3, 9))
    whole, (h, c) = model(ids)
    first, state = model(ids[:, :4])
    second, (h2, c2) = model(ids[:, 4:], state)
    for a, b in ((h, h2), (c, c2), (whole, np.concatenate([first, second], 1))):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
