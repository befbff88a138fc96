"""Every op family is in the list that fills the registry."""

from __future__ import annotations

from pathlib import Path

from noria.ir.opdef import registry
from noria.ops.library import FAMILIES


def test_every_file_that_defines_ops_is_listed() -> None:
    folder = Path(__file__).parent.parent.parent / "noria" / "ops"
    defining = {
        ".".join(p.relative_to(folder).with_suffix("").parts)
        for p in folder.rglob("*.py")
        if "@op" in p.read_text() and p.stem != "library"
    }
    assert set(FAMILIES) == defining


def test_every_op_is_complete() -> None:
    for name, definition in registry.items():
        if definition.infer_fn.__module__.startswith("noria."):
            assert definition.__doc__, f"{name} has no documentation"
            assert definition.compute_fn is not None, f"{name} has no computation"
