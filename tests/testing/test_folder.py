import json

import numpy as np
import pytest

from noria.core.errors import MissingError
from noria.testing.folder import Folder, difference, same_moments


def test_a_folder_is_read_and_its_framework_told(tmp_path):
    case = {"op": "Relu", "id": "one", "args": {}, "inputs": [], "outputs": []}
    (tmp_path / "cases.jsonl").write_text(json.dumps(case) + "\n")
    np.savez(tmp_path / "arrays.npz", k=np.arange(6))
    folder = Folder(tmp_path)
    assert folder.framework == "caffe2"
    assert folder.array({"a": "k", "shape": [2, 3]}).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert folder.chosen("Relu") == [0] and folder.chosen("Elu") == []


def test_a_folder_without_arrays_is_told(tmp_path):
    (tmp_path / "cases.jsonl").write_text("")
    with pytest.raises(MissingError, match=r"arrays\.npz"):
        Folder(tmp_path)


def test_differences_are_told_with_their_place():
    x = np.array([1.0, 2.0])
    assert difference(x, x + 1e-7, 1e-5, 1e-5) is None
    assert "at [1]" in difference(x, [1.0, 2.1], 1e-5, 1e-5)
    assert "shape" in difference(x, x[:1], 1e-5, 1e-5)
    assert difference([np.nan], [np.nan], 0, 0) is None
    assert difference([np.nan], [1.0], 0, 0) is not None


def test_random_numbers_are_compared_by_their_moments():
    r = np.random.default_rng(0)
    assert same_moments(r.normal(size=1000), r.normal(size=1000)) is None
    assert "mean" in same_moments(r.normal(1, size=1000), r.normal(size=1000))
    assert "deviation" in same_moments(r.normal(0, 2, size=1000), r.normal(size=1000))
