import json

import numpy as np
import pytest

from noria.testing.folder import Folder
from noria.testing.vectors_fluid import judge

X = np.array([[1.0, -2.0], [3.0, 4.0]])
SPLITS = [[1, 1]]


def folder(tmp_path, case, **arrays):
    (tmp_path / "cases.jsonl").write_text(json.dumps(case) + "\n")
    np.savez(tmp_path / "arrays.npz", **arrays)
    return Folder(tmp_path)


def forward(out="y", **described):
    return {
        "kind": "output",
        "op": "elementwise_add",
        "attrs": {},
        "inputs": {"X": {"a": "x", "lod": SPLITS}, "Y": {"a": "x"}},
        "expect": {"Out": {"a": out, **described}},
        "atol": 1e-6,
    }


def gradient(g):
    return {
        "kind": "grad",
        "op": "elementwise_mul",
        "attrs": {},
        "inputs": {"X": {"a": "x"}, "Y": {"a": "x"}},
        "wrt": ["X"],
        "of": ["Out"],
        "paddle_grads": [{"a": g}],
        "max_relative_error": 0.005,
    }


def test_a_right_answer_passes_and_a_wrong_one_is_told(tmp_path):
    vectors = folder(tmp_path, forward(), x=X, y=2 * X, z=2 * X + 1e-3)
    assert judge(vectors, forward(lod=SPLITS)) is None
    assert "expected" in judge(vectors, forward("z"))
    assert "rows [1, 1]" in judge(vectors, forward(lod=[[2, 0]]))


def test_what_holds_nothing_has_lost_its_shape(tmp_path):
    nothing, some = np.zeros((0, 3)), np.ones((2, 3))
    vectors = folder(tmp_path, forward("e"), x=nothing, e=np.zeros(0))
    bare = forward("e") | {"inputs": {"X": {"a": "x"}, "Y": {"a": "x"}}}
    assert judge(vectors, bare) is None
    vectors = folder(tmp_path, forward("e"), x=some, e=np.zeros(0))
    assert "expected [0]" in judge(vectors, bare)


@pytest.mark.parametrize(("name", "reason"), [("g", None), ("h", "gradient of X")])
def test_gradients_are_of_the_mean(tmp_path, name, reason):
    vectors = folder(tmp_path, gradient(name), x=X, g=X / 4, h=X)
    got = judge(vectors, gradient(name))
    assert got is None if reason is None else reason in got
