"""Programs by name, with data to run them on: what `noria profile` takes besides saved models.

Most are training steps. Rates are small, since the one batch repeats: a network that has learnt it
by heart would end in denormal gradients, which are slow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from noria.core.dims import evaluate
from noria.core.dtypes import is_float, to_numpy
from noria.core.errors import MissingError, nearest
from noria.ir.program import Program
from noria.ir.trace import spec, trace
from noria.nn.module import Module
from noria.ops.criterion import bce_with_logits
from noria.optim.optimizer import SGD, Adagrad, Adam, Momentum
from noria.zoo.bert import Bert
from noria.zoo.deepfm import DeepFM
from noria.zoo.digits import classify
from noria.zoo.lenet import LeNet
from noria.zoo.lstm_classifier import LSTMClassifier, classify_texts
from noria.zoo.mlp import MLP
from noria.zoo.recipes import RECIPES, Recipe
from noria.zoo.resnet import ResNet
from noria.zoo.rnn_lm import RNNLM, predict_next
from noria.zoo.speech import SpeechRecognizer, transcribe
from noria.zoo.transformer import TransformerLM, language_model

Feeds = dict[str, np.ndarray]
RATE = 1e-6
WORDS, ROWS = 10_000, 1_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """A Program and its data.

    sizes:  those it is usually run with
    limits: name of an integer input -> one more than the largest number in it, 1 where none is told
    shape:  changes random feeds into such as fit together
    """

    about: str
    program: Callable[[], Program]
    sizes: Mapping[str, int]
    limits: Mapping[str, int] = field(default_factory=dict)
    shape: Callable[[Feeds], None] = lambda feeds: None

    def feeds(self, program: Program, sizes: Mapping[str, int]) -> Feeds:
        """Random arrays for the inputs of the Program, or of its test form."""
        rng = np.random.default_rng(0)
        feeds: Feeds = {}
        for v in program.block.inputs:
            shape = tuple(evaluate(d, sizes) for d in v.shape)
            if is_float(v.dtype):
                numbers: Any = rng.standard_normal(shape, np.float32)
            else:
                numbers = rng.integers(0, self.limits.get(v.name, 1), shape)
            feeds[v.name] = np.asarray(numbers).astype(to_numpy(v.dtype))
        self.shape(feeds)
        return feeds


def _ids(*shape: Any) -> Any:
    return spec(*shape, dtype="int64")


def _images(name: str, model: Callable[[], Module], image: tuple[int, ...]) -> Program:
    forward = trace(classify(model()), name=name, image=spec("N", *image), label=_ids("N"))
    return (Momentum(RATE, 0.9) if name == "resnet50" else Adam(RATE)).minimize(forward)


def _lstm_lm() -> Program:
    step = predict_next(RNNLM(WORDS, 650, 2, sparse=True))
    forward = trace(step, name="lstm_lm", ids=_ids("N", "T"), targets=_ids("N", "T"))
    return SGD(RATE, clip_norm=5.0).minimize(forward)


def _transformer() -> Program:
    step = language_model(TransformerLM(WORDS))
    forward = trace(step, name="transformer", ids=_ids("N", "T"), targets=_ids("N", "T"))
    return Adam(RATE).minimize(forward)


def _bert() -> Program:
    model = Bert()

    def encode(ids: Any) -> dict[str, Any]:
        hidden, pooled = model(ids)
        return {"hidden": hidden, "pooled": pooled}

    return trace(encode, name="bert", ids=_ids("N", "T"))


def _ragged() -> Program:
    specs = {"ids": _ids("T"), "splits": _ids("N + 1"), "label": _ids("N")}
    step = classify_texts(LSTMClassifier(20_000, 128, 2))
    return Adam(RATE).minimize(trace(step, name="ragged_lstm", **specs))


def _texts(feeds: Feeds) -> None:
    """Lengths as different as those of texts; together they are all the words."""
    count, words = len(feeds["splits"]) - 1, len(feeds["ids"])
    ends = np.cumsum(np.random.default_rng(1).lognormal(0.0, 0.7, count))
    feeds["splits"][:] = np.concatenate([[0], np.round(ends / ends[-1] * words)])


def _speech() -> Program:
    features = spec("N", "T", 96)
    labels = {"labels": _ids("N", "W"), "steps": _ids("N"), "label_lengths": _ids("N")}
    step = transcribe(SpeechRecognizer(96, 96, width=256, layers=2))
    return Adam(RATE).minimize(trace(step, name="speech", features=features, **labels))


def _utterances(feeds: Feeds) -> None:
    """All as long as they may be; no label is the blank, which is 0."""
    if "labels" in feeds:
        feeds["labels"] += 1
        feeds["steps"][:] = feeds["features"].shape[1]
        feeds["label_lengths"][:] = feeds["labels"].shape[1]


def _deepfm() -> Program:
    model = DeepFM(ROWS, 16, fields=26, dense=13, hidden=(400, 400, 400))

    def step(ids: Any, dense: Any, label: Any) -> dict[str, Any]:
        return {"loss": bce_with_logits(model(ids, dense), label)}

    inputs = {"ids": _ids("N", 26), "dense": spec("N", 13), "label": spec("N")}
    return Adagrad(RATE).minimize(trace(step, name="deepfm", **inputs))


def _recipe(r: Recipe) -> Sample:
    return Sample(r.about, lambda: r.program(r.epochs, 100), {"N": r.batch_size}, {"label": 10})


SAMPLES: Mapping[str, Sample] = {
    "mlp": Sample(
        "perceptron 784-512-512-10, Adam",
        lambda: _images("mlp", lambda: MLP(784, 512, 512, 10), (784,)),
        {"N": 128},
        {"label": 10},
    ),
    "lenet": Sample(
        "LeNet on 28x28, Adam",
        lambda: _images("lenet", LeNet, (1, 28, 28)),
        {"N": 64},
        {"label": 10},
    ),
    "resnet50": Sample(
        "ResNet-50 v1.5 on 224x224, momentum",
        lambda: _images("resnet50", ResNet, (3, 224, 224)),
        {"N": 16},
        {"label": 1000},
    ),
    "lstm-lm": Sample(
        "language model of 2 LSTM layers of 650, SGD, clipped",
        _lstm_lm,
        {"N": 20, "T": 35},
        {"ids": WORDS, "targets": WORDS},
    ),
    "transformer": Sample(
        "language model of 6 blocks of 512, Adam",
        _transformer,
        {"N": 8, "T": 128},
        {"ids": WORDS, "targets": WORDS},
    ),
    "bert": Sample("BERT base, inference", _bert, {"N": 1, "T": 128}, {"ids": 30_000}),
    "deepfm": Sample(
        "DeepFM on a table of a million rows, Adagrad", _deepfm, {"N": 4096}, {"ids": ROWS}
    ),
    "ragged-lstm": Sample(
        "LSTM over texts of differing length, Adam",
        _ragged,
        {"N": 64, "T": 4000},
        {"ids": 20_000, "label": 2},
        _texts,
    ),
    "speech": Sample(
        "2 bidirectional LSTM layers of 256 with CTC, Adam",
        _speech,
        {"N": 16, "T": 160, "W": 20},
        {"labels": 96},
        _utterances,
    ),
    **{r.name: _recipe(r) for r in RECIPES.values()},
}


def sample(name: str) -> Sample:
    """The sample of that name. Raises MissingError."""
    if name not in SAMPLES:
        raise MissingError(f"no sample is called '{name}'", hint=nearest(name, SAMPLES))
    return SAMPLES[name]
