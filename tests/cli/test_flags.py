from __future__ import annotations

import pytest

from noria.core.flags import flags
from noria.core.machine import caches
from noria.kernels.numba import loader
from noria.kernels.numba.parallel import thread_count
from noria.kernels.numba.tile_sizes import WIDTH


def test_every_flag_is_told_with_its_meaning(noria) -> None:
    out = noria("flags").out
    words = " ".join(out.split())
    for row in flags.describe():
        assert f"{row.env}=" in out
        assert " ".join(row.doc.split()) in words


def test_a_changed_flag_says_who_changed_it(noria, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_THREADS", "3")
    assert "NORIA_THREADS=3  (environment, default 0)\n" in noria("flags").out


def test_the_machine_is_told_as_a_report_needs_it(noria, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_THREADS", "3")
    out = noria("flags").out
    name, _ = loader.cpu()
    assert f"code     {name} " in out and f"vectors of {WIDTH} float32" in out
    assert f"threads  {thread_count()}\n" in out
    assert f"caches   {caches().first >> 10} KB, {caches().second >> 10} KB, " in out
    assert "oneDNN" in out
