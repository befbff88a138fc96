import json
from types import SimpleNamespace

import pytest

import noria
from bench import parts
from bench.arena import all_bytes
from bench.workloads import MICRO, NORIA
from noria import ops


def engine(mb):
    return {"seconds": 1.0, "rounds_s": [1.0], "peak_rss_mb": mb, "compile_s": 0.0}


@pytest.fixture
def measured(monkeypatch):
    names = ("resnet50_train_fp32", "resnet50_train_bf16", "lstm_lm_train", "transformer_train")
    workloads = {
        n: {"engines": {NORIA: engine(700), "torch": engine(2000), "jax": engine(1000)}}
        for n in names
    }
    found = {"workloads": workloads}
    monkeypatch.setattr(parts.results, "load", lambda: found)
    return workloads


def with_recompute(monkeypatch, **side):
    monkeypatch.setattr(parts, "measure", lambda name, engines, **how: {NORIA: asks(name, side)})


def asks(name, side):
    assert name in MICRO
    return SimpleNamespace(**side)


def test_memory_is_compared_with_the_leanest_rival(measured, monkeypatch):
    with_recompute(monkeypatch, works=True, peak_rss_mb=500.0)
    found = dict(parts.memory())
    assert found["resnet50_train_fp32, peak memory / leanest"]["value"] == 0.7
    assert found["resnet50_train_fp32, peak memory with recompute / leanest"]["value"] == 0.5
    assert found["resnet50_train_fp32, peak memory with recompute / leanest"]["goal"] == 0.45
    assert len(found) == 5


def test_memory_asks_for_the_rivals(measured, monkeypatch):
    del measured["lstm_lm_train"]["engines"]["torch"], measured["lstm_lm_train"]["engines"]["jax"]
    with_recompute(monkeypatch, works=True, peak_rss_mb=500.0)
    with pytest.raises(parts.PartError, match="lstm_lm_train was not measured beside a rival"):
        list(parts.memory())


def test_a_side_that_fails_is_told(measured, monkeypatch):
    with_recompute(monkeypatch, works=False, failed="no memory left")
    with pytest.raises(parts.PartError, match="no memory left"):
        list(parts.memory())


def test_shares_are_what_a_process_prints(monkeypatch):
    monkeypatch.setattr(parts, "python", lambda *args: json.dumps({"share": 0.9}))
    found = dict(parts.share())
    assert found["resnet50_train_bf16, products / step"]["value"] == 0.9
    assert not any(entry["lower_is_better"] for entry in found.values())


def test_values_are_counted_and_views_are_not():
    def body(x):
        return ops.relu(ops.reshape(x, shape=(-1, 2)))

    program = noria.trace(body, x=noria.spec("N", 4))
    assert all_bytes(program, 3) == 3 * 4 * 4
