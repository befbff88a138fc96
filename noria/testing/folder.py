"""A folder of reference vectors, and comparing with what it holds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noria.core.errors import MissingError


class Folder:
    """A folder of vectors, read when asked for. Raises MissingError where files are not there."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        for name in ("cases.jsonl", "arrays.npz"):
            if not (self.path / name).is_file():
                raise MissingError("no folder of vectors", where=str(path), expected=name)
        with open(self.path / "cases.jsonl", encoding="utf-8") as file:
            self.cases: list[dict[str, Any]] = [json.loads(line) for line in file if line.strip()]
        self._arrays = np.load(self.path / "arrays.npz", allow_pickle=False)
        signatures = self.path / "ops.json"
        self.signatures = json.loads(signatures.read_text()) if signatures.is_file() else {}

    @property
    def framework(self) -> str:
        """'fluid' or 'caffe2', told by the form of the cases."""
        if self.cases and "outputs" in self.cases[0]:
            return "caffe2"
        return "fluid"

    def array(self, described: Mapping[str, Any]) -> np.ndarray:
        """The array of an `{"a": key, ...}`."""
        array = self._arrays[described["a"]]
        return array.reshape(described.get("shape", array.shape))

    def chosen(self, only: str | None) -> list[int]:
        """Numbers of the cases of an operator, all by default."""
        return [i for i, c in enumerate(self.cases) if only is None or c["op"] == only]


def difference(got: Any, want: Any, atol: float, rtol: float, equal_nan: bool = True) -> str | None:
    """What is wrong with `got`, None if it has the shape and, nearly, the numbers of `want`."""
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, expected {list(want.shape)}"
    if got.dtype.kind in "OSU" or want.dtype.kind in "OSU":
        return None if (got == want).all() else "other texts"
    exact = got.dtype.kind in "biu" and want.dtype.kind in "biu"
    if exact and np.array_equal(got, want):
        return None
    a, b = got.astype(np.float64), want.astype(np.float64)
    if np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan):
        return None
    with np.errstate(all="ignore"):
        apart = np.abs(a - b)
    worst = np.unravel_index(np.argmax(np.where(np.isnan(apart), np.inf, apart)), apart.shape)
    return f"at {[int(i) for i in worst]}: {a[worst]:.8g}, expected {b[worst]:.8g} (atol {atol:g})"


def same_moments(got: Any, want: Any) -> str | None:
    """For random results: None if shape, range and the first two moments could be of one source."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return f"shape {list(got.shape)}, expected {list(want.shape)}"
    if got.size == 0:
        return None
    spread = max(float(want.std()), float(got.std()), 1e-6)
    error = 5 * spread / np.sqrt(got.size) + 1e-6
    if abs(got.mean() - want.mean()) > 2 * error:
        return f"mean {got.mean():.6g}, expected {want.mean():.6g}"
    if got.size >= 100 and abs(got.std() - want.std()) > 0.25 * spread + error:
        return f"deviation {got.std():.6g}, expected {want.std():.6g}"
    return None
