from __future__ import annotations

import pytest

from noria.core.flags import flags


def test_every_flag_is_told_with_its_meaning(noria) -> None:
    out = noria("flags").out
    words = " ".join(out.split())
    for row in flags.describe():
        assert f"{row.env}=" in out
        assert " ".join(row.doc.split()) in words


def test_a_changed_flag_says_who_changed_it(noria, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORIA_THREADS", "3")
    assert "NORIA_THREADS=3  (environment, default 0)\n" in noria("flags").out
