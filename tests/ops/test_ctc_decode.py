"""Label sequences of networks trained with CTC."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from noria import ops
from noria.core.errors import ArgumentError, EngineError
from noria.testing.case import Case, arr, ints
from noria.testing.check import check_case

RNG = np.random.default_rng(6)


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    """A path without repetitions and blanks."""
    kept = [c for i, c in enumerate(path) if c and (i == 0 or path[i - 1] != c)]
    return tuple(kept)


def likelihoods(x: np.ndarray) -> dict[tuple[int, ...], float]:
    """Probability of every label sequence, over all paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in product(range(x.shape[1]), repeat=len(x)):
        p = float(np.prod([row[c] for row, c in zip(x, path, strict=True)]))
        found[collapsed(path)] = found.get(collapsed(path), 0.0) + p
    return found


def expected(x: np.ndarray, lengths: np.ndarray) -> tuple[Any, ...]:
    """The two likeliest sequences of each example, by all paths."""
    counts, labels, scores = [], [], []
    for n, steps in enumerate(lengths):
        ranked = sorted(likelihoods(x[:steps, n]).items(), key=lambda kv: (-kv[1], kv[0]))
        for prefix, score in ranked[:2]:
            counts.append(len(prefix))
            labels += prefix
            scores.append(score)
    return np.array(counts), np.array(labels, np.int64), np.array(scores, x.dtype)


LENGTHS = np.array([4, 2, 3], np.int64)
CASES = [
    Case(
        "ctc_beam_search",
        [arr(4, 3, 3, low=0.05, high=1.0), LENGTHS],
        {"size": "S", "beam_size": 200, "candidates": 2},
        expect=expected,
        jax=False,
    ),
    Case(
        "ctc_beam_search",
        [arr(2, 2, 2, low=0.0, high=1.0), ints(2, low=0, high=3)],
        {"size": "S", "beam_size": 1, "least": 0.5},
        jax=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_case(case: Case) -> None:
    check_case(case)


def test_examples_without_steps_have_one_empty_sequence() -> None:
    x = np.ones((1, 1, 2), np.float32)
    zero = np.zeros(1, np.int64)
    counts, labels, scores = ops.ctc_beam_search(x, zero, size="S", candidates=2)
    assert counts.tolist() == [0, 0] and labels.size == 0 and scores.tolist() == [1, 0]


def test_bad_lengths_and_numbers_are_refused() -> None:
    x = np.ones((2, 1, 2), np.float32)
    with pytest.raises(ArgumentError, match="within the steps"):
        ops.ctc_beam_search(x, np.array([3]), size="S")
    with pytest.raises(ArgumentError, match="1 or more"):
        ops.ctc_beam_search(x, np.array([1]), size="S", beam_size=0)


def test_xla_cannot_compile_it() -> None:
    with pytest.raises(EngineError):
        ops.ctc_beam_search.compute_fn(object(), np.ones((1, 1, 2)), np.array([1]), "S", 1, 1, 0.0)
