"""What every model of the zoo must do, whatever it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from noria.ir.interpret import run_program
from noria.ir.save import save
from noria.ir.trace import spec, trace
from noria.nn.module import Module
from noria.optim.optimizer import Adam
from noria.passes.for_test import for_test
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from noria.zoo.digits import classify

Exercise = Callable[..., dict[str, tuple[int, ...]]]


@pytest.fixture
def exercise(tmp_path: Path) -> Exercise:
    def call(
        model: Module, image: tuple[int, ...], *, steps: int = 8, rate: float = 1e-3
    ) -> dict[str, tuple[int, ...]]:
        """Trace with any batch size, train, ship. Returns the shapes of the state by name."""
        program = trace(
            classify(model), image=spec("N", *image), label=spec("N", dtype="int64"), name="zoo"
        )
        executor = Executor(Adam(rate).minimize(program), seed=3)
        _learns(executor, image, steps)
        _ships(executor, image, tmp_path / "model.noria")
        return {n: tuple(map(int, s.value.shape)) for n, s in program.state.items()}

    return call


def _learns(executor: Executor, image: tuple[int, ...], steps: int) -> None:
    """Images of two kinds are told apart after some steps on one batch."""
    rng = np.random.default_rng(0)
    label = np.arange(6) % 2
    x = rng.standard_normal((6, *image)).astype(np.float32) + 2 * label.reshape(-1, 1, 1, 1)
    feeds = {"image": x.astype(np.float32), "label": label}
    losses = [float(executor.run(feeds, ["loss"])["loss"]) for _ in range(steps)]
    assert np.isfinite(losses).all()
    assert min(losses[-3:]) < 0.5 * losses[0], losses


def _ships(executor: Executor, image: tuple[int, ...], path: Path) -> None:
    """The loaded file computes, at two batch sizes, what the reference makes of the Program."""
    program = for_test(executor.program, ["logits"])
    state = executor.scope.state()
    save(program, path, {n: state[n] for n in program.state})
    predictor = Predictor.load(path)
    for n in (1, 3):
        x = np.random.default_rng(n).standard_normal((n, *image)).astype(np.float32)
        want = run_program(program, {"image": x}, state)[0]["logits"]
        np.testing.assert_allclose(predictor(image=x), want, rtol=1e-3, atol=1e-3)
