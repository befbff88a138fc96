import numpy as np
import pytest

from noria.core.errors import ShapeError
from noria.ir.trace import spec, trace
from noria.optim.optimizer import Adam
from noria.runtime.executor import Executor
from noria.zoo.transformer import TransformerLM, language_model

IDS = spec("N", "T", dtype="int64")


def small():
    return TransformerLM(words=20, positions=12, layers=2, size=16, heads=2, inner=32)


def test_it_learns_to_repeat_what_was_two_words_before():
    model = small()
    executor = Executor(Adam(1e-2).minimize(trace(language_model(model), ids=IDS, targets=IDS)))
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(60):
        pair = rng.integers(0, 20, (16, 2))
        ids = np.tile(pair, (1, 6))
        feeds = {"ids": ids[:, :-1], "targets": ids[:, 1:]}
        losses.append(float(executor.run(feeds, ["loss"])["loss"]))
    assert losses[0] > 2.5 and losses[-1] < 0.75 * losses[0]


def test_what_comes_later_changes_nothing_before():
    model = small()
    ids = np.random.default_rng(1).integers(0, 20, (2, 9))
    other = ids.copy()
    other[:, 5:] = (other[:, 5:] + 1) % 20
    a, b = model(ids), model(other)
    np.testing.assert_allclose(a[:, :5], b[:, :5], atol=1e-5)
    assert np.abs(a[:, 5:] - b[:, 5:]).max() > 1e-3


def test_it_has_the_parameters_of_the_benchmark():
    program = trace(language_model(TransformerLM()), ids=IDS, targets=IDS)
    sizes = [np.prod(s.value.shape) for s in program.state.values() if s.trainable]
    block = 4 * 512 * 512 + 2 * 512 * 2048 + 2 * 2 * 512 + 4 * 512 + 2048 + 512
    assert sum(sizes) == 6 * block + 2 * 512 + 2 * 10_000 * 512 + 10_000 + 128 * 512


def test_a_text_that_is_too_long_is_told():
    with pytest.raises(ShapeError, match="too long"):
        small()(np.zeros((1, 13), np.int64))
