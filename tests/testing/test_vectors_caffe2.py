"""The judge of Caffe2 vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from noria.testing.folder import Folder
from noria.testing.vectors_caffe2 import judge

X = np.array([[1.0, -2.0]], np.float32)


def folder(path: Path, case: dict[str, Any], *arrays: np.ndarray) -> tuple[Folder, dict[str, Any]]:
    described = [
        {"a": f"k{i}", "dtype": str(a.dtype), "shape": a.shape} for i, a in enumerate(arrays)
    ]
    case = {"id": "t", "args": {}, **case, "inputs": described[:-1], "outputs": described[-1:]}
    (path / "cases.jsonl").write_text(json.dumps(case) + "\n")
    np.savez(path / "arrays.npz", **{f"k{i}": a for i, a in enumerate(arrays)})
    vectors = Folder(path)
    return vectors, vectors.cases[0]


def test_right_numbers_pass_and_wrong_ones_are_told(tmp_path: Path) -> None:
    assert judge(*folder(tmp_path, {"op": "Negative"}, X, -X)) is None
    assert "at [0, 1]" in str(judge(*folder(tmp_path, {"op": "Negative"}, X, X)))
    wide = judge(*folder(tmp_path, {"op": "Negative"}, X, -X.astype(np.float64)))
    assert wide == "output 0: float32, expected float64"


def test_inputs_that_must_be_known_become_constants(tmp_path: Path) -> None:
    shape = np.array([2, 1, 2], np.int64)
    want = np.broadcast_to(X, (2, 1, 2)).copy()
    assert judge(*folder(tmp_path, {"op": "Expand"}, X, shape, want)) is None


def test_what_only_the_reference_was_given_is_left_out(tmp_path: Path) -> None:
    assert judge(*folder(tmp_path, {"op": "Negative"}, X, np.int64(3), -X)) is None


def test_strings_are_told_apart(tmp_path: Path) -> None:
    words = np.array([b"a"])
    assert "strings" in str(judge(*folder(tmp_path, {"op": "Copy"}, words, words)))
