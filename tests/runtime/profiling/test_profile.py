"""Profiles of training and of inference: what is in them, and what they leave alone."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from noria.core.errors import ArgumentError, MissingError
from noria.runtime.predictor import Predictor
from noria.runtime.profiling.profile import profile
from tests.runtime.profiling.machine import FEEDS, training
from tests.runtime.programs import floats, mlp

pytestmark = pytest.mark.usefixtures("machine")


def test_every_step_that_runs_has_a_row_and_so_have_feeds_and_fetches():
    executor = training()
    found = profile(executor, FEEDS, steps=3)
    bound = executor.bound(FEEDS)
    ran = [i.step.op.type for i in bound.items if not i.step.view and i.pack is None]
    told = [r.op for r in found.rows if r.phase not in ("engine", "pack")]
    assert told == ran
    assert [r.op for r in found.rows if r.phase == "engine"] == ["feeds", "fetch"]
    assert [r.index for r in found.rows] == list(range(len(found.rows)))
    assert all(len(r.samples) == 3 and r.seconds >= 0 for r in found.rows)


def test_the_rows_add_up_to_about_the_whole():
    found = profile(training(), FEEDS, steps=5)
    assert len(found.wholes) == 5 and 0 < found.accounted < 20 * found.seconds
    assert found.floor == sum(r.floor for r in found.rows) > 0
    assert (found.name, found.sizes, found.threads) == ("small", {"N": 5}, 1)


def test_the_state_is_what_it_was():
    executor, twin = training(), training()
    before = executor.scope.state()
    profile(executor, FEEDS, steps=2)
    for name, array in executor.scope.state().items():
        assert np.array_equal(array, before[name]), name
    for _ in range(2):  # and the engine goes on as if nothing had been
        got, want = executor.run(FEEDS), twin.run(FEEDS)
        assert all(np.array_equal(got[n], want[n]) for n in want)


def test_the_state_is_put_back_also_when_a_run_fails():
    executor = training()
    before = executor.scope.state()

    def fail(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(executor, FEEDS, tick=fail)
    assert all(np.array_equal(a, before[n]) for n, a in executor.scope.state().items())


def test_inference_is_profiled_through_its_predictor():
    program = mlp(4, 8, 2)
    predictor = Predictor(
        program, {n: np.asarray(s.init[1]["value"]) for n, s in program.state.items()}
    )
    found = profile(predictor, {"x": floats(3, 4)}, steps=2)
    assert [r.op for r in found.rows if r.phase == "forward"] == ["fused_linear", "linear"]
    assert found.rows[0].operations == 2 * 3 * 4 * 8
    with pytest.raises(ArgumentError, match="chosen when it is made"):
        profile(predictor, {"x": floats(3, 4)}, ["y"])


def test_only_what_is_fetched_runs():
    found = profile(training(), FEEDS, ["loss"], steps=1)
    fetched = next(r for r in found.rows if r.op == "fetch")
    assert fetched.nbytes == 2 * 4


def test_progress_is_told_between_runs():
    shares = []
    profile(training(), FEEDS, steps=2, tick=shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(steps):
    with pytest.raises(ArgumentError, match="needs a step"):
        profile(training(), FEEDS, steps=steps)


def test_feeds_that_do_not_fit_are_refused():
    with pytest.raises(MissingError):
        profile(training(), {"x": FEEDS["x"]})


def test_it_prints_itself(capsys):
    profile(training(), FEEDS, steps=1).print(top=3, sort="time")
    text = capsys.readouterr().out
    assert text.startswith("small: N=5; 1 thread; medians of 1 runs\nstep ")
    assert "steps by time" in text and "by kernel" in text


def test_all_numbers_can_be_written(tmp_path):
    found = profile(training(), FEEDS, steps=2)
    found.to_json(tmp_path / "p.json")
    about = json.loads((tmp_path / "p.json").read_text())
    assert about["program"] == "small" and about["sizes"] == {"N": 5}
    assert len(about["rows"]) == len(found.rows) and len(about["step_seconds"]) == 2
    assert about["rows"][0]["seconds"] == found.rows[0].seconds
    assert about["peak_bytes"] == found.memory.peak_bytes > 0


def test_the_pictures_are_well_formed(tmp_path):
    found = profile(training(), FEEDS, steps=1)
    found.memory_chart(tmp_path / "m.svg")
    found.picture(tmp_path / "p.svg", title="a <title>")
    for name, words in (("m.svg", "memory over a step"), ("p.svg", "a <title>")):
        root = ElementTree.parse(tmp_path / name).getroot()
        assert words in "".join(root.itertext())


def test_items_that_do_nothing_begin_where_the_next_does():
    found = profile(training(), FEEDS, steps=1)
    starts, end = found.starts()
    assert len(starts) == len(found.bound.items) and starts == sorted(starts)
    assert starts[0] == 0 and starts[-1] < end


def test_denormals_are_looked_for_only_if_that_is_asked_for():
    executor = training()
    assert all(r.denormals is None for r in profile(executor, FEEDS, steps=1).rows)
    tiny = {**FEEDS, "x": np.full((5, 4), 1e-39, np.float32)}
    executor.scope["0.bias"] = np.zeros(8, np.float32)
    before = executor.scope.state()
    found = profile(executor, tiny, steps=1, denormals=True)
    shares = {r.op: r.denormals for r in found.rows if r.phase == "forward"}
    assert shares["fused_linear"] > 0.1 and shares["linear"] < 0.1
    assert all(np.array_equal(a, before[n]) for n, a in executor.scope.state().items())
