"""A tenth of Fluid's reference vectors; `make conformance` judges them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from noria.testing.vectors import run


@pytest.mark.parametrize("suite", ["fluid forward", "fluid gradient"])
def test_a_tenth_of_the_vectors_pass(fluid_vectors: Path, suite: str, judged: dict) -> None:
    if suite not in judged:
        judged.update(run(fluid_vectors, jobs=1, every=10))
    result = judged[suite]
    assert result.share >= 0.95, "\n".join(f"{f['name']}: {f['reason']}" for f in result.failed)


@pytest.fixture(scope="module")
def judged() -> dict:
    return {}
