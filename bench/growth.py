"""How noria's costs grow, each measured in a process of its own: `python -m bench.growth WHAT`.

batch, length:  time of a step over eight times the size, divided by eight times the time of the
                smallest; 1 is linear, less is better than linear
planning:       seconds to optimise and plan a training Program of 4,000 operators
binding:        microseconds a step of the plan to bind sizes that were not seen before: of ragged
                batches, of texts of other lengths, of a deep network and another batch
Prints JSON: title -> number.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import noria
from bench import data, sizes
from bench.noria_side.common import int_spec
from bench.noria_side.sequence import bilstm_ctc_program, lm_program, ragged_program
from bench.noria_side.vision import training_program
from noria import optim
from noria.runtime.executor import Executor
from noria.zoo.digits import classify
from noria.zoo.mlp import MLP

FACTOR = 8
ROUNDS = 5
OPERATORS = 4000
Feeds = Mapping[str, np.ndarray]


def step_seconds(executor: Any, feeds: Feeds, slice_s: float = 0.2) -> float:
    """Median time of a step."""
    times: list[float] = []
    while len(times) < 3 or sum(times) < slice_s:
        start = time.perf_counter()
        executor.run(feeds, [])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def growth(program: Any, feeds_of: Callable[[int], Feeds], smallest: int) -> float:
    """Time of a step at FACTOR x smallest, over FACTOR x that at the smallest: the median of rounds
    in which both take turns, so that a drift of the machine falls on both."""
    executor = Executor(program)
    small, large = feeds_of(smallest), feeds_of(smallest * FACTOR)
    for feeds in (small, large, small, large):
        executor.run(feeds, [])
    return statistics.median(
        step_seconds(executor, large) / (FACTOR * step_seconds(executor, small))
        for _ in range(ROUNDS)
    )


def batch() -> dict[str, float]:
    """Of training ResNet-50 on 2 and on 16 images, and LeNet on 64 and on 512."""

    def feeds(side: int, channels: int, classes: int) -> Callable[[int], Feeds]:
        return lambda n: {
            "image": data.images(n, channels, side),
            "label": data.labels(n, classes),
        }

    resnet, lenet = (training_program(w) for w in ("resnet50_train_fp32", "lenet_train"))
    return {
        "resnet50_train_fp32, 8 x the batch": growth(resnet, feeds(224, 3, 1000), 2),
        "lenet_train, 8 x the batch": growth(lenet, feeds(28, 1, 10), 64),
    }


def length() -> dict[str, float]:
    """Of training the LSTM language model on 4 rows of 16 words and of 128, the classifier on 64
    texts of which each is eight times as long, and BiLSTM and CTC on 40 steps and on 320."""

    def lm(time: int) -> Feeds:
        return data.tokens(4, time, sizes.LM.words)._asdict()

    few = data.ragged_batches()[0]

    def ragged(times: int) -> Feeds:
        rows = np.concatenate([few.ids] * times)
        splits = np.cumsum([0, *(few.lengths * times)])
        return {"ids": rows, "splits": splits, "label": few.label}

    def ctc(time: int) -> Feeds:
        batch = data.speech(sizes.BATCH["bilstm_ctc_train"], time)
        steps = np.full(len(batch.features), time)
        feeds = {"features": batch.features, "labels": batch.padded(), "steps": steps}
        return {**feeds, "label_lengths": batch.lengths}

    return {
        "lstm_lm_train, 8 x the length": growth(lm_program(), lm, 16),
        "ragged_lstm_train, 8 x the length": growth(ragged_program(), ragged, 1),
        "bilstm_ctc_train, 8 x the length": growth(bilstm_ctc_program(), ctc, 40),
    }


def deep_program() -> Any:
    """Training of a perceptron with as many layers as make OPERATORS operators."""

    def training(layers: int) -> Any:
        model = classify(MLP(*[16] * (layers + 1)))
        return optim.Adam(1e-3).minimize(
            noria.trace(model, image=noria.spec("N", 16), label=int_spec("N"))
        )

    few, more = (len(training(k).operators) for k in (10, 20))
    layers = 10 + -(-(OPERATORS - few) * 10 // (more - few))
    return training(layers)


def planning() -> dict[str, float]:
    """With whatever NORIA_CACHE holds: cold if it is a new folder."""
    program = deep_program()
    assert len(program.operators) >= OPERATORS
    start = time.perf_counter()
    Executor(program).plan(["loss"])
    return {"planning 4,000 operators": time.perf_counter() - start}


def binding() -> dict[str, float]:
    """Training at sizes that were not seen before, memory included."""
    ragged = [
        {"ids": b.ids, "splits": np.cumsum([0, *b.lengths]), "label": b.label}
        for b in data.ragged_batches()
    ]
    texts = [data.tokens(4, time, sizes.LM.words)._asdict() for time in range(20, 12, -1)]
    images = [
        {"image": np.zeros((n, 16), np.float32), "label": np.zeros(n, np.int64)}
        for n in range(20, 12, -1)
    ]
    return {
        "ragged_lstm_train, binding new sizes": binding_us(ragged_program(), ragged),
        "lstm_lm_train, binding new lengths": binding_us(lm_program(), texts),
        "4,000 operators, binding new batches": binding_us(deep_program(), images),
    }


def binding_us(program: Any, batches: Sequence[Feeds]) -> float:
    """Microseconds a step of the plan, the first batch not counted: median."""
    executor = Executor(program)
    executor.run(batches[0], [])
    times = []
    for feeds in batches[1:]:
        start = time.perf_counter()
        bound = executor.bound(feeds, [])
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6 / len(bound.plan.steps)


WHAT = {"batch": batch, "length": length, "planning": planning, "binding": binding}

if __name__ == "__main__":
    print(json.dumps(WHAT[sys.argv[1]]()))
