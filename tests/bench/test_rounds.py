import sys
from pathlib import Path

import pytest

from bench import rounds

ENGINE = """
import json, sys, time
def say(**what): print(json.dumps(what), flush=True)
def serve(seconds, crash_after=10**9):
    say(build_s=0.5, first_step_s=1.0)
    for count, line in enumerate(sys.stdin):
        if count == crash_after:
            sys.exit("the tables are too small")
        steps = int(line)
        say(steps=steps, seconds=seconds * steps, peak_rss_mb=10.0, cpu=[count, count + 0.5])
"""
FAKES = {
    "good": "serve(0.001)",
    "slow": "serve(0.004)",
    "slower": "serve(0.008)",
    "crashes at once": "print('a line before', file=sys.stderr); raise RuntimeError('no such CPU')",
    "crashes later": "serve(0.001, crash_after=4)",
    "absent": "say(absent='not yet')",
    "hangs": "time.sleep(60)",
    "hangs later": "say(build_s=0, first_step_s=0); time.sleep(60)",
    "is silent": "sys.exit(3)",
}


@pytest.fixture(autouse=True)
def fake_engines(monkeypatch):
    def command(engine, workload):
        return [sys.executable, "-c", ENGINE + FAKES[engine]]

    monkeypatch.setattr(rounds, "command", command)
    monkeypatch.setattr(rounds, "child_environment", lambda engine, caches: None)
    monkeypatch.setattr(rounds, "SETTLE_S", 0.0)


def measured(*engines, turns=1):
    return rounds.measure("any", engines, rounds=3, slice_s=0.02, turns=turns)


def test_engines_fill_their_slices_with_steps():
    sides = measured("good", "slow")
    assert sides["good"].steps == 20 and sides["slow"].steps == 5
    assert sides["good"].median == pytest.approx(0.001)
    assert len(sides["slow"].seconds_per_step) == 3


@pytest.mark.parametrize(
    ("seconds", "turns", "steps"),
    [(0.5, 1, 3), (0.1, 1, 6), (1.9, 1, 3), (2.1, 1, 1), (0.5, 2, 4), (0.5, 8, 8), (3.0, 8, 8)],
)
def test_a_step_after_waiting_is_not_taken_alone_unless_it_is_long(seconds, turns, steps):
    assert rounds._fitting(seconds, 0.6, turns) == steps


def test_rivals_far_behind_end_after_the_least_rounds():
    sides = rounds.measure("any", ["slow", "good", "slower"], rounds=5, slice_s=0.01)
    assert len(sides["slow"].seconds_per_step) == 5  # the first is compared with the others
    assert len(sides["good"].seconds_per_step) == 5
    assert len(sides["slower"].seconds_per_step) == rounds.LEAST_ROUNDS
    assert sides["slower"].works and sides["slower"].process.returncode == 0
    assert rounds.summary(sides["good"])["rounds_s"] == sides["good"].seconds_per_step


def test_each_round_starts_with_another_engine(monkeypatch):
    order = []
    ask = rounds.Side.ask

    def asked(side, steps, limit=rounds.LIMIT_S):
        order.append(side.engine)
        return ask(side, steps, limit)

    monkeypatch.setattr(rounds.Side, "ask", asked)
    measured("good", "slow")
    assert order[-6:] == ["good", "slow", "slow", "good", "good", "slow"]


def test_steps_are_whole_turns_of_the_batches():
    assert measured("good", turns=8)["good"].steps == 16
    assert measured("slow", turns=8)["slow"].steps == 8


def test_a_rival_that_crashes_loses_nothing_of_the_others():
    sides = measured("crashes at once", "good", "crashes later")
    assert sides["crashes at once"].failed == "RuntimeError: no such CPU"
    assert sides["crashes later"].failed == "the tables are too small"
    assert not sides["crashes later"].works
    assert sides["good"].works and len(sides["good"].seconds_per_step) == 3
    assert rounds.summary(sides["crashes later"]) == {"failed": "the tables are too small"}


def test_what_an_engine_does_not_run_is_no_failure():
    side = measured("absent")["absent"]
    assert not side.works and not side.failed
    assert rounds.summary(side) == {"absent": "not yet"}


def test_a_process_that_says_nothing_is_told_by_its_status():
    assert measured("is silent")["is silent"].failed == "ended with status 3"


def test_a_process_that_hangs_is_given_up():
    side = rounds.spawn("hangs", "any", Path("unused"), limit=0.2)
    assert side.failed == "gave no answer for 0.2 s"
    side.close()
    assert side.process.returncode != 0


def test_a_step_that_hangs_is_given_up():
    side = rounds.spawn("hangs later", "any", Path("unused"))
    with pytest.raises(rounds.EngineError, match=r"no answer for 0\.2 s"):
        side.ask(1, limit=0.2)
    side.close()


def test_a_missing_environment_is_a_failure_of_that_engine(monkeypatch, tmp_path):
    monkeypatch.setattr(rounds, "command", lambda *_: [str(tmp_path / "no-python")])
    side = measured("good")["good"]
    assert "no-python" in side.failed and not side.works


def test_summary_tells_the_first_step_apart_from_a_steady_one():
    found = rounds.summary(measured("good")["good"])
    assert found["compile_s"] == pytest.approx(0.999)
    assert found["build_s"] == 0.5 and found["peak_rss_mb"] == 10
    assert found["idle_cpu_s"] == pytest.approx(0.5 * 3, abs=0.51)
