"""How noria's costs grow, each measured in a process of its own: `python -m bench.growth WHAT`.

batch, length:  time of a step over eight times the size, divided by eight times the time of the
                smallest; 1 is linear, less is better than linear
planning:       seconds to optimise and plan a training Program of 4,000 operators
binding:        microseconds an operator to bind sizes that were not seen before
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
from bench.noria_side.vision import training_program
from noria import nn, ops, optim
from noria.zoo.digits import classify
from noria.zoo.mlp import MLP

FACTOR = 8
OPERATORS = 4000
Feeds = Mapping[str, np.ndarray]


def step_seconds(executor: Any, feeds: Feeds, slice_s: float = 0.3) -> float:
    """Median time of a step, after two that are not counted."""
    executor.run(feeds, [])
    start = time.perf_counter()
    executor.run(feeds, [])
    count = max(3, int(slice_s / (time.perf_counter() - start)))
    times = []
    for _ in range(count):
        start = time.perf_counter()
        executor.run(feeds, [])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def growth(program: Any, feeds_of: Callable[[int], Feeds], smallest: int) -> float:
    """Time of a step at FACTOR x smallest, over FACTOR x that at the smallest."""
    executor = noria.Executor(program)
    small, large = (step_seconds(executor, feeds_of(smallest * k)) for k in (1, FACTOR))
    return large / (FACTOR * small)


def batch() -> dict[str, float]:
    """Of LeNet's training: a batch of 32 and of 256."""

    def feeds(n: int) -> Feeds:
        return {"image": data.images(n, 1, 28), "label": data.labels(n, 10)}

    return {"step time, 8 x the batch": growth(training_program("lenet_train"), feeds, 32)}


def length() -> dict[str, float]:
    """Of an LSTM's training, 16 rows: 25 steps and 200."""
    n, width = 16, 128
    layer, head = nn.LSTM(width, width), nn.Linear(width, 10)

    def step(x: Any, y: Any) -> dict[str, Any]:
        out, _ = layer(x)
        losses, _ = ops.softmax_cross_entropy(head(out), y)
        return {"loss": ops.reduce_mean(losses)}

    program = noria.trace(step, x=noria.spec("T", n, width), y=int_spec("T", n))

    def feeds(t: int) -> Feeds:
        ids = data.tokens(t, n, 10).ids
        return {"x": data.vectors(t * n, width).reshape(t, n, width), "y": ids}

    return {"step time, 8 x the length": growth(optim.SGD(1e-6).minimize(program), feeds, 25)}


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
    noria.Executor(program).plan(["loss"])
    return {"planning": time.perf_counter() - start}


def binding() -> dict[str, float]:
    """LeNet's training at batch sizes that were not seen before, memory included."""
    executor = noria.Executor(training_program("lenet_train"))

    def bound(n: int) -> Any:
        feeds = {"image": data.images(n, 1, 28), "label": data.labels(n, 10)}
        executor.run(feeds, [])
        return executor.bound(feeds, [])

    steps = len(bound(31).plan.steps)
    return {"binding": _rebinding(executor, range(32, 48)) * 1e6 / steps}


def _rebinding(executor: Any, counts: Sequence[int]) -> float:
    """Median seconds to bind a new batch size."""
    times = []
    for n in counts:
        feeds = {"image": data.images(n, 1, 28), "label": data.labels(n, 10)}
        start = time.perf_counter()
        executor.bound(feeds, [])
        times.append(time.perf_counter() - start)
    return statistics.median(times)


WHAT = {"batch": batch, "length": length, "planning": planning, "binding": binding}

if __name__ == "__main__":
    print(json.dumps(WHAT[sys.argv[1]]()))
