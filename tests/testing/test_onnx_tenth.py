"""A tenth of onnx's suites, every tenth case by name: `make conformance` runs them all."""

from functools import cache
from pathlib import Path

import pytest

from noria.testing.onnx_suite import Sample, judge, samples

pytest.importorskip("onnx")
NAMES = (Path(__file__).parent / "onnx_tenth.txt").read_text().split()


@cache
def by_name() -> dict[str, Sample]:
    return {s.name: s for s in samples()}


@pytest.mark.parametrize("name", NAMES)
def test_a_case_of_onnx_passes(name: str) -> None:
    reason = judge(by_name()[name])
    assert reason is None, reason
