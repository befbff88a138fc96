"""Text: n-grams of tokens that are integers; operators on strings where the input is known, since
Programs hold numbers only."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from noria.convert.onnx.handlers import Node, onnx_op
from noria.core.errors import FormatError
from noria.ir.opdef import vocabulary as o
from noria.ops.lookup import ngram_counts

MAX_SIZE = 1 << 27  # elements of a result whose size a model file tells

# ---- n-grams -----------------------------------------------------------------------------------


@onnx_op("TfIdfVectorizer", since=9)
def tfidf_vectorizer(node: Node, x: Any) -> Any:
    mode, starts = node.need("mode"), [int(n) for n in node.need("ngram_counts")]
    places = np.asarray(node.need("ngram_indexes"), np.int64)
    if mode not in ("TF", "IDF", "TFIDF"):
        raise FormatError("no such mode", where=str(node), expected="TF, IDF or TFIDF", got=mode)
    pool, x = _tokens(node, x)
    rows = o.reshape(x, shape=(1, x.shape[0])) if len(x.shape) == 1 else x
    size = int(places.max()) + 1 if len(places) else 0
    if len(places) and not 0 <= places.min() <= places.max() < MAX_SIZE:
        raise FormatError("ngram_indexes are out of range", where=str(node), got=f"up to {size}")
    counts: Any = o.fill(shape=(rows.shape[0], size), value=0.0)
    shortest, longest = int(node.need("min_gram_length")), int(node.need("max_gram_length"))
    first = 0
    for n, (begin, end) in enumerate(zip(starts, [*starts[1:], len(pool)], strict=True), 1):
        if not 0 <= begin <= end <= len(pool) or (end - begin) % n:
            raise FormatError("ngram_counts do not fit the pool", where=str(node), got=repr(starts))
        count = (end - begin) // n
        mine = places[first : first + count]
        first += count
        if shortest <= n <= longest and count:
            grams = pool[begin:end].reshape(count, n)
            skips = int(node.need("max_skip_count"))
            counts = o.add(counts, ngram_counts(rows, grams, mine, size=size, skips=skips))
    counts = _weighted(node, counts, places, mode)
    return o.reshape(counts, shape=(size,)) if len(x.shape) == 1 else counts


def _tokens(node: Node, x: Any) -> tuple[np.ndarray, Any]:
    """(pool, x) as integers: strings by their places among those of the pool."""
    if not node.attr("pool_strings"):
        dtype = str(x.dtype)
        return np.asarray(node.need("pool_int64s"), np.int64).astype(dtype), x
    words = np.asarray(node.attr("pool_strings"), object)
    known = {word: i for i, word in enumerate(dict.fromkeys(words.tolist()))}
    given = np.asarray(node.const(x, "the words"), object)
    numbers = [known.get(word, -1) for word in given.reshape(-1).tolist()]
    pool = np.array([known[word] for word in words.tolist()], np.int64)
    return pool, np.array(numbers, np.int64).reshape(given.shape)


def _weighted(node: Node, counts: Any, places: np.ndarray, mode: str) -> Any:
    if mode == "IDF":
        counts = o.minimum(counts, 1.0)
    given = node.attr("weights")
    if mode == "TF" or not given:
        return counts
    if len(given) != len(places):
        raise FormatError("weights have one number for each n-gram", where=str(node))
    weights = np.zeros(counts.shape[1], np.float32)
    weights[places] = np.asarray(given, np.float32)
    return o.mul(counts, weights)


# ---- strings -----------------------------------------------------------------------------------


def _each(fn: Any, *arrays: np.ndarray) -> np.ndarray:
    """fn of each element, as strings."""
    arrays = np.broadcast_arrays(*arrays)
    out = np.empty(arrays[0].shape, object)
    for index in np.ndindex(out.shape):
        out[index] = fn(*(a[index] for a in arrays))
    return out


def _strings(node: Node, x: Any) -> np.ndarray:
    return np.asarray(node.const(x, "the strings"), object)


@onnx_op("StringConcat", since=20)
def string_concat(node: Node, x: Any, y: Any) -> Any:
    return _each(lambda a, b: a + b, _strings(node, x), _strings(node, y))


_REPEATS = re.compile(r"[*+]|\{\d+,\d*\}")
_PLAIN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]")  # escapes and sets, which repeat nothing


def _pattern(node: Node, text: str) -> re.Pattern[str]:
    """A compiled pattern. What may take Python ages, which RE2 does not know, is refused: a group
    that is repeated and repeats or chooses inside. Raises FormatError."""
    bare, opened = _PLAIN.sub("x", text).replace("(?:", "("), []
    for i, letter in enumerate(bare):
        if letter == "(":
            opened.append(i)
        elif letter == ")" and opened:
            inside = bare[opened.pop() + 1 : i]
            repeated = _REPEATS.match(bare, i + 1)
            if repeated and (_REPEATS.search(inside) or "|" in inside or "?" in inside):
                raise FormatError(
                    "a repeated group of a pattern repeats or chooses inside, which may never end",
                    where=str(node),
                    got=text[:80],
                )
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise FormatError("no regular expression", where=str(node), got=str(error)) from None


@onnx_op("RegexFullMatch", since=20)
def regex_full_match(node: Node, x: Any) -> Any:
    pattern = _pattern(node, node.need("pattern"))
    return _each(lambda a: pattern.fullmatch(a) is not None, _strings(node, x)).astype(bool)


@onnx_op("StringNormalizer", since=10)
def string_normalizer(node: Node, x: Any) -> Any:
    """Stop words are taken out of [C] or [1, C]; what is left empty is one empty string."""
    x, case = _strings(node, x), node.attr("case_change_action", "NONE")
    actions: dict[str, Callable[[str], str]] = {
        "NONE": str,
        "LOWER": str.lower,
        "UPPER": str.upper,
    }
    if case not in actions:
        raise FormatError(
            "no such action", where=str(node), expected=", ".join(actions), got=repr(case)
        )
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
        raise FormatError("strings are [C] or [1, C]", where=str(node), got=str(x.shape))
    exact = bool(node.attr("is_case_sensitive", 0))

    def same(word: str) -> str:
        return word if exact else word.lower()

    stop = {same(word) for word in node.attr("stopwords") or ()}
    kept = [actions[case](word) for word in x.reshape(-1).tolist() if same(word) not in stop]
    out = np.array(kept or [""], object)
    return out if x.ndim == 1 else out[None]


@onnx_op("StringSplit", since=20)
def string_split(node: Node, x: Any) -> tuple[Any, Any]:
    """(parts [..., most parts], filled up with "", and how many there are of each string)."""
    x, limit = _strings(node, x), node.attr("maxsplit")
    delimiter = node.attr("delimiter") or None
    parts = [word.split(delimiter, -1 if limit is None else int(limit)) for word in x.reshape(-1)]
    counts = np.array([len(p) for p in parts], np.int64).reshape(x.shape)
    width = max((len(p) for p in parts), default=0)
    if width * len(parts) > MAX_SIZE:
        raise FormatError("the parts of strings are too many", where=str(node), got=str(width))
    out = np.full((len(parts), width), "", object)
    for row, found in zip(out, parts, strict=True):
        row[: len(found)] = found
    return out.reshape(*x.shape, width), counts
