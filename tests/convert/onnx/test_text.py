"""Text in ONNX models; the suite of onnx judges the rest."""

from typing import Any

import numpy as np
import pytest

from noria import Predictor
from noria.convert.onnx import load
from noria.core.errors import FormatError

helper = pytest.importorskip("onnx").helper


def test_words_are_counted_where_the_text_is_known(build: Any) -> None:
    node = helper.make_node(
        "TfIdfVectorizer",
        ["x"],
        ["y"],
        mode="TFIDF",
        min_gram_length=1,
        max_gram_length=2,
        max_skip_count=1,
        pool_strings=["a", "b", "a", "b"],
        ngram_counts=[0, 2],
        ngram_indexes=[2, 0, 1],
        weights=[1.0, 2.0, 10.0],
    )
    text = np.array(["a", "b", "c", "b"], object)
    program, state = load(build([node], {}, ["y"], {"x": text}).SerializeToString())
    assert Predictor(program, state)().tolist() == [4.0, 10.0, 1.0]


def test_a_pool_that_does_not_fit_is_told(build: Any) -> None:
    node = helper.make_node(
        "TfIdfVectorizer",
        ["x"],
        ["y"],
        mode="TF",
        min_gram_length=1,
        max_gram_length=2,
        max_skip_count=0,
        pool_int64s=[1, 2],
        ngram_counts=[0, 1],
        ngram_indexes=[0, 1],
    )
    with pytest.raises(FormatError, match="pool"):
        load(build([node], {"x": ("i8", [3])}, ["y"]).SerializeToString())


@pytest.mark.parametrize("pattern", ["(", "(a+)+b", "(a|a)*b", "((a{1,9})x)+"])
def test_a_pattern_that_is_none_or_may_never_end_is_told(build: Any, pattern: str) -> None:
    node = helper.make_node("RegexFullMatch", ["x"], ["y"], pattern=pattern)
    weights = {"x": np.array(["a" * 99], object)}
    with pytest.raises(FormatError, match=r"regular|never end"):
        load(build([node], {}, ["y"], weights, opset=20).SerializeToString())
