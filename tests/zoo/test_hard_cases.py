"""Small networks of every kind under hard conditions, each fast kernel beside its reference: odd
channels, one-row batches, teams smaller and larger than the machine, denormal numbers."""

import numpy as np
import pytest

from noria import ops, optim
from noria.core.flags import flags
from noria.ir.trace import spec, trace
from noria.nn.layers import BatchNorm2d, Conv2d, Linear, MaxPool2d, ReLU
from noria.nn.module import Module, Sequential
from noria.runtime.executor import Executor
from noria.zoo.deepfm import DeepFM
from noria.zoo.speech import SpeechRecognizer, transcribe
from noria.zoo.transformer import TransformerLM, language_model


def ids_spec(*shape):
    return spec(*shape, dtype="int64")


class OddBlock(Module):
    """3 to 7 to 17 channels, with a residual."""

    def __init__(self):
        self.stem = Sequential(Conv2d(3, 7, 3, padding=1, bias=False), BatchNorm2d(7), ReLU())
        self.left = Sequential(Conv2d(7, 17, 3, stride=2, padding=1, bias=False), BatchNorm2d(17))
        self.right = Sequential(Conv2d(7, 17, 1, stride=2, bias=False), BatchNorm2d(17))
        self.pool, self.fc = MaxPool2d(2), Linear(17, 5)

    def __call__(self, image):
        x = self.stem(image)
        x = self.pool(ops.relu(ops.add(self.left(x), self.right(x))))
        return self.fc(ops.reduce_mean(x, axis=(2, 3)))


def images():
    model = OddBlock()

    def step(image, label):
        return {"loss": ops.cross_entropy(model(image), label)}

    return optim.Momentum(0.1, 0.9).minimize(
        trace(step, image=spec("N", 3, 9, 11), label=ids_spec("N"))
    )


def words():
    step = language_model(TransformerLM(31, 13, layers=2, size=51, heads=3, inner=40))
    shape = ("N", 13)
    program = trace(step, ids=ids_spec(*shape), targets=ids_spec(*shape))
    return optim.Adam(1e-3).minimize(program)


def speech():
    specs = {
        "features": spec("N", 9, 7),
        "labels": ids_spec("N", 2),
        "steps": ids_spec("N"),
        "label_lengths": ids_spec("N"),
    }
    step = transcribe(SpeechRecognizer(7, 4, width=17))
    return optim.Adam(1e-3).minimize(trace(step, **specs))


def clicks():
    model = DeepFM(97, 5, fields=3, dense=2, hidden=(17, 7))

    def step(ids, dense, label):
        logits = model(ids, dense)
        return {"loss": ops.reduce_mean(ops.bce_with_logits(logits, label))}

    program = trace(step, ids=ids_spec("N", 3), dense=spec("N", 2), label=spec("N"))
    return optim.Adagrad(0.1).minimize(program)


PROGRAMS = {"images": images, "words": words, "speech": speech, "clicks": clicks}
RANGES = {"label": 2, "ids": 31, "targets": 31}


def feeds_of(program, n, scale=1.0):
    rng = np.random.default_rng(n)
    feeds = {}
    for name, value in program.inputs.items():
        shape = [n if not isinstance(d, int) else d for d in value.shape]
        if value.dtype == "int64":
            feeds[name] = rng.integers(0, RANGES.get(name, 3), shape)
        elif name == "label":
            feeds[name] = rng.integers(0, 2, shape).astype(np.float32)
        else:
            feeds[name] = (scale * rng.standard_normal(shape)).astype(np.float32)
    if "features" in feeds:
        feeds["labels"] = rng.integers(1, 5, (n, 2))
        feeds["steps"] = rng.integers(5, 10, n)
        feeds["label_lengths"] = rng.integers(0, 3, n)
    return feeds


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("threads", [1, 3])
def test_training_is_that_of_the_reference(name, threads):
    program = PROGRAMS[name]()
    with flags.set(validate=True):
        run = Executor(program, threads=threads)
        for n in (1, 5):
            assert np.isfinite(run.run(feeds_of(program, n))["loss"])


@pytest.mark.parametrize("name", ["images", "speech", "clicks"])
def test_denormal_numbers_are_numbers(name):
    program = PROGRAMS[name]()
    with flags.set(validate=True):
        run = Executor(program, threads=2)
        assert np.isfinite(run.run(feeds_of(program, 4, scale=1e-41))["loss"])


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_empty_batch_does_no_harm(name):
    program = PROGRAMS[name]()
    run = Executor(program, threads=2)
    feeds = feeds_of(program, 3)
    first = run.run(feeds)["loss"]
    run.run({k: v[:0] for k, v in feeds.items()})
    assert np.isfinite(first)
    assert run.run(feeds)["loss"].shape == ()
