"""A tenth of what Caffe2's own operator tests recorded."""

import os
from pathlib import Path

import pytest

from noria.testing.vectors import run

VECTORS = Path(os.environ.get("NORIA_VECTORS") or Path(__file__).parents[4] / "shared" / "vectors")
# cases nothing can pass
INCOMPLETE = {
    "RecurrentNetwork": "the step net was not recorded",
    "ONNXWhile": "the body was not recorded",
    "GivenTensorByteStringToUInt8Fill": "the bytes were not recorded",
    "Cast": "strings are no tensors of numbers",
    "FindDuplicateElements": "strings are no tensors of numbers",
}
# inputs near the margin were moved after the outputs had been recorded
MOVED = ("test_cosine_embedding_criterion#2", "test_margin_ranking_criterion#2")


def test_recorded_cases_give_the_recorded_numbers() -> None:
    folder = VECTORS / "caffe2"
    if not (folder / "cases.jsonl").is_file():
        pytest.skip(f"no reference vectors at {folder} (NORIA_VECTORS names another place)")
    result = run(folder, jobs=1, every=10)["caffe2"]
    names = [f["name"] for f in result.failed if not f["name"].endswith(MOVED)]
    wrong = [name for name in names if name.split(":")[0] not in INCOMPLETE]
    assert result.total >= 70 and not wrong
