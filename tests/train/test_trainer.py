"""Training learns, tells its numbers, stops when asked, and goes on bit for bit."""

from __future__ import annotations

import functools
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import noria.train.trainer as module
from noria.core.errors import (
    ArgumentError,
    EngineError,
    ExtraMissing,
    FormatError,
    MissingError,
    NonFiniteError,
    ShapeError,
)
from noria.data.dataset import ArrayDataset
from noria.data.reader import Reader
from noria.ir.save import load
from noria.ir.trace import spec, trace
from noria.nn.layers import Flatten, Linear
from noria.nn.module import Sequential
from noria.optim.optimizer import Adam
from noria.runtime.predictor import Predictor
from noria.train.checkpoint import Checkpoint, latest_checkpoint, list_checkpoints, save_checkpoint
from noria.train.trainer import Trainer
from noria.zoo.digits import classify
from tests.train import small
from tests.train.small import BATCH, EPOCHS, STEPS, samples, trainer

Rows = list[dict[str, float]]
ROOT = Path(__file__).parents[2]
LAST = EPOCHS * STEPS


def steps_of(directory: Path) -> list[int]:
    return [int(p.name[5:]) for p in list_checkpoints(directory / "checkpoints")]


def bytes_of(state: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {n: a.tobytes() for n, a in state.items()}


def numbers(rows: Rows) -> Rows:
    """All that does not depend on the clock."""
    return [{k: v for k, v in row.items() if k != "samples_per_second"} for row in rows]


def at(step: int, *signals: signal.Signals) -> Callable[[int, Any], None]:
    """An `on_step` that sends signals to this process."""

    def send(now: int, _: Any) -> None:
        if now == step:
            for number in signals:
                signal.raise_signal(number)

    return send


@functools.cache
def straight(threads: int) -> tuple[dict[str, bytes], Rows]:
    """Final state and history of a training nobody disturbs."""
    made = trainer(threads=threads)
    history = made.fit(EPOCHS)
    assert history.stopped == "finished"
    return bytes_of(made.scope.state()), numbers(history.rows)


def assert_as_straight(made: Trainer, threads: int = 1) -> None:
    state, rows = straight(threads)
    assert numbers(made.history.rows) == rows
    assert bytes_of(made.scope.state()) == state


# ---- learning ----------------------------------------------------------------------------------


def test_training_learns_and_keeps_a_row_for_each_epoch() -> None:
    made = trainer()
    before = made.evaluate(samples())
    history = made.fit(EPOCHS)
    assert history.stopped == "finished" and made.step == LAST
    names = {"epoch", "train_loss", "train_accuracy", "loss", "accuracy", "samples_per_second"}
    assert [row.keys() for row in history.rows] == [names] * EPOCHS
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]
    assert history.rows[-1]["train_loss"] < history.rows[0]["train_loss"]
    after = made.evaluate(samples())
    assert after["loss"] < 0.8 * before["loss"] and after["accuracy"] > 0.6
    assert history.last("loss") == history.rows[-1]["loss"]
    assert math.isnan(history.last("nothing"))


def test_a_finished_training_goes_on_when_more_epochs_are_asked_for() -> None:
    made = trainer()
    made.fit(1)
    assert made.fit(1).stopped == "finished" and made.step == STEPS
    made.fit(EPOCHS)
    assert_as_straight(made)


def test_a_train_row_is_the_mean_over_samples_not_over_batches() -> None:
    made = trainer()
    seen: list[float] = []
    made.fit(1, on_step=lambda step, got: seen.append(got["loss"]))
    sizes = [BATCH] * 6 + [2]
    assert made.history.last("train_loss") == pytest.approx(np.average(seen, weights=sizes))
    assert abs(made.history.last("train_loss") - np.mean(seen)) > 1e-4


def test_an_evaluation_is_the_mean_over_samples_in_test_form() -> None:
    made = trainer()
    made.fit(1)
    before = bytes_of(made.scope.state())
    data = samples(11, seed=2)
    logits = Predictor(made.program, made.scope.state(), outputs=["logits"])(image=data["image"])
    wide = logits.astype(np.float64)
    chances = np.exp(wide) / np.exp(wide).sum(1, keepdims=True)
    loss = -np.log(chances[np.arange(11), data["label"]]).mean()
    for batch_size in (None, 4, 5, 100):
        got = made.evaluate(data, batch_size)
        assert got["loss"] == pytest.approx(loss, rel=1e-5)
        assert got["accuracy"] == pytest.approx((logits.argmax(1) == data["label"]).mean())
    assert bytes_of(made.scope.state()) == before


def test_each_step_is_told_with_its_numbers() -> None:
    seen = []
    trainer(evaluation=None).fit(2, on_step=lambda step, got: seen.append((step, sorted(got))))
    assert seen == [(k, ["accuracy", "loss"]) for k in range(1, 2 * STEPS + 1)]


@pytest.mark.parametrize("options", [{"epochs": None}, {"epochs": 2}, {"prefetch": 2}])
def test_readers_of_all_kinds_give_the_same_epochs(options: dict[str, Any]) -> None:
    made = trainer(reader=Reader(samples(), BATCH, seed=5, **options))
    made.fit(EPOCHS)
    assert_as_straight(made)


def test_without_a_directory_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = trainer(every=2)
    made.fit(1, on_step=at(3, signal.SIGINT))
    assert made.checkpoint() is None and made.history.stopped == "interrupted"
    made.fit(1)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_progress_is_a_line_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    made = trainer()
    made.show = True
    made.fit(2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["epoch", "1/2"], ["epoch", "2/2"]]
    assert "test_accuracy" in lines[0]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"every": 0}, ArgumentError, "every must be at least 1"),
        ({"keep": 0}, ArgumentError, "keep must be at least 1"),
        ({"patience": 0}, ArgumentError, "patience must be at least 1"),
        ({"patience": 1, "evaluation": None}, ArgumentError, "needs an evaluation data set"),
        ({"loss": "lost"}, MissingError, "no output 'lost'"),
        ({"metric": "acuracy"}, MissingError, "no output 'acuracy'"),
        ({"metric": "logits"}, ShapeError, "'logits' is not a scalar"),
        ({"program": small.forward()}, ArgumentError, "updates no parameter"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        trainer(**options)


# ---- the best model, early stop ----------------------------------------------------------------


def scripted(made: Trainer, name: str, values: list[float]) -> list[dict[str, np.ndarray]]:
    """Evaluations that give these values; the states they were made of."""
    states: list[dict[str, np.ndarray]] = []

    def evaluate(_: Any) -> dict[str, float]:
        states.append(made.scope.state())
        return {name: values[len(states) - 1]}

    made.evaluate = evaluate  # type: ignore[method-assign,assignment]
    return states


def test_the_best_model_is_saved_and_predicts_as_it_did(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    states = scripted(made, "accuracy", [0.2, 0.9, 0.5])
    made.fit(EPOCHS)
    assert made.best == 0.9
    program, state = load(tmp_path / "best.noria")
    assert not program.updates and not any("moment" in n for n in state)
    assert bytes_of(state) == {n: states[1][n].tobytes() for n in state}
    assert state["body.0.weight"].tobytes() != states[2]["body.0.weight"].tobytes()
    image = samples(5, seed=3)["image"]
    served = Predictor.load(tmp_path / "best.noria", outputs=["logits"])
    want = Predictor(made.program, states[1], outputs=["logits"])(image=image)
    np.testing.assert_array_equal(served(image=image), want)


def test_the_saved_model_gives_what_the_evaluation_measured(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.fit(1)
    data = samples(8, seed=4)
    feeds = {"image": data["image"], "label": data["label"]}
    got = Predictor.load(tmp_path / "best.noria", threads=1).run(feeds)
    for name, value in made.tester.run(feeds).items():
        np.testing.assert_array_equal(got[name], value)


NAN = float("nan")


@pytest.mark.parametrize(
    ("metric", "values", "rows", "best", "stopped"),
    [
        ("accuracy", [0.5, 0.6, 0.6, 0.1, 0.9], 4, 0.6, "early stop"),  # as good is not better
        ("accuracy", [0.5, 0.4, 0.6, 0.5, 0.7], 5, 0.7, "finished"),
        ("accuracy", [NAN, 0.4, NAN, 0.3, 0.9], 4, 0.4, "early stop"),
        ("loss", [0.5, 0.4, 0.6, 0.5, 0.1], 4, 0.4, "early stop"),
        ("loss", [5.0, 4.0, 3.0, 2.0, 1.0], 5, 1.0, "finished"),
    ],
)
def test_training_stops_after_epochs_without_a_better_one(
    metric: str, values: list[float], rows: int, best: float, stopped: str
) -> None:
    made = trainer(metric=metric, patience=2)
    scripted(made, metric, values)
    history = made.fit(5)
    assert (len(history.rows), made.best, history.stopped) == (rows, best, stopped)


def test_a_stopped_training_that_is_resumed_stays_stopped(tmp_path: Path) -> None:
    made = trainer(tmp_path, patience=1)
    scripted(made, "accuracy", [0.5, 0.4])
    assert made.fit(EPOCHS).stopped == "early stop"
    again = trainer(tmp_path, patience=1)
    assert again.fit(EPOCHS, resume=True).stopped == "early stop"
    assert again.step == made.step == 2 * STEPS and again.best == 0.5


# ---- checkpoints -------------------------------------------------------------------------------


def test_checkpoints_come_within_epochs_and_at_their_ends(tmp_path: Path) -> None:
    trainer(tmp_path, every=3, keep=100).fit(2)
    assert steps_of(tmp_path) == [3, 6, 7, 9, 12, 14]
    point = latest_checkpoint(tmp_path / "checkpoints")
    assert (point.epoch, point.reader["epoch"], point.reader["batch"]) == (2, 2, 0)
    assert {"best.noria", "checkpoints"} <= set(os.listdir(tmp_path))


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    trainer(tmp_path, every=3, keep=2).fit(2)
    assert steps_of(tmp_path) == [12, 14]


def test_the_operator_that_gives_the_first_nan_is_named_if_that_is_asked_for() -> None:
    image = samples()["image"].copy()
    image[20] = NAN  # in the third batch
    data = ArrayDataset({"image": image, "label": samples()["label"]})
    linear = Sequential(Flatten(), Linear(16, 3))
    inputs = {"image": spec("N", 1, 4, 4), "label": spec("N", dtype="int64")}
    program = Adam(1e-2).minimize(trace(classify(linear), **inputs))
    reader = Reader(data, BATCH, shuffle=False)
    made = Trainer(program, reader, progress=False, check_finite=True)
    with pytest.raises(NonFiniteError, match="linear gave NaN") as told:
        made.fit(1)
    assert not all(told.value.finite.values())
    assert made.step == 2 and made.scope["optimizer.step"] == 2  # the third left no trace


def test_a_loss_that_is_not_finite_ends_training_with_the_last_checkpoint_whole(
    tmp_path: Path,
) -> None:
    image = samples()["image"].copy()
    image[20] = NAN  # in the third batch
    data = ArrayDataset({"image": image, "label": samples()["label"]})
    reader = Reader(data, BATCH, shuffle=False)
    linear = Sequential(Flatten(), Linear(16, 3))
    inputs = {"image": spec("N", 1, 4, 4), "label": spec("N", dtype="int64")}
    program = Adam(1e-2).minimize(trace(classify(linear), **inputs))
    made = trainer(tmp_path, reader=reader, program=program, every=1)
    with pytest.raises(EngineError, match="the loss became nan at step 3") as told:
        made.fit(1)
    assert told.value.hint and made.history.stopped == ""
    assert steps_of(tmp_path) == [1, 2]
    state = latest_checkpoint(tmp_path / "checkpoints", made.program).state
    assert all(np.isfinite(a).all() for a in state.values())


def test_a_used_directory_is_not_written_into_unless_resumed(tmp_path: Path) -> None:
    trainer(tmp_path).fit(1)
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(ArgumentError, match="holds an earlier run") as told:
        trainer(tmp_path).fit(1)
    assert "resume=True" in told.value.hint
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_nothing_to_resume_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="resume needs the directory"):
        trainer().fit(1, resume=True)
    with pytest.raises(MissingError, match="no checkpoint to resume from"):
        trainer(tmp_path).fit(1, resume=True)


def test_a_refused_resume_leaves_the_trainer_as_it_was(tmp_path: Path) -> None:
    trainer(tmp_path).fit(1)
    for options, error in (
        ({"reader": Reader(samples(), BATCH + 1)}, ArgumentError),
        ({"program": small.training(9)}, FormatError),
    ):
        made = trainer(tmp_path, **options)
        before = bytes_of(made.scope.state())
        with pytest.raises(error, match="another"):
            made.fit(2, resume=True)
        assert bytes_of(made.scope.state()) == before and made.step == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"history": {}},
        {"history": [3]},
        {"history": [{"loss": "low"}]},
        {"best": "0.5"},
        {"waited": None},
        {"sums": {"loss": []}},
        {"weight": "7"},
        None,
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, wrong: dict | None) -> None:
    made = trainer(tmp_path)
    good = {"history": [], "best": None, "waited": 0, "sums": {}, "weight": 0}
    extra = {} if wrong is None else good | wrong
    place = made.reader.state()
    save_checkpoint(
        tmp_path / "checkpoints",
        Checkpoint(made.program, made.scope.state(), 0, 0, place, extra),
    )
    with pytest.raises(FormatError, match="is not a trainer's"):
        made.fit(1, resume=True)


# ---- stop and go on ----------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_interrupted_training_goes_on_bit_for_bit(
    tmp_path: Path, threads: int, prefetch: int
) -> None:
    def made() -> Trainer:
        reader = Reader(samples(), BATCH, seed=5, prefetch=prefetch)
        return trainer(tmp_path, threads=threads, reader=reader)

    first = made()
    kill = at(10, signal.SIGINT)
    handler = signal.getsignal(signal.SIGINT)
    assert first.fit(EPOCHS, on_step=kill).stopped == "interrupted"
    assert signal.getsignal(signal.SIGINT) is handler
    assert first.step == 10 and steps_of(tmp_path) == [7, 10]
    second = made()
    assert second.fit(EPOCHS, resume=True).stopped == "finished"
    assert_as_straight(second, threads)


def test_an_interrupted_trainer_itself_can_go_on_too() -> None:
    made = trainer()
    for step in (3, 7, 12):
        assert made.fit(EPOCHS, on_step=at(step, signal.SIGTERM)).stopped == "interrupted"
        assert made.step == step
    assert made.fit(EPOCHS).stopped == "finished"
    assert_as_straight(made)


def test_a_signal_at_the_last_step_of_an_epoch_waits_for_its_evaluation(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    assert first.fit(EPOCHS, on_step=at(STEPS, signal.SIGINT)).stopped == "interrupted"
    assert len(first.history.rows) == 1 and steps_of(tmp_path) == [STEPS]
    second = trainer(tmp_path)
    history = second.fit(EPOCHS, resume=True, on_step=at(LAST, signal.SIGINT))
    assert history.stopped == "finished"  # nothing was left to do
    assert_as_straight(second)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_killed_process_goes_on_in_another_bit_for_bit(tmp_path: Path, threads: int) -> None:
    """Killed between two checkpoints of an epoch: steps 8..14 with checkpoints at 8 and 12."""
    command = [sys.executable, "-W", "error", "-m", "tests.train.small", str(tmp_path)]
    run = functools.partial(subprocess.run, capture_output=True, text=True, cwd=ROOT)
    killed = run([*command, str(threads), "11"])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert steps_of(tmp_path) == [4, 7, 8]
    ended = run([*command, str(threads), "0"])
    assert ended.returncode == 0, ended.stderr
    point = latest_checkpoint(tmp_path / "checkpoints")
    state, rows = straight(threads)
    assert point.step == LAST
    assert numbers(point.extra["history"]) == rows
    assert bytes_of(point.state) == state


@pytest.mark.parametrize("step", [10, STEPS])
def test_a_second_signal_stops_at_once_without_a_checkpoint(tmp_path: Path, step: int) -> None:
    made = trainer(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        made.fit(EPOCHS, on_step=at(step, signal.SIGINT, signal.SIGTERM))
    assert made.step == step and steps_of(tmp_path) == ([STEPS] if step > STEPS else [])
    assert made.history.stopped == ""


def test_a_second_signal_while_evaluating_leaves_the_epoch_to_be_done_again(
    tmp_path: Path,
) -> None:
    first = trainer(tmp_path, every=2)
    plain = first.evaluate

    def evaluate(data: Any) -> dict[str, float]:
        at(14, signal.SIGINT, signal.SIGINT)(first.step, None)
        return plain(data)

    first.evaluate = evaluate  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        first.fit(EPOCHS)
    assert steps_of(tmp_path) == [8, 10, 12]
    second = trainer(tmp_path)
    second.fit(EPOCHS, resume=True)
    assert_as_straight(second)


def test_an_interrupt_within_a_step_writes_no_checkpoint(tmp_path: Path) -> None:
    first = trainer(tmp_path, every=3)
    plain = first.executor.run

    def run(*args: Any) -> Any:
        got = plain(*args)
        if first.step == 10:
            raise KeyboardInterrupt
        return got

    first.executor.run = run  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.fit(EPOCHS)
    assert steps_of(tmp_path) == [6, 7, 9]
    second = trainer(tmp_path)
    second.fit(EPOCHS, resume=True)
    assert_as_straight(second)


def test_a_damaged_newest_checkpoint_costs_steps_not_the_result(tmp_path: Path) -> None:
    trainer(tmp_path, every=2).fit(EPOCHS, on_step=at(11, signal.SIGINT))
    newest = list_checkpoints(tmp_path / "checkpoints")[-1]
    assert newest.name == "step-00000011"
    (newest / "checkpoint.json").write_text("{")
    made = trainer(tmp_path)
    seen: list[int] = []
    made.fit(EPOCHS, resume=True, on_step=lambda step, _: seen.append(step))
    assert seen == list(range(11, LAST + 1))
    assert_as_straight(made)


def test_training_works_in_a_thread_where_no_signal_arrives() -> None:
    made = trainer()
    thread = threading.Thread(target=made.fit, args=(EPOCHS,))
    thread.start()
    thread.join()
    assert_as_straight(made)


# ---- scalars for TensorBoard -------------------------------------------------------------------


def curve(directory: Path, tag: str) -> list[tuple[int, float]]:
    pytest.importorskip("tensorboard", reason="tensorboard (extra viz) is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(directory / "events"), size_guidance={"scalars": 0}).Reload()
    return [(event.step, event.value) for event in found.Scalars(tag)]


def assert_whole_curve(directory: Path, made: Trainer) -> None:
    for tag in ("train_loss", "loss", "accuracy"):
        want = [(int(row["epoch"]) * STEPS, np.float32(row[tag])) for row in made.history.rows]
        assert curve(directory, tag) == want
    assert len(made.history.rows) == EPOCHS


@pytest.mark.parametrize("step", [2, 10, 2 * STEPS])
def test_the_curve_of_a_resumed_run_is_whole(tmp_path: Path, step: int) -> None:
    trainer(tmp_path).fit(EPOCHS, on_step=at(step, signal.SIGINT))
    made = trainer(tmp_path)
    made.fit(EPOCHS, resume=True)
    assert_whole_curve(tmp_path, made)


def test_a_point_written_after_the_last_checkpoint_is_not_shown_twice(tmp_path: Path) -> None:
    first = trainer(tmp_path, every=4)
    plain = first.checkpoint

    def checkpoint() -> Path | None:
        if first.step == 2 * STEPS:
            raise EngineError("disk full")
        return plain()

    first.checkpoint = checkpoint  # type: ignore[method-assign]
    with pytest.raises(EngineError):
        first.fit(EPOCHS)
    assert [step for step, _ in curve(tmp_path, "loss")] == [STEPS, 2 * STEPS]
    made = trainer(tmp_path)
    made.fit(EPOCHS, resume=True)
    assert_whole_curve(tmp_path, made)
    assert_as_straight(made)


def test_without_tensorboard_training_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*args: Any, **options: Any) -> None:
        raise ExtraMissing("tensorboard", "viz", "writing events for TensorBoard")

    monkeypatch.setattr(module, "EventWriter", missing)
    with pytest.warns(UserWarning, match="no event files.*tensorboard"):
        trainer(tmp_path).fit(1)
    assert sorted(os.listdir(tmp_path)) == ["best.noria", "checkpoints"]


def test_one_sample_is_evaluated_and_none_is_refused() -> None:
    made = trainer()
    assert made.evaluate(samples(1, seed=9)) == made.evaluate(samples(1, seed=9), 64)
    empty = ArrayDataset({"image": np.zeros((0, 1, 4, 4), np.float32), "label": np.zeros(0, int)})
    with pytest.raises(ArgumentError, match="batch_size"):
        made.evaluate(empty)
