from __future__ import annotations

from pathlib import Path

from noria.passes import pipeline


def test_the_order_is_told_with_reasons(noria) -> None:
    out = noria("passes").out.splitlines()[1:]
    assert [line.split("  ")[0] for line in out] == [p.name for p in pipeline.OPTIMIZE]
    assert all(p.reason in line for p, line in zip(pipeline.OPTIMIZE, out, strict=True))


def test_what_each_pass_did_to_a_model_is_told(noria, model: Path) -> None:
    ran = noria("passes", model)
    assert ran.code == 0
    rows = [line.split() for line in ran.out.splitlines()[3:-1]]
    assert [row[0] for row in rows] == [p.name for p in pipeline.OPTIMIZE]
    assert ["fuse_linear", "1", "0"] in rows


def test_why_tells_where_it_fired(noria, model: Path) -> None:
    out = noria("passes", model, "--why", "fuse_linear").out
    assert out.startswith("fuse_linear: fired 1") and "mlp.py:" in out


def test_an_unknown_pass_is_told(noria, model: Path) -> None:
    ran = noria("passes", model, "--why", "fuse_liner")
    assert ran.code == 1 and "did you mean 'fuse_linear'" in ran.err


def test_why_without_a_model_is_told(noria) -> None:
    ran = noria("passes", "--why", "fuse_linear")
    assert ran.code == 1 and "noria passes MODEL --why fuse_linear" in ran.err
