from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noria.core.errors import ArgumentError
from noria.ir.interpret import run_program
from noria.ir.save import save
from noria.ir.trace import spec, trace
from noria.ops.criterion import bce_with_logits
from noria.optim.optimizer import Adagrad
from noria.passes.for_test import for_test
from noria.runtime.executor import Executor
from noria.runtime.predictor import Predictor
from noria.zoo.deepfm import DeepFM

ROWS, DIM, FIELDS, DENSE = 50, 3, 4, 2


def training(rows: int = ROWS) -> Executor:
    model = DeepFM(rows, DIM, fields=FIELDS, dense=DENSE, hidden=(7, 5))

    def step(ids, dense, label):
        logits = model(ids, dense)
        return {"loss": bce_with_logits(logits, label), "logits": logits}

    inputs = {"ids": spec("N", FIELDS, dtype="int64"), "dense": spec("N", DENSE)}
    forward = trace(step, label=spec("N"), name="deepfm", **inputs)
    return Executor(Adagrad(0.05).minimize(forward), seed=1)


def batch(n: int, rows: int = ROWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    return {
        "ids": rng.integers(0, rows, (n, FIELDS)),
        "dense": rng.standard_normal((n, DENSE), np.float32),
        "label": rng.integers(0, 2, n).astype(np.float32),
    }


def by_hand(s: dict[str, np.ndarray], ids: np.ndarray, dense: np.ndarray) -> np.ndarray:
    """The formula of the paper: every pair of fields, in float64."""
    e = s["embedding.weight"].astype(np.float64)[ids]
    pairs = [(e[:, i] * e[:, j]).sum(1) for i in range(FIELDS) for j in range(i)]
    x = np.concatenate([e.reshape(len(ids), -1), dense], 1)
    for i in (0, 2):
        x = np.maximum(x @ s[f"mlp.body.{i}.weight"].T + s[f"mlp.body.{i}.bias"], 0)
    deep = x @ s["mlp.body.4.weight"].T + s["mlp.body.4.bias"]
    deep = deep + dense @ s["dense.weight"].T + s["dense.bias"]
    return sum(pairs) + s["weight.weight"][ids][..., 0].sum(1) + deep[:, 0]


def test_it_is_every_pair_of_fields_plus_a_linear_model_plus_a_perceptron() -> None:
    run, feeds = training(), batch(6)
    want = by_hand(run.scope.state(), feeds["ids"], feeds["dense"])
    np.testing.assert_allclose(run.run(feeds)["logits"], want, rtol=2e-5, atol=2e-5)


def test_it_learns_a_batch_and_leaves_rows_that_nobody_named_alone() -> None:
    run, feeds = training(), batch(16)
    before = run.scope.state()
    losses = [float(run.run(feeds, ["loss"])["loss"]) for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0], losses
    after = run.scope.state()
    others = np.setdiff1d(np.arange(ROWS), feeds["ids"])
    assert len(others)
    for name in ("embedding.weight", "weight.weight"):
        np.testing.assert_array_equal(after[name][others], before[name][others])
        assert (after[name][feeds["ids"][0]] != before[name][feeds["ids"][0]]).any()
        assert not after[f"{name}.moment"][others].any()


@pytest.mark.parametrize("rows", [1, ROWS])
def test_what_was_saved_predicts_the_same(rows: int, tmp_path: Path) -> None:
    run = training(rows)
    run.run(batch(8, rows), [])
    program, state = for_test(run.program, ["logits"]), run.scope.state()
    save(program, tmp_path / "m.noria", {n: state[n] for n in program.state})
    predictor = Predictor.load(tmp_path / "m.noria")
    for n in (1, 5):
        feeds = {k: v for k, v in batch(n, rows).items() if k != "label"}
        want = run_program(program, feeds, state)[0]["logits"]
        np.testing.assert_allclose(predictor.run(feeds)["logits"], want, rtol=1e-4, atol=1e-5)


def test_an_id_outside_the_table_is_refused_and_nothing_is_learned() -> None:
    run = training()
    before = run.scope.state()
    for wrong in (-1, ROWS):
        feeds = batch(4)
        feeds["ids"][2, 1] = wrong
        with pytest.raises(ArgumentError, match="outside the table"):
            run.run(feeds)
    for name, array in run.scope.state().items():
        np.testing.assert_array_equal(array, before[name], name)


def test_an_empty_batch_teaches_the_tables_nothing() -> None:
    run = training()
    before = run.scope.state()
    run.run(batch(0), [])
    for name in ("embedding.weight", "weight.weight", "embedding.weight.moment"):
        np.testing.assert_array_equal(run.scope.state()[name], before[name])
