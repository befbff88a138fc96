"""Networks that are saved before the process that is measured starts."""

import sys

import numpy as np

import noria
from bench.noria_side import attention, saved
from bench.noria_side.common import serving


def tiny():
    return noria.trace(lambda x: {"y": noria.ops.neg(x)}, x=noria.spec("N"))


def test_a_saved_network_is_served(tmp_path, monkeypatch):
    monkeypatch.setattr(attention, "tiny", tiny, raising=False)
    monkeypatch.setitem(saved.PROGRAMS, "tiny", "tiny")
    monkeypatch.setattr(sys, "argv", ["saved", "tiny", str(tmp_path / "model")])
    saved.main()
    x = np.ones(3, np.float32)
    serving(tmp_path / "model", {"x": x})(2)
    np.testing.assert_array_equal(noria.Predictor.load(tmp_path / "model")(x=x), -x)


def test_it_is_made_by_another_process_where_it_is_not_there(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(saved, "CACHE", tmp_path)
    monkeypatch.setattr(saved.subprocess, "run", lambda args, check: started.append(args))
    path = saved.saved("bert_base_infer_bs1")
    path.mkdir()
    assert saved.saved("bert_base_infer_bs1") == path
    saved.saved("bert_base_infer_bs1", anew=True)
    assert started == [started[0]] * 2
    assert started[0][1:] == ["-m", "bench.noria_side.saved", path.name[6:], str(path)]
